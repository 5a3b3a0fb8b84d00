"""One log over several databases, for more streams than one database can take.

Each database is a whole log with its own writer, readers, beats and outboxes; `databases.py` says
which stream lies where. A call goes to the database of its first stream. What it has for streams of
others waits in that database's outbox, in the same commit. The node that leads places it; see
outbox.py. Whoever reads a stream that many nodes append to first has that done in every database
that answers: of one that is away nobody sees anything new either.

A node has one number and one fence in all databases, given by the first. It lives while it beats in
all: others that miss it in one for the time to live declare it dead in the rest as well, and then
it ends. While a database is away its streams wait, and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from ..base import (
    Append,
    LogOverloaded,
    LogUnavailable,
    OnCommit,
    Outcome,
    Page,
    check_deletion,
    check_text,
)
from ..queue import resolve
from ..shared import Runner
from .databases import Placing, agree, joined_epoch, label_of, place_each, placing
from .log import PostgresLog, is_events
from .nodes import NodeInfo, Nodes
from .outbox import Rows
from .schema import DURABILITIES

T = TypeVar("T")
#: Seconds that a node has to join all databases.
_START_SECONDS = 60.0


class SpreadLog:
    """EventLog, Fences and IdempotencyKeys over several databases. Made by `open`, ended by
    `close`."""

    def __init__(
        self, place_of: Placing, is_shared: Callable[[str], bool], max_queued_bytes: int
    ) -> None:
        self.place_of = place_of
        self._is_shared = is_shared
        self._bound = max_queued_bytes
        self._loop = asyncio.get_running_loop()
        #: Of each database its log.
        self.parts: list[PostgresLog] = []
        self._are_open = False
        self.nodes: SpreadNodes

    @classmethod
    async def open(
        cls,
        urls: Sequence[str],
        *,
        on_commit: OnCommit = lambda _stream, _entries: None,
        max_queued_bytes: int = 64 * 1024 * 1024,
        on_broken: Callable[[str], None] = lambda _reason: None,
        is_shared: Callable[[str], bool] = is_events,
        make: bool = True,
        patience: float = 60.0,
        beat_seconds: float = 1.0,
        ttl: float = 10.0,
        name: str = "",
        version: str = "",
    ) -> SpreadLog:
        """Open the store in these databases, or make it unless `make` says no, and join as a new
        node. The rest is as for `PostgresLog.open`; `max_queued_bytes` are for each database, so
        that one that is away makes no others' producers wait, and twice that for all.

        Raises LogUnavailable, with one line, and StoreIsNewer."""
        await agree(urls, make=make)
        place_of = placing(len(urls), is_shared)
        log = cls(place_of, is_shared, max_queued_bytes)

        def is_moved(here: int, stream: str) -> bool:
            return place_of(stream) != here or is_shared(stream)

        def broken(label: str, reason: str) -> None:
            on_broken(f"{label}: {reason}")

        try:
            for place, url in enumerate(urls):
                label = label_of(place, len(urls))
                part = await _labelled(
                    label,
                    PostgresLog.open(
                        url,
                        on_commit=on_commit,
                        max_queued_bytes=max_queued_bytes,
                        on_broken=partial(broken, label),
                        is_shared=partial(is_moved, place),
                        patience=patience,
                        beat_seconds=beat_seconds,
                        ttl=ttl,
                        name=name,
                        version=version,
                        label=label,
                        node=log.parts[0].node if log.parts else None,
                        place=log._place,
                    ),
                )
                log.parts.append(part)
        except BaseException:
            for part in log.parts:
                with contextlib.suppress(LogUnavailable):
                    await part.close()
            raise
        log._are_open = True
        log.nodes = SpreadNodes([part.nodes for part in log.parts])
        return log

    async def _place(self, rows: Rows) -> None:
        """Place what waits in one of the outboxes."""
        if not self._are_open:
            raise LogUnavailable("the other databases are not open yet")
        await place_each(rows, [part.place for part in self.parts], self.place_of)

    def _part(self, stream: str) -> PostgresLog:
        return self.parts[self.place_of(stream)]

    @property
    def epoch(self) -> str:
        """All databases' epochs in one: it changes when one of them does."""
        return joined_epoch(part.epoch for part in self.parts)

    @property
    def durability(self) -> str:
        """The weakest of what commits survive, for people."""
        return min((part.durability for part in self.parts), key=DURABILITIES.index)

    @property
    def node(self) -> int:
        """The number of this process in all databases."""
        return self.parts[0].node

    @property
    def is_alone(self) -> bool:
        """Whether no other node lives in any database."""
        return all(part.is_alone for part in self.parts)

    @property
    def leads(self) -> bool:
        """Whether this node does what one alone has to do."""
        return all(self.node < other for other in self.nodes.others)

    @property
    def gets_notices(self) -> bool:
        """See `FollowedLog`."""
        return all(part.gets_notices for part in self.parts)

    def lives(self, node: int) -> bool:
        """Whether another node of this number may still write somewhere."""
        return any(part.lives(node) for part in self.parts)

    @property
    def problem(self) -> str | None:
        """Why this node cannot do its work now; None: it can, at least for what does not lie in a
        database that is away."""
        problems = [part.problem for part in self.parts]
        broken = [part.problem for part in self.parts if part.is_broken]
        return next(iter(broken), None) or problems[0] or (problems[-1] if all(problems) else None)

    async def runner(self, stream: str) -> Runner | None:
        """See `SharedLog`."""
        return await self._part(stream).runner(stream)

    # -- writing ---------------------------------------------------------------------------

    def append(self, *appends: Append) -> asyncio.Future[list[int]]:
        future: asyncio.Future[list[int]] = self._loop.create_future()
        self.submit(appends, lambda result, error: resolve(future, result, error))
        return future

    def submit(self, appends: Sequence[Append], outcome: Outcome) -> None:
        part = self.parts[self.place_of(appends[0].stream) if appends else 0]
        if part.queued > self._bound / len(self.parts) and self.queued > 2 * self._bound:
            error = LogOverloaded(f"{self.queued} bytes wait to be committed")
            self._loop.call_soon(outcome, None, error)
            return
        part.submit(appends, outcome)

    @property
    def queued(self) -> int:
        """Bytes that wait to be committed."""
        return sum(part.queued for part in self.parts)

    async def room(self, stream: str | None = None) -> None:
        if stream is not None:
            await self._part(stream).room()
            return
        for part in self.parts:
            await part.room()

    async def next_fence(self) -> int:
        first, *rest = self.parts
        while True:
            fence = await first.next_fence()
            if all(await _all(part.note_fence(fence) for part in rest)):
                return fence

    async def trim(self, stream: str, before: int) -> None:
        check_text(stream)
        await self._before_read(stream)
        await self._part(stream).trim(stream, before)

    async def delete(self, *streams: str, appends: Sequence[Append] = ()) -> None:
        check_text(*streams)
        check_deletion(streams, appends)
        await self._before_read(*streams)
        names: dict[int, list[str]] = {}
        for stream in streams:
            names.setdefault(self.place_of(stream), []).append(stream)
        # The first stream's last: until then all can be repeated.
        for place in reversed(names):
            told = appends if place == self.place_of(streams[0]) else ()
            await self.parts[place].delete(*names[place], appends=told)

    # -- reading ---------------------------------------------------------------------------

    async def _before_read(self, *streams: str) -> None:
        if any(map(self._is_shared, streams)):
            await _all(part.sequenced() for part in self.parts[1:] if not part.is_away)

    async def read(
        self, stream: str, after: int, *, limit: int = 1000, max_bytes: int = 1 << 20
    ) -> Page:
        check_text(stream)
        await self._before_read(stream)
        return await self._part(stream).read(stream, after, limit=limit, max_bytes=max_bytes)

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        check_text(*after)
        await self._before_read(*after)
        return await self._read_each(
            after, lambda part, few: part.read_many(few, limit=limit, max_bytes=max_bytes)
        )

    async def read_placed(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        """See `SharedLog`."""
        return await self._read_each(
            after, lambda part, few: part.read_placed(few, limit=limit, max_bytes=max_bytes)
        )

    async def _read_each(
        self,
        after: Mapping[str, int],
        read: Callable[[PostgresLog, Mapping[str, int]], Awaitable[Mapping[str, Page]]],
    ) -> Mapping[str, Page]:
        """Ask each database once for its streams."""
        names: dict[int, dict[str, int]] = {}
        for stream, position in after.items():
            names.setdefault(self.place_of(stream), {})[stream] = position
        found = await _all(read(self.parts[place], few) for place, few in names.items())
        return {stream: page for pages in found for stream, page in pages.items()}

    async def locate(
        self, stream: str, *, key: str | None = None, at: int | None = None
    ) -> int | None:
        check_text(stream)
        await self._before_read(stream)
        return await self._part(stream).locate(stream, key=key, at=at)

    async def pending(self) -> list[str]:
        found = await _all(part.pending() for part in self.parts)
        return [name for names in found for name in names]

    # -- idempotency keys ------------------------------------------------------------------

    async def claim(self, scope: str, key: str, value: bytes, *, ttl: float) -> bytes | None:
        return await self.parts[0].claim(scope, key, value, ttl=ttl)

    async def lookup(self, scope: str, key: str) -> bytes | None:
        return await self.parts[0].lookup(scope, key)

    async def release(self, scope: str, key: str) -> None:
        await self.parts[0].release(scope, key)

    # -- the end ---------------------------------------------------------------------------

    def hurry(self, seconds: float, away: Callable[[], None] = lambda: None) -> None:
        """See `QueuedLog.hurry`; `away` is called for the first database, where records lie."""
        first, *rest = self.parts
        first.hurry(seconds, away)
        for part in rest:
            part.hurry(seconds)

    async def close(self, timeout: float = 10.0) -> None:
        """See `PostgresLog.close`."""
        parts = self.parts
        ends = [part.close(timeout, leaves=False) for part in parts]
        results = await asyncio.gather(*ends, return_exceptions=True)
        # Now that nothing is left to write: who is dead in one database is soon dead in all.
        await _all(part.leave() for part in parts)
        for result in results:
            if isinstance(result, BaseException):
                raise result


class SpreadNodes:
    """This node among the others, in all databases. Messages go by the first."""

    def __init__(self, each: Sequence[Nodes]) -> None:
        self._each = each
        self._first = each[0]
        #: Of each other node since when it is missed in one of the databases.
        self._missed: dict[int, float] = {}
        #: Other nodes that were seen in all databases.
        self._whole: set[int] = set()
        for nodes in each:
            nodes.is_condemned = self._is_condemned

    @property
    def id(self) -> int:
        """The number of this node."""
        return self._first.id

    @property
    def others(self) -> dict[int, NodeInfo]:
        """The other nodes that live in all databases, by number."""
        return {
            number: info
            for number, info in self._first.others.items()
            if all(number in nodes.others for nodes in self._each)
        }

    def last_seen(self, node: int) -> float:
        """See `Nodes.last_seen`."""
        return max(nodes.last_seen(node) for nodes in self._each)

    def ended(self, node: int) -> None:
        """See `Nodes.ended`."""
        for nodes in self._each:
            nodes.ended(node)

    async def seen(self) -> None:
        """See `Nodes.seen`."""
        await _all(nodes.seen() for nodes in self._each)

    async def send(self, nodes: Sequence[int], body: bytes) -> None:
        """Give a message to nodes. Raises LogUnavailable."""
        await self._first.send(nodes, body)

    async def orphans(self, limit: int) -> list[str]:
        """Pending streams whose node is dead, at most `limit` of each database that answers. Raises
        LogUnavailable if none does."""
        asked = [nodes.orphans(limit) for nodes in self._each]
        found = await asyncio.gather(*asked, return_exceptions=True)
        failed = [each for each in found if isinstance(each, BaseException)]
        for error in failed:
            if not isinstance(error, LogUnavailable) or len(failed) == len(found):
                raise error
        return [name for names in found if not isinstance(names, BaseException) for name in names]

    @property
    def on_gone(self) -> Callable[[], None]:
        """Called when a node lives no more in one of the databases."""
        return self._first.on_gone

    @on_gone.setter
    def on_gone(self, gone: Callable[[], None]) -> None:
        for nodes in self._each:
            nodes.on_gone = gone

    @property
    def on_message(self) -> Callable[[bytes], None]:
        """Called with each message to this node."""
        return self._first.on_message

    @on_message.setter
    def on_message(self, heard: Callable[[bytes], None]) -> None:
        self._first.on_message = heard

    def _is_condemned(self, node: int) -> bool:
        """Whether a node has been missed for the time to live in a database that this one reaches.
        One that ends is missed for less."""
        now = asyncio.get_running_loop().time()
        if all(node in each.others for each in self._each):
            self._whole.add(node)
        if not any(node not in each.others and not each.is_late for each in self._each):
            self._missed.pop(node, None)
            return False
        seconds = self._first.ttl if node in self._whole else _START_SECONDS
        return now - self._missed.setdefault(node, now) >= seconds


async def _labelled(label: str, opened: Awaitable[T]) -> T:
    try:
        return await opened
    except LogUnavailable as error:
        raise LogUnavailable(f"{label}: {error}") from error


async def _all(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, once all have ended. Raises what the first of them raised."""
    ended = await asyncio.gather(*awaitables, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return [each for each in ended if not isinstance(each, BaseException)]
