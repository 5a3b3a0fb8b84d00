"""Live is pushed, behind is pulled.

A reader that has everything is *attached*: new entries are handed to it in the call that announces
their commit. One that cannot take them (its socket is full) or that has just come is *behind*: it
reads from the log at its own pace and attaches when it has caught up. So a slow reader costs a
cursor, not a queue.

A reader that has nothing to do but pass bytes on *parks*: its sink is called instead of itself, and
where it is in the stream is not even noted, since everybody parked is at the end.

The hub lives on the event loop; nothing in it awaits, which is what makes `attach` a handover
without a gap: between its check and the first push nothing can be announced.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from .. import observe
from ..log.base import Entry
from .selection import Selection

#: Newest entries of a stream kept in memory while it has readers, so that one who reconnects or
#: lags a little is served without touching the file.
TAIL_ENTRIES = 512
TAIL_BYTES = 256 * 1024
#: The same for streams whose last reader has left, all together.
LEFT_TOPICS = 256
LEFT_BYTES = 16 * 1024 * 1024


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


#: Takes a live batch for a parked reader, or says False: then the reader itself is asked.
Sink = Callable[[Batch], bool]


class Topic:
    """What the hub knows of a stream that somebody reads."""

    __slots__ = ("attached", "head", "parked", "readers", "tail", "tail_bytes")

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        #: Attached readers by their selection; None: they get everything.
        self.attached: dict[Selection | None, dict[Reader, None]] = {}
        #: Readers at `head` exactly, by their selection, with what is called in their place.
        self.parked: dict[Selection | None, dict[Reader, Sink]] = {}
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
        for selection, sinks in tuple(self.parked.items()):
            if sinks.pop(reader, None) is not None:
                reader.position = self.head
                if not sinks:
                    del self.parked[selection]

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


class Hub:
    """Hands what was committed to those who read it."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        #: Those of `_topics` that nobody reads now, in the order in which they were left.
        self._left: OrderedDict[str, Topic] = OrderedDict()

    def register(self, stream: str, reader: Reader) -> None:
        """From now on, what is announced for `stream` counts against `attach`."""
        topic = self._topics.get(stream)
        if topic is None:
            topic = self._topics[stream] = Topic()
        self._left.pop(stream, None)
        topic.readers.add(reader)

    def unregister(self, stream: str, reader: Reader) -> None:
        """The reader has left; harmless when it already had."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        topic.detach(reader)
        if reader in topic.readers:
            topic.readers.discard(reader)
            if not topic.readers:
                self._leave(stream, topic)

    def _leave(self, stream: str, topic: Topic) -> None:
        """Keep the newest of what nobody reads any more: a thousand viewers that a proxy has cut
        off come back at once, and for the same."""
        self._left[stream] = topic
        size = sum(each.tail_bytes for each in self._left.values())
        while self._left and (len(self._left) > LEFT_TOPICS or size > LEFT_BYTES):
            name, oldest = self._left.popitem(last=False)
            size -= oldest.tail_bytes
            del self._topics[name]

    def attach(self, stream: str, reader: Reader, selection: Selection | None = None) -> bool:
        """Attach a registered reader if it has everything announced; else it must read on.

        With a selection it is pushed only what that picks, matched once for all its readers.
        """
        topic = self._topics[stream]
        if topic.head > reader.position:
            return False
        if not topic.attached and not topic.parked:  # of whose place `head` tells
            topic.head = reader.position
        topic.attached.setdefault(selection, {})[reader] = None
        return True

    def park(
        self, stream: str, reader: Reader, sink: Sink, selection: Selection | None = None
    ) -> bool:
        """Call `sink` for an attached reader that is at the end, until it refuses; then the reader
        is attached as before, with its `position` set, and pushed what was refused. False: it is
        not at the end of what was announced."""
        topic = self._topics[stream]
        if topic.head != reader.position:
            return False
        topic.detach(reader)
        topic.parked.setdefault(selection, {})[reader] = sink
        return True

    def learn(self, stream: str, entries: Sequence[Entry]) -> None:
        """Keep what a reader has read up to the end for those who come after it."""
        topic = self._topics.get(stream)
        if topic is not None and entries:
            topic.learn(entries)

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
        before = topic.head
        taken = self._pour(topic, entries) if topic.parked else 0
        topic.head = max(before, entries[-1].position)
        topic.remember(entries)
        for selection, readers in tuple(topic.attached.items()):
            picked = Batch(entries if selection is None else selection.pick(entries))
            if not picked:
                continue
            asked = len(readers)
            refused = [reader for reader in readers if not reader.push(picked)]
            taken += len(picked) * (asked - len(refused))
            for reader in refused:
                topic.detach(reader)
        if taken:
            observe.delivered(stream, taken)

    def _pour(self, topic: Topic, entries: Sequence[Entry]) -> int:
        """The hot path of every stream; how many entries were taken, by all readers together.
        Whose sink refuses is attached again, and pushed to next; so is everybody when entries
        are missing before these."""
        taken = 0
        missing = entries[0].position > topic.head + 1
        if not missing and entries[0].position <= topic.head:
            entries = [entry for entry in entries if entry.position > topic.head]
        for selection, sinks in tuple(topic.parked.items()):
            if missing:
                refused = list(sinks)
            else:
                picked = Batch(entries if selection is None else selection.pick(entries))
                if not picked:
                    continue
                refused = [reader for reader, sink in sinks.items() if not sink(picked)]
                taken += len(picked) * (len(sinks) - len(refused))
            for reader in refused:
                del sinks[reader]
                reader.position = topic.head
                topic.attached.setdefault(selection, {})[reader] = None
            if not sinks:
                del topic.parked[selection]
        return taken

    def delete(self, stream: str) -> None:
        """Tell every reader that the stream is gone."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        topic.attached.clear()
        topic.parked.clear()
        topic.tail.clear()
        topic.tail_bytes = 0
        topic.head = 0  # who registers from now on has missed nothing of what is there: nothing
        if self._left.pop(stream, None) is not None:
            del self._topics[stream]
        for reader in tuple(topic.readers):
            reader.gone()

    @property
    def busy(self) -> bool:
        """Whether anybody reads anything."""
        return len(self._topics) > len(self._left)

    def standing(self) -> tuple[int, int]:
        """How many readers of chunks and events are handed what comes, and how many are behind."""
        live = total = 0
        for stream, topic in self._topics.items():
            if topic.readers and observe.kind_of(stream) != observe.RECORDS:
                total += len(topic.readers)
                live += sum(map(len, topic.attached.values()))
                live += sum(map(len, topic.parked.values()))
        return live, total - live

    def readers(self, stream: str) -> int:
        """How many read the stream now, attached or behind."""
        topic = self._topics.get(stream)
        return 0 if topic is None else len(topic.readers)
