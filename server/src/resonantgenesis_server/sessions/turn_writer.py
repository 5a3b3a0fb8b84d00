"""From an agent's chunks to appends: batches as large as the disk is slow."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from .. import metrics
from ..log.base import Append, EventLog, LogError, LogOverloaded, NewEntry
from ..tracing import spans

#: Chunks not yet handed to the log; past this the agent waits.
_BUFFER_BYTES = 256 * 1024
_BUFFER_ENTRIES = 1_000
_OVERLOAD_PAUSE = 0.05
#: Values for live viewers alone that wait for the chunks before them.
_MAX_ASIDES = 100
#: The size of the buffer of a turn that has stopped.
_HELD = 1 << 60


class Sealed(Exception):
    """The turn is over; no chunk is accepted any more."""


class TurnWriter:
    """The one writer of a running turn's chunks, in order.

    At most one append is under way; chunks that the agent yields meanwhile go out together in the
    next. `position` is that of the last accepted chunk. It is known before the chunk is durable,
    because a fenced turn is the only writer of its session. `durable` is the position of the last
    committed chunk.
    """

    def __init__(
        self,
        log: EventLog,
        stream: str,
        *,
        fence: int,
        position: int,
        event_stream: str,
        organization_id: str = "",
    ) -> None:
        self.position = position
        self.durable = position
        #: Called once when the log has refused a chunk; a silent agent would not notice.
        self.on_error: Callable[[], None] = lambda: None
        #: Called with what live viewers see and the log does not keep.
        self.on_aside: Callable[[bytes], None] = lambda _body: None
        self._log = log
        self._event_stream = event_stream
        self._figures = metrics.figures(organization_id)
        #: When the agent was started; None once there is a first chunk.
        self._began: float | None = time.perf_counter()
        # Two lists in turn: one fills while the log has the other. The appends are made once, for
        # every token of every stream passes here.
        self._buffer: list[NewEntry] = []
        self._under_way: list[NewEntry] = []
        self._append = (Append(stream, self._buffer, fence),)
        self._other_append = (Append(stream, self._under_way, fence),)
        self._size = 0
        self._events: list[NewEntry] = []
        self._events_under_way: list[NewEntry] = []
        self._error: LogError | None = None
        self._sealed = False
        self._changed: asyncio.Future[None] | None = None
        self._pause: asyncio.TimerHandle | None = None
        #: Asides with the position before each; the oldest give way.
        self._asides: deque[tuple[int, bytes]] = deque(maxlen=_MAX_ASIDES)

    @property
    def error(self) -> LogError | None:
        """Why the log refused a chunk; the turn cannot go on then."""
        return self._error

    async def write(
        self, kind: str, body: bytes, event: NewEntry | None = None, *, more: bool = False
    ) -> None:
        """Accept a chunk with its platform event; waits while the buffer is full. With `more`
        another chunk follows at once, and both go out together.

        Raises Sealed, and the LogError that an earlier chunk met.
        """
        while not self.put(kind, body, event, more=more):
            await self._change()

    def put(
        self, kind: str, body: bytes, event: NewEntry | None = None, *, more: bool = False
    ) -> bool:
        """`write` without a wait: returns False when it would have to wait."""
        if self._sealed or self._error is not None:
            self._check()
        if self._size >= _BUFFER_BYTES or len(self._buffer) >= _BUFFER_ENTRIES:
            return False
        self._buffer.append(NewEntry(kind, body))
        self._size += len(body)
        if event is not None:
            self._events.append(event)
        self.position += 1
        if not self._under_way and self._pause is None and not more:
            self._send()
        return True

    def aside(self, body: bytes) -> None:
        """Show live viewers a body that is not stored, once all chunks before it are durable."""
        self._asides.append((self.position, body))
        self._show_asides()

    def _show_asides(self) -> None:
        while self._asides and self._asides[0][0] <= self.durable:
            self.on_aside(self._asides.popleft()[1])

    def push(self) -> None:
        """Send a chunk that was written with `more`, although no other follows."""
        if self._buffer and not self._under_way and self._pause is None and self._error is None:
            self._send()

    def hold(self) -> None:
        """Make every later write wait for `go_on`: the turn has stopped. Nothing is under way."""
        # As a full buffer, so that no token pays for the check. Nothing is sent meanwhile, which
        # would set the size anew.
        self._size = _HELD

    @property
    def is_held(self) -> bool:
        return self._size >= _HELD

    def skip_to(self, position: int) -> None:
        """Others have written up to this position, while no chunk of this writer was under way."""
        self.position = self.durable = position

    def go_on(self) -> None:
        """Accept chunks again."""
        self._size = 0
        self._wake()

    def fail(self, error: LogError) -> None:
        """The log has refused what belongs to the turn: it cannot go on."""
        self._error = error
        self._wake()

    def seal(self) -> None:
        """Refuse every later write; accepted chunks still go out."""
        self._sealed = True
        self._wake()

    async def flush(self) -> None:
        """Return when all accepted chunks are durable. Raises the LogError that one met."""
        self.push()
        while self._error is None and (self._buffer or self._under_way):
            await self._change()
        if self._error is not None:
            raise self._error

    def _check(self) -> None:
        if self._sealed:
            raise Sealed
        if self._error is not None:
            raise self._error

    async def _change(self) -> None:
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    def _send(self) -> None:
        appends: tuple[Append, ...] = self._append
        self._append, self._other_append = self._other_append, self._append
        self._buffer, self._under_way, self._size = self._under_way, self._buffer, 0
        if self._events:
            self._events_under_way, self._events = self._events, []
            appends = (*appends, Append(self._event_stream, self._events_under_way))
        self._log.submit(appends, self._sent)

    def _sent(self, result: list[int] | None, error: Exception | None) -> None:
        if error is not None or result is None:
            self._refused(error)
            return
        self.durable = result[0]
        self._count(len(self._under_way))
        self._under_way.clear()
        if self._asides:
            self._show_asides()
        if self._events_under_way:
            self._events_under_way = []
        if self._buffer:
            self._send()
        if self._changed is not None:
            self._wake()

    def _count(self, chunks: int) -> None:
        began, self._began = self._began, None
        seconds = None if began is None else time.perf_counter() - began
        metrics.turn_written(self._figures, chunks, seconds)

    def _refused(self, error: Exception | None) -> None:
        sent = self._under_way.copy()
        self._under_way.clear()
        events, self._events_under_way = self._events_under_way, []
        if isinstance(error, LogOverloaded):
            self._buffer[:0] = sent
            self._events[:0] = events
            self._size += sum(len(entry.body) for entry in sent)
            self._pause = asyncio.get_running_loop().call_later(_OVERLOAD_PAUSE, self._resume)
            return
        self._error = error if isinstance(error, LogError) else LogError(str(error))
        self.on_error()
        self._wake()

    def _resume(self) -> None:
        self._pause = None
        if self._buffer:
            self._send()


class TimedTurnWriter(TurnWriter):
    """A TurnWriter whose slow appends have spans."""

    _began = 0.0

    def _send(self) -> None:
        self._began = time.time()
        super()._send()

    def _sent(self, result: list[int] | None, error: Exception | None) -> None:
        began, entries = self._began, len(self._under_way)
        if time.time() - began >= spans.SLOW_APPEND:
            spans.appended(began, time.time(), entries)
        super()._sent(result, error)
