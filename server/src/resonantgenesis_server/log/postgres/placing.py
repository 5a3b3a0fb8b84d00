"""Where the entries of a group go, without a database: conditions are checked, positions given,
and the rows of one statement gathered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..base import Entry, LogError, NewEntry
from ..queue import Job, Stream, check


class OwnedStream(Stream):
    """A stream whose state this node may keep; number 0: a new one, which has no row yet.

    `since` is the node's generation as of which that state is right, and `began` the position of
    the last entry that was there then: every later one is this node's.
    """

    __slots__ = ("began", "earliest", "name", "since")

    def __init__(
        self,
        name: str,
        number: int = 0,
        head: int = 0,
        last_at: int = 0,
        fence: int = 0,
        closed: bool = False,
        pending: bool = False,
        earliest: int = 1,
        since: int = 0,
    ) -> None:
        super().__init__(number, head, last_at, fence, closed, pending)
        self.name = name
        self.began = head
        self.earliest = earliest
        self.since = since


class Batch:
    """What one group writes: the columns of its rows, and streams that are new or marked."""

    __slots__ = ("ats", "bodies", "keys", "kinds", "marked", "new", "numbers", "positions")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.positions: list[int] = []
        #: The last date of each row's stream, which its own is not to go behind.
        self.ats: list[int] = []
        self.kinds: list[bytes] = []
        self.bodies: list[bytes] = []
        self.keys: list[bytes | None] = []
        self.marked: dict[str, OwnedStream] = {}
        self.new: dict[str, OwnedStream] = {}

    @property
    def rows(self) -> tuple[Sequence[object], ...]:
        return self.numbers, self.positions, self.ats, self.kinds, self.bodies, self.keys


#: Of each stream the keys that it holds, as far as somebody looked.
Keys = Mapping[str, set[bytes]]


def place(
    group: Sequence[Job],
    streams: Mapping[str, OwnedStream],
    new_number: Callable[[], int],
    known: Keys,
) -> Batch:
    """Decide every job of a group, in order, as if each were alone. Changes `streams`' states.

    Keys that are not in `known` are taken for new; the table has the last word on them.
    """
    batch = Batch()
    held = {name: set(keys) for name, keys in known.items()}
    for job in group:
        job.result, job.error, job.committed = None, None, []
        try:
            for append in job.appends:
                check(append, streams[append.stream])
        except LogError as error:
            job.error = error
            continue
        result: list[int] = []
        for append in job.appends:
            name, entries, fence, _, close, pending = append
            stream = streams[name]
            if not stream.number:
                stream.number = new_number()
                batch.new[name] = stream
            if entries and (placed := _rows(batch, entries, stream, held)):
                job.committed.append((name, placed))
            if fence != stream.fence or pending is not None or close:
                _mark(batch, stream, fence, pending, close)
            result.append(stream.head)
        job.result = result
    return batch


def _rows(
    batch: Batch, entries: Sequence[NewEntry], stream: OwnedStream, held: dict[str, set[bytes]]
) -> list[Entry]:
    placed: list[Entry] = []
    number, head, last_at = stream.number, stream.head, stream.last_at
    for kind, body, key in entries:
        encoded: bytes | None = None
        if key is not None:
            encoded = key.encode()
            keys = held.setdefault(stream.name, set())
            if encoded in keys:
                continue
            keys.add(encoded)
        head += 1
        batch.numbers.append(number)
        batch.positions.append(head)
        batch.ats.append(last_at)
        batch.kinds.append(kind.encode())
        batch.bodies.append(body)
        batch.keys.append(encoded)
        placed.append(Entry(head, kind, body, last_at))
    stream.head = head
    return placed


def _mark(
    batch: Batch, stream: OwnedStream, fence: int | None, pending: bool | None, close: bool
) -> None:
    wanted = (
        stream.fence if fence is None else fence,
        stream.pending if pending is None else pending,
        stream.closed or close,
    )
    if wanted == (stream.fence, stream.pending, stream.closed):
        return
    stream.fence, stream.pending, stream.closed = wanted
    if stream.name not in batch.new:
        batch.marked[stream.name] = stream


def date(group: Sequence[Job], streams: Mapping[str, OwnedStream], at: int) -> None:
    """After the commit, at this time: date its entries, none before the one before it (rule 12)."""
    for job in group:
        for name, entries in job.committed:
            for entry in entries:
                entry.at = max(at, entry.at)
            if (stream := streams.get(name)) is not None:
                stream.last_at = max(stream.last_at, entries[-1].at)


def keyed(group: Sequence[Job]) -> Iterator[tuple[str, bytes]]:
    """Streams and keys of the group's entries."""
    for job in group:
        for append in job.appends:
            for entry in append.entries:
                if entry.key is not None:
                    yield append.stream, entry.key.encode()


def names_of(job: Job) -> list[str]:
    """The streams that a job is about."""
    names = [append.stream for append in job.appends]
    if job.work is not None:
        names += job.work.names
    return names
