"""A turn in the hands of this worker: its handler, and the messages that wait for the server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ..serving import AgentError, Keep, Turn, Usage
from .asks import HandlerAsks, Stopped, Took
from .handlers import Handler, encoded, items

log = logging.getLogger("resonantgenesis.serving")

#: Bytes of chunks in one message, about, and chunks: half of those that the server takes.
_MESSAGE_BYTES = 64 * 1024
_MESSAGE_CHUNKS = 5_000
#: Bytes of a message around its chunks, about.
_FRAME = 512
#: Chunks after which a handler that never waits lets others run.
_TURN = 32
#: Seconds that a cancelled handler has to end before its slot is given up.
_CANCEL_SECONDS = 30.0


class Assignment:
    """Runs the handler from `start` on.

    What the handler yields waits in here: first as chunks, then in numbered messages until the
    server has taken them. Beyond the window the handler waits. So a cut of the connection loses
    nothing, and a message that is sent again is dropped by its number.
    """

    def __init__(
        self,
        id: str,
        raw: dict[str, Any],
        handler: Handler,
        window: int,
        largest: int,
        changed: Callable[[Assignment], None],
        over: Callable[[Assignment], None],
    ) -> None:
        """`window`: bytes that may wait. `largest`: bytes of a message. `changed`: there is
        something to send. `over`: the handler has ended."""
        self.id = id
        #: The server wants its chunks.
        self.is_wanted = True
        #: The handler has ended.
        self.is_over = False
        self._raw = raw
        self._handler = handler
        self._window = window
        self._largest = largest
        self._changed = changed
        self._over = over
        self._chunks: list[tuple[str, int]] = []
        self._size = 0
        self._end: dict[str, Any] | None = None
        self._seq = 0
        #: Number, text and size of messages that the server has not taken.
        self._messages: deque[tuple[int, str, int]] = deque()
        self._waiting = 0
        #: The number of the newest message that was given to the present socket.
        self._sent = 0
        self._has_room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asks = HandlerAsks(raw, self._stop)

    @property
    def is_done(self) -> bool:
        """Whether the handler has ended, and the server has everything or wants nothing."""
        waits = self._chunks or self._messages or self._end is not None
        return self.is_over and not (self.is_wanted and waits)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"turn {self.id}")

    def acked(self, seq: int) -> None:
        """The server has taken the messages up to this one."""
        while self._messages and self._messages[0][0] <= seq:
            self._waiting -= self._messages.popleft()[2]
        self._has_room.set()
        self._changed(self)

    def resumed(self, seq: int) -> None:
        """There is a new socket, and the server has the messages up to this one."""
        self._sent = seq
        self.acked(seq)

    def messages(self) -> list[str]:
        """The messages that may be sent now; each comes once for each socket."""
        found = [text for seq, text, _ in self._messages if seq > self._sent]
        while self.is_wanted and self._waiting < self._window and self._has_more:
            found.append(self._next_message())
        self._sent = self._seq
        return found

    def cancel(self) -> None:
        """The server wants no more chunks: end the handler."""
        self.is_wanted = False
        self._chunks.clear()
        self._messages.clear()
        self._end = None
        self._has_room.set()
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Return when the handler has ended, or has had its time to."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CANCEL_SECONDS)

    # -- inside ----------------------------------------------------------------------------

    @property
    def _has_more(self) -> bool:
        return bool(self._chunks) or self._end is not None

    async def _run(self) -> None:
        try:
            try:
                await self._produce()
            except asyncio.CancelledError:
                if not self._asks.is_stopping:
                    raise
            self._leave_asks()
            self._end = {}
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.is_wanted and (task is None or not task.cancelling()):
                self._end = _error("the agent cancelled itself")
        except AgentError as error:
            self._end = _agent_error(error)
        except Exception as error:
            if self.is_wanted:
                log.exception("the handler of a turn failed", exc_info=error)
            self._end = _error("the agent failed")
        finally:
            self._asks.close()
            self.is_over = True
            if not self.is_wanted:
                self._end = None
            self._changed(self)
            self._over(self)

    async def _produce(self) -> None:
        count = 0
        turn = Turn.of(self._raw)
        self._asks.answers = dict(turn.answers)
        turn = replace(turn, kept=self._asks.kept, asks=self._asks)
        async with aclosing(items(self._handler, turn)) as produced:
            async for item in produced:
                if self._asks.is_stopping:
                    return
                self._take(item)
                self._changed(self)
                count += 1
                if count % _TURN == 0:
                    await asyncio.sleep(0)
                while self._size + self._waiting >= self._window and self.is_wanted:
                    self._has_room.clear()
                    await self._has_room.wait()

    def _take(self, item: object) -> None:
        asks = self._asks
        match item:
            case Took():
                asks.took(item.call_id)
                return
            case Stopped():
                asks.stopped(item.ask)
                return
            case Keep():
                asks.kept = item.value
        if not asks.is_repeating or isinstance(item, Usage):  # its tokens are used once more
            for chunk in encoded(item):
                self._keep(chunk)

    def _leave_asks(self) -> None:
        """The handler has ended: the turn waits if it asks for something."""
        asks = self._asks
        if asks.is_repeating:
            raise AgentError("the agent was started again, and did not ask as it had before")
        if asks.asked:
            for item in (Keep(asks.keep), *asks.asked):
                for chunk in encoded(item):
                    self._keep(chunk)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _keep(self, chunk: str) -> None:
        size = len(chunk) if chunk.isascii() else len(chunk.encode())
        if size > self._largest - _FRAME:
            raise AgentError(
                f"a chunk of {size} bytes; a worker's message takes {self._largest}",
                "PAYLOAD_TOO_LARGE",
            )
        self._chunks.append((chunk, size))
        self._size += size

    def _next_message(self) -> str:
        """The next chunks, as many as fit: at least one, unless there is only the end."""
        count = size = 0
        for _, bytes_ in self._chunks:
            if count == _MESSAGE_CHUNKS or (count and size + bytes_ >= _MESSAGE_BYTES):
                break
            size += bytes_
            count += 1
        taken = [chunk for chunk, _ in self._chunks[:count]]
        del self._chunks[:count]
        self._size -= size
        self._seq += 1
        last = ""
        if self._end is not None and not self._chunks:
            error = self._end.get("error")
            last = ',"is_last":true' + (f',"error":{json.dumps(error)}' if error else "")
            self._end = None
        text = (
            f'{{"type":"chunks","assignment":"{self.id}","seq":{self._seq},'
            f'"chunks":[{",".join(taken)}]{last}}}'
        )
        size += _FRAME
        self._messages.append((self._seq, text, size))
        self._waiting += size
        return text


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}


def _agent_error(error: AgentError) -> dict[str, Any]:
    fields = {
        "message": error.message,
        "code": error.code,
        "retryable": error.retryable,
        "retry_after": error.retry_after,
    }
    return {"error": {name: value for name, value in fields.items() if value is not None}}
