"""The EventLog Protocol: named append-only streams, and what every backend guarantees of them.

The contract suite (`tests/contract/`) proves each of these words for each backend:

1.  **Order.** The entries of a stream have positions 1, 2, 3 … without gaps, never reused, not
    even after `trim`. Appends called from one event loop are committed in the order of the calls
    for each stream. Every reader sees one and the same order.
2.  **Durable before visible.** The future of an append resolves, a reader sees the entries, and
    the `on_commit` callback runs only after they are on stable storage (what "stable" means, each
    backend says in `durability`). What was seen once is there after a crash, at its position.
3.  **All or nothing.** The entries of one `append` call become visible all or not at all, over
    however many streams. Streams whose names agree up to the first `/` are a group and live
    together. The group of the first stream is the primary one: only its streams may carry
    conditions (`fence`, `expect`, `close`, `pending`), which decide for the whole call. A backend
    whose groups live apart may show the other groups' entries later than the primary's, but shows
    them exactly once, crash or not, and refuses a call over several groups in which an entry of
    another group has no key.
4.  **Fencing.** A writer carries a fence (`next_fence`, strictly growing over the life of the
    store). An append with a higher fence than the stream's takes the stream over; one with a
    lower is refused with `StaleWriter`, for ever. An append without a fence neither checks nor
    changes it.
5.  **Keys.** An entry with a `key` that its stream already holds is dropped without an error, so
    that repeating an append after an unknown outcome doubles nothing.
6.  **Closing.** An append may close its stream; later appends to it are refused with
    `StreamClosed`. What it holds stays readable.
7.  **Trimming.** `trim` removes the oldest entries and is remembered: `read` from a place that is
    gone reports `earliest` greater than what was asked for. Positions go on as if nothing
    happened.
8.  **Epoch.** `epoch` names the store's history. It differs in a store restored from a backup,
    so that a position from before is recognised as meaningless.
9.  **Pending.** A stream is marked and unmarked by appends; `pending()` names every marked
    stream, and may name some that are not marked any more, never misses one.
10. **Bounds.** The queue of appends not yet committed is bounded: `room()` waits until there is
    space, and producers call it before they append. An append past twice the bound is refused
    with `LogOverloaded`. A refused append leaves no trace.
11. **Readers** never block the writer, nor the writer readers; reads are pages of bounded size.
12. **Time.** `Entry.at` is the commit time in microseconds since 1970, never less than that of
    the entry before it in its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from zlib import crc32

#: An append call may carry at most this much, so that a full queue stays small.
MAX_APPEND_BYTES = 4 * 1024 * 1024

_PAST_EVERY_POSITION = 1 << 31

#: Fences are signed 64-bit integers in every backend.
MAX_FENCE = (1 << 63) - 1


class LogError(Exception):
    """Base of what a log raises; the message is one line. `is_defect`: for a mistake of ours, so
    that its causes belong into the server's log."""

    is_defect = False


class StaleWriter(LogError):
    """Another writer with a higher fence owns the stream."""


class StreamClosed(LogError):
    """The stream was closed by an append; nothing can follow."""


class PositionConflict(LogError):
    """`expect` does not name the end of the stream."""


class LogOverloaded(LogError):
    """More is waiting to be committed than the bound allows; wait with `room()` and try again."""


class LogUnavailable(LogError):
    """The store cannot be written or read now: disk full, file locked or damaged, shut down."""


class StoreIsNewer(LogError):
    """A later version of the program wrote this store."""


# Tuples: these two are made for every chunk of every stream, and a frozen dataclass takes three
# times as long to make.
class NewEntry(NamedTuple):
    """An entry to append. `kind` is a short name (the SSE event name), `body` a JSON object."""

    kind: str
    body: bytes
    key: str | None = None


class Append(NamedTuple):
    """Entries for one stream, made visible together with the rest of the `append` call.

    `fence`: see the module's rule 4. `expect`: the position the stream must end at now, else
    `PositionConflict`. `close`: nothing may follow. `pending`: marks (True) or unmarks (False) the
    stream as having unfinished work, None leaves the mark.
    """

    stream: str
    entries: Sequence[NewEntry]
    fence: int | None = None
    expect: int | None = None
    close: bool = False
    pending: bool | None = None


