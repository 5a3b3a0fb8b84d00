"""Blocking agents: each turn in a daemon thread of its own, its chunks read on the event loop.

There is no shared pool: an agent that hangs would take a worker from the others for ever. When the
turn is over, the thread stops at its next yield. A thread without a next yield is abandoned: it can
emit nothing, and counts against the bound until it ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ..model.errors import AgentError

#: How many chunks an agent may be ahead of its reader: one half waits for the reader, which takes
#: all that wait at once, while the other half is in the reader's hands.
AHEAD = 64

#: Seconds after which a thread that waits for its reader looks whether the loop still exists.
_LOOP_CHECK = 60.0

#: Seconds until a client may try again when all agent threads are taken.
_RETRY_AFTER = 5.0

_log = logging.getLogger(__name__)


T = TypeVar("T")


class ThreadStopped(BaseException):
    """Ends an agent's thread whose turn needs it no more, at the place where it waits."""


def result_in_thread(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """The result of `work`, which runs on the loop while this thread waits for it.

    Raises what `work` raises, and ThreadStopped if it was cancelled or the loop is closed.
    """
    try:
        waiting = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError as error:  # the server has stopped
        work.close()
        raise ThreadStopped from error
    while True:
        try:
            return waiting.result(_LOOP_CHECK)
        except concurrent.futures.CancelledError as error:
            raise ThreadStopped from error
        except TimeoutError:
            if waiting.done():
                raise
            if loop.is_closed():
                raise ThreadStopped from None


@dataclass(frozen=True, slots=True)
class Returned:
    """The result of a blocking function that is no iterator."""

    value: object


class AgentThread:
    """One turn of a blocking agent.

    `work` is called in the thread, with the caller's context variables. Its result is iterated in
    the thread; another result comes out as one `Returned`.
    """

    #: How many agent threads exist in this process, abandoned ones included.
    live: ClassVar[int] = 0
    #: How many may.
    limit: ClassVar[int] = 512
    _counting: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work = work
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._changed = threading.Condition()
        self._buffer: list[object] = []
        self._error: Exception | None = None
        self._reader_waits = False
        self._finished = False
        self._stopped = False

    async def items(self) -> AsyncGenerator[object, None]:
        """Start the thread and yield its items; then raise the agent's exception, if any.

        Closing this iterator stops the thread without waiting for it. Raises `AgentError` with code
        MODEL_UNAVAILABLE, which clients may retry, when there are `limit` threads already.
        """
        self._start()
        try:
            finished = False
            while not finished:
                batch, finished = await self._take()
                for item in batch:
                    yield item
            if self._error is not None:
                raise self._error
        finally:
            self.stop()

    def stop(self) -> None:
        """Emit nothing from now on; the agent's iterator is closed at its next yield."""
        with self._changed:
            self._stopped = True
            self._buffer = []
            self._changed.notify_all()

    def _start(self) -> None:
        with AgentThread._counting:
            if AgentThread.live >= AgentThread.limit:
                raise _unavailable()
            AgentThread.live += 1
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._main,), name=self._name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError as exc:  # the system has no more threads
            _count_down()
            raise _unavailable() from exc

    async def _take(self) -> tuple[list[object], bool]:
        """All that waits, and whether that is the end. Bounded by the turn's own time limit."""
        while True:
            with self._changed:
                if self._buffer or self._finished:
                    batch, self._buffer = self._buffer, []
                    self._changed.notify_all()
                    return batch, self._finished
                self._reader_waits = True
                self._ready.clear()
            await self._ready.wait()

    # Below: in the thread.

    def _main(self) -> None:
        try:
            self._pump()
        except ThreadStopped:
            self._finish(None)
        except Exception as exc:
            self._finish(exc)
        except BaseException as exc:  # sys.exit() in an agent must not end the server
            wrapped = RuntimeError(f"the agent raised {type(exc).__name__}")
            wrapped.__cause__ = exc
            self._finish(wrapped)
        else:
            self._finish(None)
        finally:
            _count_down()

    def _pump(self) -> None:
        produced = self._work()
        if not isinstance(produced, Iterator):
            self._put(Returned(produced))
            return
        try:
            for item in produced:
                if not self._put(item):
                    break
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()

    def put(self, item: object) -> None:
        """Hand an item to the reader, behind all that the agent has yielded. For code of the agent,
        in its thread. Raises ThreadStopped when the reader is gone."""
        if not self._put(item):
            raise ThreadStopped

    def _put(self, item: object) -> bool:
        """Wait until the reader has room; False when the reader is gone."""
        with self._changed:
            while len(self._buffer) >= AHEAD // 2 and not self._stopped:
                if not self._changed.wait(_LOOP_CHECK) and self._loop.is_closed():
                    self._stopped = True
            if self._stopped:
                return False
            self._buffer.append(item)
            self._wake_reader()
            return True

    def _finish(self, error: Exception | None) -> None:
        with self._changed:
            self._finished = True
            self._error = error
            stopped = self._stopped
            self._wake_reader()
        if stopped and error is not None:
            _log.warning("agent %s failed after its turn had ended", self._name, exc_info=error)

    def _wake_reader(self) -> None:
        """One call into the loop per batch: a reader that is busy looks by itself."""
        if not self._reader_waits:
            return
        self._reader_waits = False
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the loop is closed: nobody reads any more
            self._stopped = True


def _count_down() -> None:
    with AgentThread._counting:
        AgentThread.live -= 1


def _unavailable() -> AgentError:
    return AgentError(
        "too many agents are running in threads; try again later",
        "MODEL_UNAVAILABLE",
        retry_after=_RETRY_AFTER,
    )
