"""Server processes: started, pinned, measured and ended by pid."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")
#: The servers' core and that of the generator, the publisher and this program.
SERVER_CORE, LOAD_CORE = 0, 1
START_TIMEOUT = 60.0
STOP_TIMEOUT = 8.0


class BenchError(Exception):
    """A measurement that cannot be made; the message says why."""


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command on one core, where there are two and taskset is there."""
    if not can_pin():
        return list(command)
    return ["taskset", "--cpu-list", str(core), *command]


def can_pin() -> bool:
    return shutil.which("taskset") is not None and {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(
        0
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def raise_file_limit() -> int:
    """The soft limit of open files to the hard one, for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of a server since its start, and its resident memory in bytes."""

    cpu: float
    memory: int


class Process:
    """One program with what it starts, on the servers' core."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = directory / f"{Path(command[0]).name}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RESONANTGENESIS_")}
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                pinned(SERVER_CORE, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd or directory,
                env={**clean, **(environment or {})},
                start_new_session=True,
            )

    def wait_for_port(self, port: int) -> None:
        """Until it accepts connections. Raises BenchError."""
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            if self._popen.poll() is not None:
                raise BenchError(f"ended at once ({self._popen.returncode}): {self._last_line()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise BenchError(f"did not listen within {START_TIMEOUT:.0f} s: {self._last_line()}")

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def pids(self) -> list[int]:
        try:
            whole = psutil.Process(self._popen.pid)
            return [whole.pid, *(child.pid for child in whole.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is still there after a while."""
        pids = self.pids()
        if self.is_alive():
            self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_TIMEOUT)
        for pid in pids:
            if pid != self._popen.pid or self.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._popen.wait(STOP_TIMEOUT)


class Server:
    """A server under measurement: one process or several, and the port viewers connect to."""

    def __init__(self, port: int, directory: Path, processes: Sequence[Process]) -> None:
        self.port = port
        self.directory = directory
        self._processes = list(processes)

    def usage(self) -> Usage:
        """Of all its processes together. Raises BenchError when one has died."""
        if not all(process.is_alive() for process in self._processes):
            raise BenchError("a process of the server has ended")
        pids = [pid for process in self._processes for pid in process.pids()]
        return Usage(sum(map(_cpu_seconds, pids)), sum(map(_resident_bytes, pids)))

    def stop(self) -> None:
        for process in self._processes:
            process.stop()


def _cpu_seconds(pid: int) -> float:
    """utime + stime of all threads, from /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@contextlib.contextmanager
def stopping(processes: list[Process]) -> Iterator[list[Process]]:
    """Ends what was started so far when a later start fails."""
    try:
        yield processes
    except BaseException:
        for process in processes:
            process.stop()
        raise
