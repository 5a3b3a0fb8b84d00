"""The consumers of a socket: each has a bounded buffer and a place in the log. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from .._core.event_plan import EventFilter, OnExpired
from .._core.messages import error_from_chunk, new_key
from .._core.progress import ChunkSequence, EventBacklog, TurnStart, Verdict
from ..errors import StreamError
from ..models import Chunk, Event

#: A buffer is full with so many items, or this many characters of them.
MAX_ITEMS = 1024
MAX_SIZE = 8 * 1024 * 1024

T = TypeVar("T")


def _nobody() -> None:
    """The default of `wake`: nobody waits."""


class Consumer(ABC, Generic[T]):
    """`wake` is called when there is something to see: an item, an answer, the end.

    `parked`: the buffer was full, and later items were left out. They are requested again, from
    the consumer's own place, once the consumer has taken most of its buffer. A slow consumer
    therefore holds up neither the socket nor the others, and loses nothing.
    """

    def __init__(self, max_items: int = MAX_ITEMS) -> None:
        self.wake: Callable[[], None] = _nobody
        self.parked = False
        #: The server has confirmed it.
        self.there = False
        #: Nothing more will come; `error` says why, if it is not simply over.
        self.over = False
        self.error: StreamError | None = None
        self.max_items = max_items
        self._sizes: deque[int] = deque()
        self._size = 0

    @property
    def waiting(self) -> int:
        """How many items are in the buffer."""
        return len(self._sizes)

    @property
    def drained(self) -> bool:
        """Whether it is worth asking for more: most of the buffer is free."""
        return len(self._sizes) <= self.max_items // 4 and self._size <= MAX_SIZE // 4

    def confirmed(self) -> None:
        """Note that the server has confirmed it."""
        self.there = True
        self.wake()

    def end(self, error: StreamError | None = None) -> None:
        """End it: nothing more will come. Buffered items can still be read."""
        if not self.over:
            self.over, self.error = True, error
            self.wake()

    def take(self) -> T:
        """Remove and return the oldest item; there must be one. Raises an error chunk's error."""
        self._size -= self._sizes.popleft()
        return self._pop()

    def _room(self) -> bool:
        """Whether another item fits; from the first that does not, the consumer is parked."""
        if len(self._sizes) >= self.max_items or self._size >= MAX_SIZE:
            self.parked = True
        return not self.parked

    def _count(self, size: int) -> None:
        self._sizes.append(size)
        self._size += size
        self.wake()

    @abstractmethod
    def _pop(self) -> T:
        """Remove and return the oldest item."""


class EventConsumer(Consumer[Event]):
    """Events of channels."""

    def __init__(
        self,
        channels: tuple[str, ...],
        event_filter: EventFilter,
        since: str | None,
        on_expired: OnExpired = "raise",
        max_items: int = MAX_ITEMS,
    ) -> None:
        super().__init__(max_items)
        self.channels = channels
        self.on_expired = on_expired
        self.queue = EventBacklog()
        self._filter = event_filter
        self._since = since

    @property
    def cursor(self) -> str | None:
        """The cursor of the last event taken, or a later one if no event followed."""
        return self.queue.handed or self._since

    def message(self) -> dict[str, Any]:
        """The message that asks for everything behind the last arrival."""
        place = self.queue.cursor or self._since
        since = {} if place is None else {"since": place}
        head = {"type": "subscribe", "channels": list(self.channels), "format": "envelope"}
        return head | self._filter.fields() | since

    def offer(self, raw: dict[str, Any], size: int) -> None:
        """Add an event, if it fits."""
        if not self.parked and self._room() and self.queue.add(raw, str(raw.get("cursor") or "")):
            self._count(size)

    def reach(self, cursor: str) -> None:
        """Move a quiet subscription to `cursor`."""
        if not self.parked:
            self.queue.reach(cursor)

    def gap(self, earliest: str) -> None:
        """Add a `gap`: the place is no longer kept, and it goes on from the earliest event."""
        self.queue.gap(earliest)
        self._count(0)

    def _pop(self) -> Event:
        return self.queue.pop()


