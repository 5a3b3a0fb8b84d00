"""Live is pushed, behind is pulled.

A reader that has everything is *attached*: new entries are handed to it in the call that announces
their commit. One that cannot take them (its socket is full) or that has just come is *behind*: it
reads from the log at its own pace and attaches when it has caught up. So a slow reader costs a
cursor, not a queue.

The hub lives on the event loop; nothing in it awaits, which is what makes `attach` a handover
without a gap: between its check and the first push nothing can be announced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from ..log.base import Entry
from .selection import Selection

#: Newest entries of a stream kept in memory while it has readers, so that one who reconnects or
#: lags a little is served without touching the file.
TAIL_ENTRIES = 512
TAIL_BYTES = 256 * 1024


class Batch(list[Entry]):
    """Entries announced together. Whatever is made from them for the wire is made by the first
    reader that needs it and kept in `encoded`, by the name of its form, for all the others."""

    __slots__ = ("encoded",)

    def __init__(self, entries: Iterable[Entry]) -> None:
        super().__init__(entries)
        self.encoded: dict[str, bytes] = {}


class Reader(Protocol):
    """One reader of one stream; `position` is the last entry it has taken."""

    position: int

    def push(self, entries: Batch) -> bool:
        """Take new entries, in order; older ones among them are to be skipped.

        False: it cannot now; it took none of them, is detached and will read them from the log.
        Must not raise or call the hub.
        """
        ...

    def gone(self) -> None:
        """The stream was deleted; nothing will follow."""
        ...


class Topic:
    """What the hub knows of a stream that somebody reads."""

    __slots__ = ("attached", "head", "readers", "tail", "tail_bytes")

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        #: Attached readers by their selection; None: they get everything.
        self.attached: dict[Selection | None, dict[Reader, None]] = {}
        #: Position of the last announced entry since the topic exists; 0: none yet.
        self.head = 0
        self.tail: deque[Entry] = deque()
        self.tail_bytes = 0

    def detach(self, reader: Reader) -> None:
        for selection, readers in tuple(self.attached.items()):
            readers.pop(reader, None)
            if not readers:
                del self.attached[selection]

    def remember(self, entries: Sequence[Entry]) -> None:
        tail = self.tail
        if tail and tail[-1].position + 1 != entries[0].position:
            tail.clear()
            self.tail_bytes = 0
        for entry in entries:
            tail.append(entry)
            self.tail_bytes += len(entry.body)
        while len(tail) > TAIL_ENTRIES or (self.tail_bytes > TAIL_BYTES and len(tail) > 1):
            self.tail_bytes -= len(tail.popleft().body)


class Hub:
    """Hands what was committed to those who read it."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}

    def register(self, stream: str, reader: Reader) -> None:
        """From now on, what is announced for `stream` counts against `attach`."""
        topic = self._topics.get(stream)
        if topic is None:
            topic = self._topics[stream] = Topic()
        topic.readers.add(reader)

    def unregister(self, stream: str, reader: Reader) -> None:
        """The reader has left; harmless when it already had."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        topic.readers.discard(reader)
        topic.detach(reader)
        if not topic.readers:
            del self._topics[stream]

    def attach(self, stream: str, reader: Reader, selection: Selection | None = None) -> bool:
        """Attach a registered reader if it has everything announced; else it must read on.

        With a selection it is pushed only what that picks, matched once for all its readers.
        """
        topic = self._topics[stream]
        if topic.head > reader.position:
            return False
        topic.attached.setdefault(selection, {})[reader] = None
        return True

    def detach(self, stream: str, reader: Reader) -> None:
        """Push nothing more to the reader; it stays registered."""
        topic = self._topics.get(stream)
        if topic is not None:
            topic.detach(reader)

    def head(self, stream: str) -> int:
        """The last position announced since the stream has readers; 0: none yet."""
        topic = self._topics.get(stream)
        return 0 if topic is None else topic.head

    def recent(self, stream: str, after: int, max_bytes: int) -> list[Entry]:
        """Entries right after `after` if they are still in memory, at most about `max_bytes`;
        else none, which says nothing about whether there are any."""
        topic = self._topics.get(stream)
        if topic is None or not topic.tail:
            return []
        skip = after + 1 - topic.tail[0].position
        if skip < 0 or skip >= len(topic.tail):
            return []
        found: list[Entry] = []
        size = 0
        for index in range(skip, len(topic.tail)):
            entry = topic.tail[index]
            found.append(entry)
            size += len(entry.body)
            if size >= max_bytes:
                break
        return found

    def publish(self, stream: str, entries: Sequence[Entry]) -> None:
        """Announce committed entries; called in commit order, before the append's own answer."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        topic.head = entries[-1].position
        topic.remember(entries)
        for selection, readers in tuple(topic.attached.items()):
            picked = Batch(entries if selection is None else selection.pick(entries))
            if not picked:
                continue
            refused = [reader for reader in readers if not reader.push(picked)]
            for reader in refused:
                topic.detach(reader)

    def delete(self, stream: str) -> None:
        """Tell every reader that the stream is gone."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        topic.attached.clear()
        topic.tail.clear()
        topic.tail_bytes = 0
        topic.head = 0  # who registers from now on has missed nothing of what is there: nothing
        for reader in tuple(topic.readers):
            reader.gone()

    def readers(self, stream: str) -> int:
        """How many read the stream now, attached or behind."""
        topic = self._topics.get(stream)
        return 0 if topic is None else len(topic.readers)
