"""Live is pushed, behind is pulled.

A reader that has every entry is *attached*: the call that announces a commit pushes the new entries
to it. A reader that is new, or whose socket is full, is *behind*: it reads the log at its own pace
and attaches when it has caught up. So a slow reader costs a cursor, not a queue.

A reader that only passes on bytes *parks*: its sink joins a broadcast group. Sinks with equal
encoders share a group. New entries are encoded once for the group, and the bytes are written to
each sink. The hub keeps one position for the group. It does not ask a connection for space: a
connection that a write fills leaves the group before that write returns.

The hub lives on the event loop and awaits nothing. Therefore `attach` is a handover without a gap:
nothing can be announced between its check and the first push.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from .. import metrics
from ..log.base import Entry
from .encoder import Encoder
from .filter import CompiledFilter

#: Newest entries of a stream that stay in memory while it has readers. A reader that reconnects or
#: lags a little is served without a read of the file.
TAIL_ENTRIES = 512
TAIL_BYTES = 256 * 1024


class Reader(Protocol):
    """A reader of one stream. `position` is the last entry that it has taken."""

    position: int

    @property
    def here(self) -> bool:
        """False if the reader's client is known to have left."""
        ...

    def push(self, entries: Sequence[Entry]) -> bool:
        """Take new entries, in order; skip those that the reader has.

        Returns False if the reader cannot take them now: it took none, is detached and will read
        them from the log. Must not raise. Of the hub's methods it may call `unpark` only.
        """
        ...

    def aside(self, entry: Entry) -> None:
        """Take an entry that is not in the log, or leave it. It has no position."""
        ...

    def fall_behind(self) -> None:
        """Entries are missing before those that come next. The reader is detached, and will read
        from the log."""
        ...

    def gone(self) -> None:
        """The stream was deleted. No entry will follow."""
        ...


#: Takes bytes for a connection. Raises RuntimeError if the connection is closed. A reader whose
#: connection the bytes fill is unparked before the call returns.
Write = Callable[[bytes], object]


class Sink(Protocol):
    """Takes the live entries of a parked reader."""

    @property
    def encoder(self) -> Encoder: ...

    @property
    def write(self) -> Write: ...

    @property
    def ready(self) -> bool:
        """Whether bytes may be written now: the connection is open and not full, and no earlier
        bytes wait."""
        ...

    def wake(self) -> None:
        """The reader is no longer parked and must go on by itself."""
        ...


class OtherNodes(Protocol):
    """Who brings what other nodes commit; see `feed/remote.py`."""

    def follow(self, stream: str, after: int) -> None:
        """Announce what comes after this position, from now on. Harmless when that is done."""
        ...

    def unfollow(self, stream: str) -> bool:
        """The last reader has left. Whether what is known of the stream grows old now."""
        ...


class BroadcastGroup:
    """Parked readers that get the same bytes."""

    __slots__ = ("broadcasts", "encoder", "head", "writes")

    def __init__(self, encoder: Encoder, head: int) -> None:
        self.encoder = encoder
        #: The position up to which every reader of the group has all entries.
        self.head = head
        self.writes: dict[Reader, Write] = {}
        #: The number of broadcasts.
        self.broadcasts = 0

    def broadcast(self, entries: Sequence[Entry], head: int) -> tuple[Reader, ...]:
        """Write entries up to `head`. Returns the readers that did not take them.

        The hot path of every stream.
        """
        data = self.encoder.live(entries)
        if data is None:
            return tuple(self.writes)
        self.head = head
        if not data:
            return ()
        self.broadcasts += 1
        closed: list[Write] = []
        for write in tuple(self.writes.values()):  # a full connection unparks during the write
            try:
                write(data)
            except RuntimeError:
                closed.append(write)
        if not closed:
            return ()
        return tuple(reader for reader, write in self.writes.items() if write in closed)

    def aside(self, entry: Entry) -> None:
        """Write an entry that is not in the log. A connection that is closed says so later."""
        data = self.encoder.live([entry])
        if not data:
            return
        self.broadcasts += 1
        for write in tuple(self.writes.values()):
            with contextlib.suppress(RuntimeError):
                write(data)


