"""kill -9 at every narrow place between the log and the records, several times on one store."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from usage_support import Stores

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).parent / "usage_process.py"
#: Half of what one run takes, so that every store reaches its limit in its first or second.
MONTHLY_TOKENS = 200


async def run(folder: Path, place: str, nth: int, turns: int = 40) -> tuple[set[str], int]:
    """The sessions whose end was durable, and how the process ended."""
    arguments = [str(folder), place, str(nth), str(turns), str(MONTHLY_TOKENS)]
    async with asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    return set(out.decode().splitlines()), process.returncode or 0


@pytest.mark.parametrize(
    ("place", "times"),
    [
        ("counted", (1, 13)),
        ("reading", (1, 2)),
        ("writing", (1, 2, 3)),
        ("written", (1, 3)),
        ("telling", (1, 1)),
        ("told", (1, 2)),
    ],
)
async def test_every_turn_counts_once_and_the_limit_is_reported_once(
    tmp_path: Path, place: str, times: tuple[int, ...]
) -> None:
    durable: set[str] = set()
    if place == "reading":
        durable, _ = await run(tmp_path, "counted", 39)
    killed = 0
    for nth in times:
        ended, code = await run(tmp_path, place, nth)
        killed += code == -signal.SIGKILL
        durable |= ended
    assert killed
    stores = Stores(tmp_path, MONTHLY_TOKENS)
    await stores.open()
    stores.meter.start()
    async with asyncio.timeout(10):
        while stores.meter.budget.due():
            await asyncio.sleep(0.001)
    await stores.meter.settle()
    sums = await stores.agree()
    # Some turns' ends were durable without anybody having been told.
    assert sums.turns >= len(durable) > 0
    assert sums.total_tokens == 10 * sums.turns
    assert stores.meter.budget.state(stores.organization).used == sums.total_tokens
    assert len(await stores.limit_events()) == (sums.total_tokens >= MONTHLY_TOKENS)
    await stores.close()