class ChunkConsumer(Consumer[Chunk]):
    """Chunks of a session: all from a place on, or those of the turn that it starts (`body`)."""

    def __init__(
        self,
        *,
        session_id: str | None = None,
        resume_from: int | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        compact: bool = False,
        raise_on_error: bool = True,
        max_items: int = MAX_ITEMS,
    ) -> None:
        super().__init__(max_items)
        #: A key of the caller's may name a turn of long ago.
        self.own_key = key is not None
        self.session_id = session_id
        self.turn: int | None = None
        self.body = body
        self.compact = compact
        #: Its turn began before the part of the session that is read: look for it from here.
        self.seek_from: int | None = None
        #: The position of the last chunk taken.
        self.position = resume_from or 0
        self._key = key or new_key()
        self._raise_on_error = raise_on_error
        self._sequence = ChunkSequence(resume_from)
        self._turn_start = TurnStart(None)
        self._ready: deque[dict[str, Any]] = deque()

    @property
    def last(self) -> int | None:
        """The position up to which everything has arrived; None: the server decides the start."""
        return self._sequence.last

    @property
    def place(self) -> int | None:
        """The position at which a subscription must begin for it; None: the server decides."""
        return self.seek_from if self.last is None else self.last

    @property
    def starting(self) -> bool:
        """Whether its turn must be asked for (again): nothing of it has come."""
        return self.body is not None and self.last is None

    def execute_message(self) -> dict[str, Any]:
        """The message that starts the turn, or joins it if the answer to the first one was lost."""
        message = {"type": "execute", **(self.body or {}), "idempotency_key": self._key}
        return message | ({"compact": True} if self.compact else {})

    def started(self, session_id: str, turn: int, begin: int | None) -> None:
        """The server has named the turn; `begin`: the place before it, if that is known."""
        self.session_id, self.turn = session_id, turn
        self._turn_start = TurnStart(turn)
        if begin is not None and self.last is None:
            self._sequence.last = begin
        self.confirmed()

    def placed(self, position: int) -> None:
        """Note that a subscription begins behind `position`."""
        if self.last is None and self.body is None:
            self._sequence.last = self.position = position
        self.confirmed()

    def offer(self, raw: dict[str, Any], position: int, size: int) -> bool:
        """Add a chunk, if it fits; False: chunks before it are missing."""
        if self.over or self.parked or not self.there:
            return True
        if self.last is None and not self._turn_start.passes(raw):
            if self._turn_start.found:
                # The end of the turn before: it may come again, since others read here too.
                self._sequence.last = position
            return True
        if not self._room():
            return True
        verdict = self._sequence.take(raw, position)
        if verdict is Verdict.NEW:
            self._ready.append(raw)
            self._count(size)
            if self._ends(raw):
                self.end()
        return verdict is not Verdict.GAP

    def aside(self, raw: dict[str, Any], size: int) -> None:
        """Add a value that is not in the log, at the place of the last chunk, if it fits."""
        is_due = self.there and not (self.over or self.parked or self.last is None)
        is_ours = self.body is None or raw.get("turn") in (None, self.turn)
        if is_due and is_ours and self._room():
            self._ready.append(raw | {"position": self.last})
            self._count(size)

    def _ends(self, raw: Mapping[str, Any]) -> bool:
        if self.body is None or raw.get("type") != "done":
            return False
        turn = raw.get("turn")
        return not isinstance(turn, int) or self.turn is None or turn >= self.turn

    def _pop(self) -> Chunk:
        raw = self._ready.popleft()
        self.position = raw["position"]
        if raw.get("type") == "error" and self._raise_on_error:
            # The turn has failed for good: only its `done` would follow.
            self._ready.clear()
            self._sizes.clear()
            raise error_from_chunk(raw, session_id=self.session_id, position=self.position)
        return Chunk(raw)