class Topic:
    """The readers and the newest entries of one stream."""

    __slots__ = ("attached", "head", "kind", "parked", "readers", "tail", "tail_bytes")

    def __init__(self, kind: str) -> None:
        #: The result of `metrics.kind_of` for the stream.
        self.kind = kind
        self.readers: set[Reader] = set()
        #: Attached readers by their selection; None: they get every entry.
        self.attached: dict[CompiledFilter | None, dict[Reader, None]] = {}
        #: Readers at the end, by their selection and encoder.
        self.parked: dict[tuple[CompiledFilter | None, Encoder], BroadcastGroup] = {}
        #: Position of the last entry that was announced or that an attached reader has read; 0
        #: before the first.
        self.head = 0
        self.tail: deque[Entry] = deque()
        self.tail_bytes = 0

    def detach(self, reader: Reader) -> None:
        for selection, readers in tuple(self.attached.items()):
            readers.pop(reader, None)
            if not readers:
                del self.attached[selection]
        self.unpark(reader)

    def unpark(self, reader: Reader) -> tuple[CompiledFilter | None, Encoder] | None:
        """Take the reader out of its group. Returns the group's key, or None if it had none."""
        for key, group in self.parked.items():
            if group.writes.pop(reader, None) is not None:
                reader.position = group.head
                if not group.writes:
                    del self.parked[key]
                return key
        return None

    def attach(self, reader: Reader, selection: CompiledFilter | None) -> None:
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
        """Put entries that are older than the tail, or the whole tail, into memory."""
        tail = self.tail
        if not tail:
            self.remember(entries)
            return
        older = [entry for entry in entries if entry.position < tail[0].position]
        space = TAIL_ENTRIES - len(tail)
        for entry in reversed(older[-space:] if space > 0 else ()):
            if entry.position + 1 != tail[0].position or self.tail_bytes > TAIL_BYTES:
                return
            tail.appendleft(entry)
            self.tail_bytes += len(entry.body)


#: Streams without readers that stay in memory, and the bytes of their entries together.
LEFT_TOPICS = 256
LEFT_BYTES = 16 * 1024 * 1024


