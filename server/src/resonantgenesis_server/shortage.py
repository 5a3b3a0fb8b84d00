"""A line in the log when descriptors, disk, memory or the event loop run short: before it hurts.

Each is looked at every few seconds. A line comes when its share in use crosses the threshold, and
another when there is room again; in between the log is silent.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from .background import Background
from .config.settings import Settings
from .metrics import METERS

log_ = structlog.get_logger("resonantgenesis.shortage")

#: Seconds between two looks.
EVERY = 5.0
_GIB = 1 << 30
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Reading:
    """The share that is in use, and what it is made of."""

    share: float
    used: float
    limit: float


@dataclass(slots=True)
class Resource:
    """`read` gives None where the system does not tell. It is short from the share `short` on, and
    no more below `ample`: the distance keeps a share that swings from being told each time."""

    name: str
    read: Callable[[], Reading | None]
    short: float
    ample: float
    todo: str
    is_short: bool = False

    def look(self) -> None:
        """Log a crossing."""
        reading = self.read()
        if reading is None:
            return
        if not self.is_short and reading.share >= self.short:
            self.is_short = True
            log_.warning(
                f"{self.name} runs short: {self.todo}",
                used=round(reading.used, 3),
                limit=round(reading.limit, 3),
                percent=round(100 * reading.used / reading.limit),
            )
        elif self.is_short and reading.share < self.ample:
            self.is_short = False
            log_.info(f"there is room again: {self.name}")


class ShortageWatch:
    """Looks at each resource in a thread, since a look may wait for the disk."""

    def __init__(self, resources: Sequence[Resource], every: float = EVERY) -> None:
        self._resources = tuple(resources)
        self._every = every
        self._loop = Background("shortage", self._run)

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def _run(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await self._loop.woken(self._every)

    def look(self) -> None:
        for each in self._resources:
            each.look()


def resources_of(settings: Settings) -> list[Resource]:
    """What this server can run short of. Each threshold leaves time to act."""
    folders = {settings.data}
    if settings.files and not settings.files.startswith("s3://"):
        folders.add(Path(settings.files))
    disks = [
        # Uploads are refused at the reserve. Four times of it are minutes at the pace of a disk.
        Resource(
            f"the disk of {folder}",
            partial(disk, folder, settings.limits.disk_reserve),
            short=1.0,
            ample=0.95,
            todo="make room, or move the data directory; when it is full, turns fail",
        )
        for folder in sorted(folders)
    ]
    return [
        # As the alert ResonantGenesisDescriptors: a fifth is what a rush of viewers takes at once.
        Resource(
            "open files",
            descriptors,
            short=0.8,
            ample=0.7,
            todo="raise the limit (LimitNOFILE, ulimit -n), or lower limits.connections",
        ),
        *disks,
        # The kernel ends a process at 100 %. A tenth holds some seconds of large uploads and turns.
        Resource(
            "memory",
            memory,
            short=0.9,
            ample=0.85,
            todo="give the server more, or lower limits.turns and limits.connections; at the end of"
            " it the system kills the process",
        ),
        # A tenth of a second is what people begin to see between a token and its screen.
        Resource(
            "the event loop",
            LoopTime().read,
            short=1.0,
            ample=0.5,
            todo="an agent blocks it, or one process has too much to do: use more workers or nodes",
        ),
    ]


def descriptors() -> Reading | None:
    """Open files of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = sum(1 for _ in (_PROC / "self" / "fd").iterdir())
    except OSError:
        return None
    return None if soft == resource.RLIM_INFINITY else Reading(used / soft, used, soft)


def disk(folder: Path, reserve: int) -> Reading | None:
    """The space that has to stay free, against what is free: 1.0 is where it becomes short. On a
    small disk a tenth of it is enough."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    wanted = min(max(4 * reserve, _GIB), total // 10)
    return Reading(wanted / max(free, 1), total - free, total)


def memory() -> Reading | None:
    """Memory of the control group, if it has a limit, else of the machine; files that the system
    keeps in memory do not count."""
    return _of_group() or _of_machine()


def _of_group() -> Reading | None:
    try:
        line = (_PROC / "self" / "cgroup").read_text().strip().splitlines()[-1]
        folder = _CGROUPS / line.partition("::")[2].lstrip("/")
        if not (folder / "memory.max").exists():
            folder = _CGROUPS  # in a container, which sees its own group as the root
        limit = int((folder / "memory.max").read_text())  # ValueError for "max": no limit
        used = int((folder / "memory.current").read_text())
        kept = dict(part.split() for part in (folder / "memory.stat").read_text().splitlines())
        used -= int(kept.get("inactive_file", 0))
    except (OSError, ValueError, IndexError):
        return None
    return Reading(used / limit, used, limit) if limit else None


def _of_machine() -> Reading | None:
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
        sizes = {
            name: int(rest.split()[0]) * 1024 for name, _, rest in (x.partition(":") for x in lines)
        }
        total, free = sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return Reading(1 - free / total, total - free, total)


class LoopTime:
    """How late the event loop was since the last look, on average, against a tenth of a second."""

    LATE = 0.1

    def __init__(self) -> None:
        self._sum, self._count = METERS.loop_lag.sum, METERS.loop_lag.cumulative[-1]

    def read(self) -> Reading | None:
        late, number = METERS.loop_lag.sum, METERS.loop_lag.cumulative[-1]
        passed, count = late - self._sum, number - self._count
        self._sum, self._count = late, number
        return Reading(passed / count / self.LATE, passed / count, self.LATE) if count else None