class Entry:
    """A committed entry. Readers share it: whatever is made from it is made once and kept here.

    `position`, `kind` and `body` as appended, `at` as in the module's rule 12. `frame` caches the
    encoded SSE frame, `message` the WebSocket message, `data` the parsed body; the codecs and
    selections fill them.
    """

    __slots__ = ("at", "body", "data", "frame", "kind", "message", "position")

    def __init__(self, position: int, kind: str, body: bytes, at: int) -> None:
        self.position = position
        self.kind = kind
        self.body = body
        self.at = at
        self.frame: bytes | None = None
        self.message: bytes | None = None
        self.data: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Entry({self.position}, {self.kind!r}, {self.body!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return (self.position, self.kind, self.body, self.at) == (
            other.position,
            other.kind,
            other.body,
            other.at,
        )

    def __hash__(self) -> int:
        return hash((self.position, self.kind, self.body))


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """`head` is the last position (0: none yet), `earliest` the first that can still be read
    (`head + 1` when nothing can), `fence` the highest seen."""

    head: int
    earliest: int
    fence: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Entries after the place asked for, from one consistent view.

    `info` is of that same view; None when the stream does not exist. Entries are missing between
    the place asked for and the first one only if `info.earliest` says so.
    """

    entries: list[Entry]
    info: StreamInfo | None

    @property
    def at_end(self) -> bool:
        """Whether nothing follows in this view."""
        if self.info is None:
            return True
        return not self.entries or self.entries[-1].position >= self.info.head


def group_of(stream: str) -> str:
    """The group a stream belongs to, see rule 3."""
    return stream.partition("/")[0]


def mark(stream: str) -> int:
    """What a notice to other nodes says of a stream: short, and equal for few others."""
    return crc32(stream.encode())


def check_text(*words: str) -> None:
    """Refuse with ValueError what cannot be stored as text: half of a surrogate pair.

    JSON can carry one in (`"\\ud800"`); refused here, it fails its own call and no other's.
    """
    for word in words:
        if not word.isascii():
            try:
                word.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{word!r} is not text: {error.reason}") from error


def check_appends(appends: Sequence[Append]) -> int:
    """The bytes of the bodies. Refuses with ValueError what rule 3 or the size bound forbids, and
    what cannot be stored."""
    if not appends:
        raise ValueError("an append names at least one stream")
    size = 0
    for stream, entries, fence, _, _, _ in appends:
        if not stream.isascii():
            check_text(stream)
        for kind, body, key in entries:
            if not kind.isascii() or (key is not None and not key.isascii()):
                check_text(kind, key or "")
            size += len(body)
        if fence is not None and not 0 <= fence <= MAX_FENCE:
            raise ValueError(f"fence {fence} is not one that next_fence gave")
    if len(appends) > 1:
        _check_groups(appends)
    if size > MAX_APPEND_BYTES:
        raise ValueError(f"an append of {size} bytes; at most {MAX_APPEND_BYTES} fit")
    return size


def check_deletion(streams: Sequence[str], appends: Sequence[Append]) -> None:
    """Refuses with ValueError appends that cannot go with the deletion of these streams."""
    if not appends:
        return
    check_appends(appends)
    for append in appends:
        if append.stream in streams:
            raise ValueError(f"{append.stream!r} is deleted, and cannot tell of it")
    # None of them may be refused or doubled: the group that is deleted decides.
    _check_groups([Append(streams[0], ()), *appends])


def _check_groups(appends: Sequence[Append]) -> None:
    primary = group_of(appends[0].stream)
    for append in appends:
        if group_of(append.stream) == primary:
            continue
        if append.fence is not None or append.expect is not None or append.close:
            raise ValueError(f"conditions on {append.stream!r}, which is not in group {primary!r}")
        if append.pending is not None:
            raise ValueError(f"a mark on {append.stream!r}, which is not in group {primary!r}")
        if any(entry.key is None for entry in append.entries):
            raise ValueError(f"an entry without key for {append.stream!r} of another group")


#: Called on the event loop, in commit order, once per commit that touched the stream, before the
#: append's own future resolves.
OnCommit = Callable[[str, Sequence[Entry]], None]
#: How an append ended: each stream's last position, or why it was refused.
Outcome = Callable[[list[int] | None, Exception | None], None]


class EventLog(Protocol):
    """Named append-only streams. The module's docstring says what each call guarantees."""

    @property
    def epoch(self) -> str:
        """See rule 8."""
        ...

    def append(self, *appends: Append) -> asyncio.Future[list[int]]:
        """Submit; the future gives each stream's last position once all is durable; 0 for a stream
        of another group that shows it later (rule 3).

        Raises nothing itself; the future raises `StaleWriter`, `StreamClosed`,
        `PositionConflict`, `LogOverloaded`, `LogUnavailable` or ValueError (over
        MAX_APPEND_BYTES, conditions on a secondary stream, a name, kind or key that is not
        text, a fence out of range).
        """
        ...

    def submit(self, appends: Sequence[Append], outcome: Outcome) -> None:
        """`append` without a future, for a caller that appends all the time.

        `outcome` is called once, on the event loop and never before this returns, with what the
        future would give. It must not raise. From then on the caller may change the appends.
        """
        ...

    async def room(self, stream: str | None = None) -> None:
        """Return when the queue of waiting appends is below its bound; with `stream`, when that
        one's is: a backend whose groups live apart may have several."""
        ...

    async def read(
        self, stream: str, after: int, *, limit: int = 1000, max_bytes: int = 1 << 20
    ) -> Page:
        """Entries with positions over `after`: at most `limit`, and at most about `max_bytes` of
        bodies (at least one entry if there is one). A negative `after` is the start. Raises
        LogUnavailable, and ValueError for a `limit` below 1."""
        ...

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        """`read` of each of these streams, after its own position, for the cost of few. The bounds
        are for each."""
        ...

    async def locate(
        self, stream: str, *, key: str | None = None, at: int | None = None
    ) -> int | None:
        """The position of the entry with this key, or of the first entry whose `at` is not less
        than the given one (microseconds since 1970); None if there is none. Raises
        LogUnavailable, and ValueError unless exactly one is given."""
        ...

    async def trim(self, stream: str, before: int) -> None:
        """Remove the entries with positions below `before`."""
        ...

    async def delete(self, *streams: str, appends: Sequence[Append] = ()) -> None:
        """Remove whole streams, together. Appending to a deleted stream starts a new one at 1.
        Where groups live apart, those of the first one's group may go last.

        `appends` belong to the same transaction and are announced like any append, so that readers
        of the log learn of the deletion. They carry no conditions, and every entry has a key.
        """
        ...


async def stream_info(log: EventLog, stream: str) -> StreamInfo | None:
    """Where a stream begins and ends; None if it does not exist. Raises LogUnavailable.

    A page past every position: a backend needs nothing beside `read` for it.
    """
    page = await log.read(stream, _PAST_EVERY_POSITION, limit=1)
    return page.info


class Fences(Protocol):
    """Fences, and the streams with unfinished work; see rules 4 and 9."""

    async def next_fence(self) -> int:
        """A fence higher than every one given out before in the life of this store."""
        ...

    async def pending(self) -> list[str]:
        """Streams with unfinished work."""
        ...


class IdempotencyKeys(Protocol):
    """Durable first-come-first-served names, for Idempotency-Keys."""

    async def claim(self, scope: str, key: str, value: bytes, *, ttl: float) -> bytes | None:
        """Give `key` this value for `ttl` seconds unless it has one; durable on return.

        None when the claim took; else the value that stands.
        """
        ...

    async def lookup(self, scope: str, key: str) -> bytes | None:
        """The value that stands, or None."""
        ...

    async def release(self, scope: str, key: str) -> None:
        """Forget the key."""
        ...


#: Entries removed per call of `trim`.
TRIM_STEP = 10_000


async def trim_in_steps(log: EventLog, stream: str, earliest: int, before: int) -> int:
    """Trim a stream up to `before` in steps, so that writers never wait long.

    `earliest` is the stream's first position. Returns the number of removed positions. Raises
    LogUnavailable; entries removed before the failure stay removed.
    """
    reached = earliest
    while reached < before:
        reached = min(reached + TRIM_STEP, before)
        await log.trim(stream, reached)
    return max(before - earliest, 0)
