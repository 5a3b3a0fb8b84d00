"""Keeps what a clock knows over a restart, in the file `clock` of the data directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from ..model.clock import Clock, Gap, Known, boot_id
from .private_file import read_private, write_private

log_ = structlog.get_logger("resonantgenesis.clock")

#: Seconds between two writes of the file.
_EVERY = 60.0


@contextlib.asynccontextmanager
async def keeping_clock(path: Path) -> AsyncIterator[Clock]:
    """The clock of this process; it goes on from what the last process knew."""
    known = await asyncio.to_thread(_load, path)
    clock = Clock(boot=boot_id(), known=known)
    keeper = asyncio.create_task(_keep(path, clock), name="clock")
    try:
        yield clock
    finally:
        keeper.cancel()
        await asyncio.wait({keeper}, timeout=5)
        await asyncio.to_thread(_save, path, clock)


async def _keep(path: Path, clock: Clock) -> None:
    """Also reads the clock each second, so that a step is noticed when nobody asks for the time."""
    while True:
        await asyncio.to_thread(_save, path, clock)
        until = asyncio.get_running_loop().time() + _EVERY
        while asyncio.get_running_loop().time() < until:
            clock.now()
            await asyncio.sleep(1.0)


def _load(path: Path) -> Known | None:
    try:
        text = read_private(path)
        if text is None:
            return None
        kept = json.loads(text)
        gaps = tuple(
            Gap(float(since), float(until), bool(known)) for since, until, known in kept["gaps"]
        )
        now, steady, skipped = (float(kept[name]) for name in ("now", "steady", "skipped"))
        return Known(now, steady, str(kept["boot"]), skipped, gaps)
    except (OSError, ValueError, TypeError, KeyError) as error:
        log_.warning("what was known of the time is lost", file=str(path), error=repr(error))
        return None


def _save(path: Path, clock: Clock) -> None:
    known = clock.known()
    gaps = [[gap.since, gap.until, gap.is_known] for gap in known.gaps]
    kept = {
        "now": known.now,
        "steady": known.steady,
        "boot": known.boot,
        "skipped": known.skipped,
        "gaps": gaps,
    }
    # A full disk is reported where data would be lost.
    with contextlib.suppress(OSError):
        write_private(path, json.dumps(kept) + "\n")
