"""The look at all that is open, while streams come, go, and change their credential."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from resonantgenesis_server.http import watchdog as watch_module
from resonantgenesis_server.http.watchdog import StreamWatchdog
from resonantgenesis_server.model.errors import ApiError, Unauthenticated, Unavailable
from resonantgenesis_server.model.principal import Principal

pytestmark = pytest.mark.anyio


def holder(key_id: str) -> Principal:
    return Principal("org", key_id, frozenset({"*"}))


@dataclass(eq=False)
class Stream:
    kind: ClassVar[str] = "sse"
    principal: Principal
    ended: list[str] = field(default_factory=list)

    def end(self, error: ApiError) -> None:
        self.ended.append(error.code)

    def check_progress(self, now: float) -> None:
        """It moves."""


class World:
    """Streams under watch; `revoked` keys are refused, `meanwhile` happens while one is asked."""

    def __init__(self) -> None:
        self.watch = StreamWatchdog(self._recheck, refresh=self._refresh)
        self.refreshed: list[set[str]] = []
        self.asked: list[str] = []
        self.revoked: set[str] = set()
        self.meanwhile: dict[str, Callable[[], None]] = {}

    async def _refresh(self, key_ids: Collection[str]) -> None:
        self.refreshed.append(set(key_ids))

    async def _recheck(self, principal: Principal) -> None:
        self.asked.append(principal.key_id)
        self.meanwhile.get(principal.key_id, lambda: None)()
        if principal.key_id in self.revoked:
            raise Unauthenticated("revoked")

    def open(self, key_id: str) -> Stream:
        stream = Stream(holder(key_id))
        self.watch.add(stream)
        return stream


async def test_a_credential_that_ends_takes_all_its_streams_and_no_others() -> None:
    world = World()
    world.revoked = {"b"}
    streams = [world.open(key) for key in "abcb"]
    await world.watch._look(0)
    assert [stream.ended for stream in streams] == [
        [],
        ["UNAUTHENTICATED"],
        [],
        ["UNAUTHENTICATED"],
    ]
    assert world.asked == ["a", "b", "c"]  # once each


async def test_what_comes_when_the_server_goes_is_ended_at_once() -> None:
    world = World()
    before = world.open("a")
    world.watch.end_all(Unavailable("it goes"))
    after = world.open("b")
    assert before.ended == after.ended == ["UNAVAILABLE"]


async def test_streams_that_close_meanwhile_keep_no_others_from_being_looked_at() -> None:
    world = World()
    world.revoked = {"c"}
    _, closing, revoked = (world.open(key) for key in "abc")
    world.meanwhile["a"] = lambda: world.watch.discard(closing)
    await world.watch._look(0)
    assert world.asked == ["a", "c"]
    assert revoked.ended == ["UNAUTHENTICATED"]


async def test_a_socket_that_has_just_got_a_fresh_credential_is_not_ended() -> None:
    world = World()
    world.revoked = {"old"}
    renewed, left = world.open("old"), world.open("old")

    def renew() -> None:
        renewed.principal = holder("new")
        world.watch.add(renewed)

    world.meanwhile["old"] = renew
    await world.watch._look(0)
    assert (renewed.ended, left.ended) == ([], ["UNAUTHENTICATED"])


async def test_keys_are_refreshed_while_they_have_streams_and_for_a_while_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, now = World(), [100.0]
    monkeypatch.setattr(watch_module.time, "monotonic", lambda: now[0])
    await world.watch._look(0)
    streams = [world.open("a"), world.open("b"), world.open("b")]
    await world.watch._look(0)
    for stream in streams[:2]:
        world.watch.discard(stream)
    now[0] += 59
    await world.watch._look(0)
    now[0] += 2
    await world.watch._look(0)
    world.watch.discard(streams[2])
    await world.watch._look(0)
    assert world.refreshed == [{"a", "b"}, {"a", "b"}, {"b"}, {"b"}]
    for number in range(1_000):
        world.watch.discard(world.open(f"key_{number}"))
    await world.watch._look(0)
    assert len(world.refreshed[-1]) == 256
