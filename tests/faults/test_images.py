"""Loss of power at any call, and kill -9 at chosen ones: what clients were told holds."""

from __future__ import annotations

import random
from pathlib import Path

import httpx
import pytest
from support import images
from support.ledger import Ledger
from support.server import ServerProcess

#: How much of what was not synced is there: all (a kill), nothing, some.
KEEPS = (1.0, 0.0, 0.5, 0.9)


async def recorded(folder: Path, count: int, seed: int) -> tuple[Ledger, list[images.Call], Path]:
    """A run, from the first start on, and every call on its data."""
    trace, data = folder / "trace", folder / "data"
    server = ServerProcess(data, key=None, wrapper=images.command(trace))
    ledger = Ledger(seed)
    try:
        server.start()
        await ledger.drive(server, count)
        server.kill()
    finally:
        server.stop()
    assert len(ledger.asked) >= count * 0.7
    return ledger, images.calls_on(trace, data), data


async def start_on_image(
    ledger: Ledger, calls: list[images.Call], data: Path, folder: Path, chosen: random.Random
) -> None:
    """Start on one image, and ask it for all that was told until then."""
    cut = chosen.randrange(1, len(calls))
    keeps = chosen.choice(KEEPS)
    folder.mkdir()
    images.disk_after(calls[:cut], data).put(folder / "data", chosen, keeps)
    server = ServerProcess(folder / "data", key=None)
    moment = calls[cut].at
    try:
        server.start()
        await ledger.check(server, moment)
        assert server.errors() == []
    except (AssertionError, KeyError, httpx.HTTPError) as error:
        raise AssertionError(f"call {cut} of {len(calls)}, {keeps:.0%} kept") from error
    finally:
        server.stop()


async def try_images(folder: Path, *, count: int, pictures: int, seed: int) -> None:
    ledger, calls, data = await recorded(folder, count, seed)
    assert {"fdatasync", "pwrite64", "rename", "fsync"} <= {call.name for call in calls}
    chosen = random.Random(seed)
    for number in range(pictures):
        await start_on_image(ledger, calls, data, folder / f"image{number}", chosen)


async def test_what_was_told_is_there_after_a_loss_of_power(tmp_path: Path) -> None:
    await try_images(tmp_path, count=20, pictures=3, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 15))
async def test_many_losses_of_power(tmp_path: Path, seed: int) -> None:
    await try_images(tmp_path, count=150, pictures=60, seed=seed)