class Hub:
    """Hands committed entries to the readers of their streams."""

    def __init__(self) -> None:
        #: None: everything that is committed is announced by this node itself.
        self.source: OtherNodes | None = None
        self._topics: dict[str, Topic] = {}
        #: The topics without readers, in the order in which their last readers left.
        self._left: OrderedDict[str, Topic] = OrderedDict()
        #: Bytes of entries of those topics.
        self._left_bytes = 0

    def register(self, stream: str, reader: Reader) -> None:
        """Add a reader. From now on `attach` compares its position with announced entries."""
        topic = self._topics.get(stream)
        if topic is None:
            topic = self._topics[stream] = Topic(metrics.kind_of(stream))
        self._take_up(stream)
        topic.readers.add(reader)

    def unregister(self, stream: str, reader: Reader) -> None:
        """Remove a reader. Harmless if it is not registered."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        topic.detach(reader)
        if reader in topic.readers:
            topic.readers.discard(reader)
            if not topic.readers:
                self._leave(stream, topic)

    def _leave(self, stream: str, topic: Topic) -> None:
        """Keep the newest entries of a stream without readers: a thousand viewers that a proxy has
        cut off come back at the same moment for the same entries."""
        if self.source is not None and self.source.unfollow(stream):
            del self._topics[stream]
            return
        self._left[stream] = topic
        self._left_bytes += topic.tail_bytes
        self._bound_left()

    def _bound_left(self) -> None:
        while len(self._left) > LEFT_TOPICS or self._left_bytes > LEFT_BYTES:
            name = next(iter(self._left))
            self._take_up(name)
            del self._topics[name]

    def _take_up(self, stream: str) -> bool:
        """Take a stream out of those without readers. Returns whether it was one."""
        topic = self._left.pop(stream, None)
        if topic is None:
            return False
        self._left_bytes -= topic.tail_bytes
        return True

    def attach(self, stream: str, reader: Reader, selection: CompiledFilter | None = None) -> bool:
        """Attach a registered reader if it has every announced entry; else it must read on.

        A reader with a selection gets only the entries that it picks, matched once for all readers
        with that selection.
        """
        topic = self._topics[stream]
        if topic.head > reader.position:
            return False
        if not topic.attached and not topic.parked:  # nobody's position is in `head` yet
            topic.head = reader.position
        topic.attach(reader, selection)
        if self.source is not None:
            self.source.follow(stream, topic.head)
        return True

    def park(
        self, stream: str, reader: Reader, sink: Sink, selection: CompiledFilter | None = None
    ) -> BroadcastGroup | None:
        """Write new entries to the sink of an attached reader that is at the end.

        This lasts until `unpark`, or until the sink's encoder or connection refuses entries. Then
        the reader is attached as before, with its `position` set, and the refused entries are
        pushed to it. Returns None if the reader is not at the end of the announced entries.
        """
        topic = self._topics[stream]
        if topic.head != reader.position:
            return None
        topic.detach(reader)
        key = selection, sink.encoder
        group = topic.parked.get(key)
        if group is None:
            group = topic.parked[key] = BroadcastGroup(sink.encoder, topic.head)
        group.writes[reader] = sink.write
        return group

    def unpark(self, stream: str, reader: Reader) -> None:
        """Push to a reader again instead of writing to its sink. Harmless if it is not parked."""
        topic = self._topics.get(stream)
        if topic is not None and (key := topic.unpark(reader)) is not None:
            topic.attach(reader, key[0])

    def learn(self, stream: str, entries: Sequence[Entry]) -> None:
        """Keep entries that a reader has read up to the end, for the readers after it."""
        topic = self._topics.get(stream)
        if topic is not None and entries:
            topic.learn(entries)

    def detach(self, stream: str, reader: Reader) -> None:
        """Push no more entries to the reader. It stays registered."""
        topic = self._topics.get(stream)
        if topic is not None:
            topic.detach(reader)

    def head(self, stream: str) -> int:
        """The last position announced since the stream has readers; 0 before the first."""
        topic = self._topics.get(stream)
        return 0 if topic is None else topic.head

    def recent(self, stream: str, after: int, max_bytes: int) -> list[Entry]:
        """Entries right after `after`, at most about `max_bytes`, if memory holds them.

        An empty list does not mean that the log has none.
        """
        topic = self._topics.get(stream)
        if topic is None or not topic.tail:
            return []
        skip = after + 1 - topic.tail[0].position
        if skip < 0 or skip >= len(topic.tail):
            return []
        if topic.tail_bytes <= max_bytes:
            return list(islice(topic.tail, skip, None))
        found: list[Entry] = []
        size = 0
        for entry in islice(topic.tail, skip, None):
            found.append(entry)
            size += len(entry.body)
            if size >= max_bytes:
                break
        return found

    def publish(self, stream: str, entries: Sequence[Entry]) -> None:
        """Announce committed entries. Called in commit order, before the append returns."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        before, last = topic.head, entries[-1].position
        if last > before:
            topic.head = last
        kept = topic.tail_bytes
        topic.remember(entries)
        if not topic.readers:
            self._left_bytes += topic.tail_bytes - kept
            self._bound_left()
            return
        taken = self._broadcast(topic, entries, before) if topic.parked else 0
        if topic.attached:
            taken += self._push(topic, entries)
        if taken:
            metrics.delivered(topic.kind, taken)

    def aside(self, stream: str, entry: Entry) -> None:
        """Show an entry that is not in the log to the readers that have everything before it."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        for group in tuple(topic.parked.values()):
            group.aside(entry)
        for readers in tuple(topic.attached.values()):
            for reader in tuple(readers):
                reader.aside(entry)

    def _push(self, topic: Topic, entries: Sequence[Entry]) -> int:
        """Push to all attached readers. Returns the number of entries that they took together."""
        taken = 0
        for selection, readers in tuple(topic.attached.items()):
            picked = entries if selection is None else selection.pick(entries)
            if not picked:
                continue
            asked = len(readers)
            refused = [reader for reader in tuple(readers) if not reader.push(picked)]
            taken += len(picked) * (asked - len(refused))
            for reader in refused:
                topic.detach(reader)
        return taken

    def _broadcast(self, topic: Topic, entries: Sequence[Entry], before: int) -> int:
        """Write to all parked readers, which have every entry up to `before`.

        Returns the number of entries that they took together. A reader that did not take them is
        attached again, and pushed to next. So are all readers if entries before these are missing.
        """
        taken = 0
        first = entries[0].position
        missing = first > before + 1
        if first <= before:
            entries = [entry for entry in entries if entry.position > before]
        for key, group in tuple(topic.parked.items()):
            selection = key[0]
            picked = entries if selection is None or missing else selection.pick(entries)
            if not picked:
                group.head = topic.head
                continue
            asked = len(group.writes)
            refused = tuple(group.writes) if missing else group.broadcast(picked, topic.head)
            taken += len(picked) * (asked - len(refused))
            for reader in refused:
                del group.writes[reader]
                reader.position = before
                topic.attach(reader, selection)
            if not group.writes:
                topic.parked.pop(key, None)
        return taken

    def delete(self, stream: str) -> None:
        """Tell every reader that the stream is gone."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        if self._take_up(stream):
            del self._topics[stream]
        topic.attached.clear()
        topic.parked.clear()
        topic.tail.clear()
        topic.tail_bytes = 0
        topic.head = 0  # for readers that register from now on the stream is empty
        for reader in tuple(topic.readers):
            reader.gone()

    @property
    def busy(self) -> bool:
        """Whether any stream has a reader."""
        return len(self._topics) > len(self._left)

    def live_and_behind(
        self, counts: Callable[[str], bool] = lambda _stream: True
    ) -> tuple[int, int]:
        """Numbers of readers of chunks and events: those that get live entries, those behind; of
        the streams that are to be counted."""
        live = total = 0
        for stream, topic in self._topics.items():
            if topic.readers and topic.kind != metrics.RECORDS and counts(stream):
                total += len(topic.readers)
                live += sum(map(len, topic.attached.values()))
                live += sum(len(group.writes) for group in topic.parked.values())
        return live, total - live

    def is_watched(self, stream: str) -> bool:
        """Whether the stream has a reader whose client has not left."""
        topic = self._topics.get(stream)
        return topic is not None and any(reader.here for reader in topic.readers)

    def skip(self, stream: str, head: int) -> None:
        """Of the entries up to `head`, some were trimmed before they could be announced here:
        every reader that was to get them learns it from the log."""
        topic = self._topics.get(stream)
        if topic is None:
            return
        topic.head = max(topic.head, head)
        for reader in tuple(topic.readers):
            topic.detach(reader)
            reader.fall_behind()

    def given(self, stream: str) -> int | None:
        """The position up to which readers that are handed what comes have everything. None: there
        are none, and then the stream's memory is dropped: it may be behind the log from now on."""
        topic = self._topics.get(stream)
        if topic is None:
            return None
        if topic.attached or topic.parked:
            return topic.head
        if self._take_up(stream):
            del self._topics[stream]
        topic.head = 0
        topic.tail.clear()
        topic.tail_bytes = 0
        return None

    def readers(self, stream: str) -> int:
        """The number of the stream's readers, attached or behind."""
        topic = self._topics.get(stream)
        return 0 if topic is None else len(topic.readers)
