"""What this node knows of streams: the states of those that it owns, and which it takes for new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import asyncpg

from ..base import group_of
from ..queue import Job
from .group import stream_of
from .placing import OwnedStream

#: Streams whose state is remembered; what falls out is asked for again.
_MAX_STATES = 50_000
#: Groups of streams in which this node made one, so that another one of it is taken for new.
_MAX_MADE = 20_000


class KnownStreams:
    """Right as of the node's `generation`; what others took from it since is forgotten then.

    Streams may be asked for while groups about others are written. From `ask` to `answered` it
    remembers what happens meanwhile, since an answer may be of before.
    """

    def __init__(self) -> None:
        self.streams: dict[str, OwnedStream] = {}
        self.generation = 0
        #: Called with streams that others may write from now on, as far as is known.
        self.on_lost: Callable[[list[str]], None] = lambda _names: None
        #: Streams that are not there yet, and during which group that was known: it is right for
        #: the next one, and for none after.
        self._absent: dict[str, int] = {}
        self._made: dict[str, None] = {}
        self._doubted: set[str] = set()
        self._is_asking = False
        #: Since when a stream is another's, and streams that were written, while it asks.
        self._taken: dict[int, int] = {}
        self._written: set[str] = set()

    @property
    def absent(self) -> int:
        """How many are known not to be there."""
        return len(self._absent)

    def all_new(self, job: Job, unknown: Iterable[str], number: int) -> bool:
        """Take the streams `unknown` of a job for new ones without asking, if that is likely: the
        statement fails if they are not. `number` is that of the last group."""
        groups = {group_of(append.stream) for append in job.appends if append.expect == 0}
        for append in job.appends:
            if append.stream in self.streams:
                continue
            group = group_of(append.stream)
            if append.expect not in (None, 0) or append.stream in self._doubted:
                return False
            if group not in groups and group not in self._made:
                return False
        for name in unknown:
            self._learn_absent(name, number)
        return True

    def doubt(self, names: Iterable[str]) -> None:
        """Some of these were there, but were taken for new."""
        self._doubted.update(names)

    def made(self, names: Iterable[str]) -> None:
        """These are there from now on."""
        for name in names:
            self._absent.pop(name, None)
            self._made[group_of(name)] = None

    # -- asking ----------------------------------------------------------------------------

    def ask(self) -> None:
        self._is_asking = True

    def writing(self, names: Iterable[str]) -> None:
        """A group is about these."""
        if self._is_asking:
            self._written.update(names)

    def learn(self, names: Sequence[str], found: Mapping[str, asyncpg.Record], number: int) -> None:
        """The answer for `names`: the rows of those that are there. `number` as in `all_new`."""
        for name in names:
            if name in self.streams or name in self._written:
                continue
            row = found.get(name)
            if row is None:
                self._learn_absent(name, number)
            elif self._taken.get(row["id"], -1) <= row["generation"]:
                self.streams[name] = stream_of(name, row)
            self._doubted.discard(name)

    def answered(self) -> None:
        self._is_asking = False
        self._taken.clear()
        self._written.clear()

    def _learn_absent(self, name: str, number: int) -> None:
        self.streams[name] = OwnedStream(name, since=self.generation)
        self._absent[name] = number

    # -- forgetting ------------------------------------------------------------------------

    def lose(self, taken: Mapping[int, int]) -> None:
        """The streams of these numbers are others' since these generations."""
        if self._is_asking:
            self._taken.update(taken)
        self.forget(
            [
                name
                for name, stream in self.streams.items()
                if taken.get(stream.number, -1) > stream.since
            ]
        )

    def forget(self, names: Iterable[str]) -> None:
        lost = []
        for name in names:
            self._absent.pop(name, None)
            stream = self.streams.pop(name, None)
            if stream is not None and stream.number:
                lost.append(name)
        if lost:
            self.on_lost(lost)

    def forget_some(self, number: int) -> None:
        """What is no longer right after the group of this number, and what is too much."""
        self.forget([name for name, known in self._absent.items() if known < number])
        if (excess := len(self.streams) - _MAX_STATES) > 0:
            self.forget(list(self.streams)[:excess])
        while len(self._made) > _MAX_MADE:
            del self._made[next(iter(self._made))]
