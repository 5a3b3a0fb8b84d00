"""Output of lines by a thread, so that no caller waits for a slow descriptor.

The disk may be full, the reader of a pipe gone or idle, the descriptor closed. Lines then wait in a
bounded queue; beyond its bound they are dropped and counted. No function here raises or blocks.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic, sleep

from .. import metrics

#: Most bytes that may wait.
MAX_WAITING = 4 * 1024 * 1024
#: Bytes of one write. Other processes may write to the same pipe, and a write up to PIPE_BUF is
#: atomic.
_PIPE_WRITE, _FILE_WRITE = select.PIPE_BUF, 64 * 1024
#: Seconds before a refused write is tried again: first, and at most.
_RETRY_FIRST, _RETRY_MAX = 0.05, 1.0


class LineOutput:
    """A descriptor, and the lines that wait to be written to it.

    `recovered` is called in the thread once it writes again, with the number of dropped lines.
    """

    def __init__(self, descriptor: int, name: str, recovered: Callable[[int], None]) -> None:
        self.descriptor = descriptor
        self._name = name
        self._recovered = recovered
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        # Both are reentrant, since the garbage collector may run a destructor that logs.
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        #: Whether the thread is writing a batch.
        self._writing = False
        self._closed = False
        self._is_child = False
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forked)

    def put(self, line: bytes) -> None:
        """Queue a line, which ends with a line feed."""
        if self._is_child:
            with contextlib.suppress(OSError):
                os.write(self.descriptor, line)
            return
        with self._lock:
            if self._size + len(line) > MAX_WAITING or self._closed:
                self._drop(1)
                return
            was_empty = not self._lines
            self._lines.append(line)
            self._size += len(line)
            if self._thread is None:
                self._start()
        if was_empty:
            self._wake.put(None)

    def flush(self, timeout: float) -> bool:
        """Wait until all lines are written, at most `timeout` seconds. Returns whether they are."""
        ends_at = monotonic() + timeout
        while self._lines or self._writing:
            if monotonic() >= ends_at:
                return False
            sleep(0.005)
        return True

    def close(self) -> None:
        """Take no more lines, and end the thread once its lines are written or refused."""
        self._closed = True
        self._wake.put(None)

    # -- inside ----------------------------------------------------------------------------

    def _start(self) -> None:
        name = f"log-{self._name}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends; the next line tries again
            return
        self._thread = thread

    def _forked(self) -> None:
        """A child process has no thread. Its parent writes the lines that wait."""
        self._is_child = True
        self._lock = threading.RLock()
        self._lines.clear()

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        metrics.log_dropped(self._name, lines)

    def _run(self) -> None:
        limit = self._write_limit()
        while True:
            while batch := self._take(limit):
                if not self._write(batch):
                    return
                self._report_dropped()
            if self._closed:
                return
            self._wake.get()

    def _write_limit(self) -> int:
        try:
            is_file = stat.S_ISREG(os.fstat(self.descriptor).st_mode)
        except OSError:
            is_file = False
        return _FILE_WRITE if is_file else _PIPE_WRITE

    def _take(self, limit: int) -> bytes:
        """Whole lines, at most `limit` bytes together; a longer line comes alone."""
        taken: list[bytes] = []
        size = 0
        with self._lock:
            while self._lines and (not taken or size + len(self._lines[0]) <= limit):
                line = self._lines.popleft()
                size += len(line)
                taken.append(line)
            self._size = self._size - size if self._lines else 0
            self._writing = bool(taken)
        return b"".join(taken)

    def _write(self, batch: bytes) -> bool:
        """Try until the batch is written. Returns False if refused after `close`."""
        rest = memoryview(batch)
        pause = _RETRY_FIRST
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
                pause = _RETRY_FIRST
                continue
            except BlockingIOError:
                self._wait_writable(pause)
            except (OSError, ValueError):
                sleep(pause)
            if self._closed:
                return False
            pause = min(2 * pause, _RETRY_MAX)
        return True

    def _wait_writable(self, seconds: float) -> None:
        with contextlib.suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(self.descriptor, select.POLLOUT)
            poll.poll(seconds * 1000)

    def _report_dropped(self) -> None:
        with self._lock:
            if not self._dropped or self._size > MAX_WAITING // 2:
                return
            dropped, self._dropped = self._dropped, 0
        self._recovered(dropped)


class OutputStream(io.TextIOWrapper):
    """Replaces `sys.stdout` or `sys.stderr`, so that prints of agents and warnings of libraries
    neither block nor fail. `masked` is applied to each text first."""

    def __init__(self, output: LineOutput, masked: Callable[[str], str]) -> None:
        super().__init__(
            _Raw(output),  # type: ignore[arg-type]  # a raw stream, since no text may wait in a buffer
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        self._masked = masked

    def write(self, text: str, /) -> int:
        super().write(self._masked(text))
        return len(text)


class _Raw(io.RawIOBase):
    def __init__(self, output: LineOutput) -> None:
        super().__init__()
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        line = bytes(data)  # type: ignore[call-overload]  # any object with a buffer
        self._output.put(line)
        return len(line)

    def fileno(self) -> int:
        return self._output.descriptor

    def isatty(self) -> bool:
        return os.isatty(self._output.descriptor)


def open_standard_descriptors() -> None:
    """Open the descriptors 0, 1 and 2 that are closed.

    Else the next opened file, such as the log's, would get such a number, and prints would go into
    it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
