"""How many connections the process takes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

log_ = structlog.get_logger("resonantgenesis.serving")

#: Descriptors kept for the stores, files, models and tools, at most; of few, a quarter.
_RESERVE = 256
#: Descriptors asked for at most.
_MOST_FILES = 65_536
#: Connections beyond the cap that are looked at: a health check is among them, or it is told that
#: there is no room. Beyond these nobody is told anything.
SURPLUS = 64
#: Seconds that those have to say what they want.
SURPLUS_WITHIN = 2.0
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
#: Seconds between looks for a descriptor, and between two lines in the log.
_LOOK, _COMPLAIN = 1.0, 60.0


def raise_file_limit() -> None:
    """Take what the system allows without asking: the usual 1,024 is for programs that wait with
    `select`, and would be some 700 viewers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """`most` connections are served; 0: any number."""

    most: int = 0

    @classmethod
    def of(cls, setting: int) -> ConnectionLimit:
        """The setting, else what the open-file limit leaves when others have got theirs."""
        if setting:
            return cls(setting)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return cls()
        return cls(max(soft - min(_RESERVE, soft // 4) - SURPLUS, 1))


@contextlib.asynccontextmanager
async def watching_descriptors() -> AsyncIterator[None]:
    """Within the block the log says so, once a minute, when descriptors have run out: nothing
    else would, since the event loop drops the connections that it cannot accept."""
    task = asyncio.create_task(_watch(), name="descriptor watch")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


async def _watch() -> None:
    probe = os.open(os.devnull, os.O_RDONLY)
    try:
        while True:
            await asyncio.sleep(_LOOK)
            if _has_run_out(probe):
                soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                log_.error(
                    "no file descriptor is left; raise the open-file limit (ulimit -n), or lower"
                    " limits.connections",
                    open_files=soft,
                )
                await asyncio.sleep(_COMPLAIN)
    finally:
        os.close(probe)


def _has_run_out(probe: int) -> bool:
    try:
        os.close(os.dup(probe))
    except OSError as error:
        if error.errno not in {errno.EMFILE, errno.ENFILE}:
            raise
        return True
    return False
