"""What the hub knows of one stream: its readers, and the newest of its entries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ..log.base import Entry
from .filter import Selection

#: Newest entries of a stream kept in memory while it has readers, so that one who reconnects or
#: lags a little is served without touching the file.
TAIL_ENTRIES = 512
TAIL_BYTES = 256 * 1024


class Reader(Protocol):
    """One reader of one stream; `position` is the last entry it has taken."""

    position: int

    @property
    def here(self) -> bool:
        """Whether somebody is there to whom it tells what it reads, as far as that is known."""
        ...

    def push(self, entries: Sequence[Entry]) -> bool:
        """Take new entries, in order; older ones among them are to be skipped.

        False: it cannot now; it took none of them, is detached and will read them from the log.
        Must not raise, or call the hub but to unpark.
        """
        ...

    def gone(self) -> None:
        """The stream was deleted; nothing will follow."""
        ...


#: Takes bytes for a connection; raises RuntimeError when that is closed. Whoever fills the
#: connection by it is unparked before it returns.
Write = Callable[[bytes], object]


class Form(Protocol):
    """How entries look on a wire. Forms that are equal, and have equal hashes, share the bytes."""

    def live(self, entries: Sequence[Entry]) -> bytes:
        """What all parked readers are written; empty if each must look at these by itself."""
        ...


class Outlet(Protocol):
    """Where the live entries of a parked reader go."""

    @property
    def form(self) -> Form: ...

    @property
    def write(self) -> Write: ...

    @property
    def ready(self) -> bool:
        """Whether bytes may be written now: the connection is open and not full, and nothing
        waits to be written before them."""
        ...

    def wake(self) -> None:
        """The reader is parked no more, and has something to do."""
        ...


class Group:
    """Parked readers that are written the same bytes."""

    __slots__ = ("form", "head", "poured", "writes")

    def __init__(self, form: Form, head: int) -> None:
        self.form = form
        #: The position up to which all of them have everything.
        self.head = head
        self.writes: dict[Reader, Write] = {}
        #: How often they were written to.
        self.poured = 0

    def pour(self, entries: Sequence[Entry], head: int) -> tuple[Reader, ...]:
        """The hot path of every stream: write entries up to `head`. Who did not take them."""
        data = self.form.live(entries)
        if not data:
            return tuple(self.writes)
        self.head = head
        self.poured += 1
        closed: list[Write] = []
        for write in tuple(self.writes.values()):  # a write that fills its connection unparks
            try:
                write(data)
            except RuntimeError:
                closed.append(write)
        if not closed:
            return ()
        return tuple(reader for reader, write in self.writes.items() if write in closed)


class Topic:
    """What the hub knows of a stream that somebody reads."""

    __slots__ = ("attached", "head", "kind", "parked", "readers", "tail", "tail_bytes")

    def __init__(self, kind: str) -> None:
        #: What `observe.kind_of` says of the stream.
        self.kind = kind
        self.readers: set[Reader] = set()
        #: Attached readers by their selection; None: they get everything.
        self.attached: dict[Selection | None, dict[Reader, None]] = {}
        #: Readers at the end, by their selection and form.
        self.parked: dict[tuple[Selection | None, Form], Group] = {}
        #: Position of the last entry that was announced or that an attached reader has read; 0:
        #: none yet.
        self.head = 0
        self.tail: deque[Entry] = deque()
        self.tail_bytes = 0

    def detach(self, reader: Reader) -> None:
        for selection, readers in tuple(self.attached.items()):
            readers.pop(reader, None)
            if not readers:
                del self.attached[selection]
        self.unpark(reader)

    def unpark(self, reader: Reader) -> tuple[Selection | None, Form] | None:
        """Under what the reader was parked; None: it was not."""
        for key, group in self.parked.items():
            if group.writes.pop(reader, None) is not None:
                reader.position = group.head
                if not group.writes:
                    del self.parked[key]
                return key
        return None

    def attach(self, reader: Reader, selection: Selection | None) -> None:
        self.attached.setdefault(selection, {})[reader] = None

    def remember(self, entries: Sequence[Entry]) -> None:
        tail = self.tail
        if tail:
            last = tail[-1].position
            if entries[0].position <= last:  # read from the log before they were announced
                entries = [entry for entry in entries if entry.position > last]
                if not entries:
                    return
            if last + 1 != entries[0].position:
                tail.clear()
                self.tail_bytes = 0
        for entry in entries:
            tail.append(entry)
            self.tail_bytes += len(entry.body)
        while len(tail) > TAIL_ENTRIES or (self.tail_bytes > TAIL_BYTES and len(tail) > 1):
            self.tail_bytes -= len(tail.popleft().body)

    def learn(self, entries: Sequence[Entry]) -> None:
        """The same for entries that are older than the tail, or all of it."""
        tail = self.tail
        if not tail:
            self.remember(entries)
            return
        older = [entry for entry in entries if entry.position < tail[0].position]
        room = TAIL_ENTRIES - len(tail)
        for entry in reversed(older[-room:] if room > 0 else ()):
            if entry.position + 1 != tail[0].position or self.tail_bytes > TAIL_BYTES:
                return
            tail.appendleft(entry)
            self.tail_bytes += len(entry.body)
