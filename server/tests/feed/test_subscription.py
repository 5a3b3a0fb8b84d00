"""The handover from replay to live, over the orders in which things can happen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.feed.filter import CompiledFilter
from resonantgenesis_server.feed.hub import Hub, Reader
from resonantgenesis_server.feed.remote import RemoteStreams, _Followed
from resonantgenesis_server.log.base import Entry, Page

from .world import BODY, Choose, Shape, play

shapes = st.builds(
    Shape,
    page=st.integers(1, 3),
    pending=st.sampled_from([0, BODY, 3 * BODY, 1_000]),
    tail=st.sampled_from([1, 2, 512]),
    commits=st.integers(1, 8),
    readers=st.integers(1, 3),
    selecting=st.booleans(),
    parks=st.booleans(),
    trims=st.booleans(),
    deletes=st.booleans(),
    shared=st.booleans(),
)


@settings(max_examples=400)
@given(shapes, st.data())
def test_every_reader_gets_every_entry_once_in_order(shape: Shape, data: st.DataObject) -> None:
    play(lambda count: data.draw(st.integers(0, count - 1)), shape)


def chance(seed: int) -> Choose:
    return random.Random(seed).randrange


@pytest.mark.parametrize("part", range(4))
def test_the_same_by_chance(part: int) -> None:
    """Long worlds, of which hypothesis draws only few."""
    for seed in range(part * 100, part * 100 + 100):
        dice = random.Random(seed)
        shape = Shape(
            page=dice.randint(1, 3),
            pending=dice.choice([0, BODY, 100]),
            tail=dice.choice([1, 3, 512]),
            commits=30,
            readers=4,
            selecting=dice.random() < 0.3,
            parks=dice.random() < 0.5,
            trims=dice.random() < 0.3,
            deletes=dice.random() < 0.3,
            shared=dice.random() < 0.5,
        )
        play(chance(seed), shape)


class Careless(Hub):
    """Attaches whoever asks: what was announced while it read is lost to it."""

    def attach(self, stream: str, reader: Reader, selection: CompiledFilter | None = None) -> bool:
        self._topics[stream].attached.setdefault(selection, {})[reader] = None
        return True


class Forgetful(Hub):
    """Looks at what was announced, but forgets to note it."""

    def publish(self, stream: str, entries: Sequence[Entry]) -> None:
        super().publish(stream, entries)
        if stream in self._topics:
            self._topics[stream].head = 0


class Deaf(Hub):
    """Detaches nobody: a reader that was full gets pushed later entries over the gap."""

    def publish(self, stream: str, entries: Sequence[Entry]) -> None:
        attached = {
            selection: dict(readers)
            for selection, readers in (
                self._topics[stream].attached.items() if stream in self._topics else ()
            )
        }
        super().publish(stream, entries)
        if stream in self._topics:
            self._topics[stream].attached = attached


@pytest.mark.parametrize("hub", [Careless, Forgetful, Deaf])
def test_a_broken_handover_is_noticed(hub: type[Hub]) -> None:
    """The property is worth something: each of these loses entries in some order of things."""
    for seed in range(300):
        try:
            play(chance(seed), Shape(selecting=True, tail=1, pending=0, readers=3), hub())
        except AssertionError:
            return
    pytest.fail(f"{hub.__name__} was never noticed")


class Hasty(RemoteStreams):
    """Announces what this node commits at once, though entries of another node come before it."""

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        self._hub.publish(stream, entries)


class Trusting(RemoteStreams):
    """Takes a stream that this node owns for one that it has always owned."""

    def follow(self, stream: str, after: int) -> None:
        if self._log.owned_from(stream) is None:
            super().follow(stream, after)


class Silent(RemoteStreams):
    """Does not tell readers that entries were trimmed before they came here."""

    def _take(self, name: str, followed: _Followed, page: Page) -> None:
        hub = self._hub
        self._hub = mock.Mock(publish=hub.publish)
        super()._take(name, followed, page)
        self._hub = hub


@pytest.mark.parametrize("remote", [Hasty, Trusting, Silent])
def test_a_broken_follower_is_noticed(remote: type[RemoteStreams]) -> None:
    """Each of these loses entries that another node wrote in some order of things."""
    for seed in range(3_000):
        shape = Shape(selecting=seed % 2 == 0, page=3, trims=True, readers=2, shared=True)
        try:
            play(chance(seed), shape, remote=remote)
        except AssertionError:
            return
    pytest.fail(f"{remote.__name__} was never noticed")
