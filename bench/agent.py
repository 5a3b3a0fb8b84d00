"""The agent that our server runs in the bench: paced chunks, each with its time and number."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from resonantgenesis_server.agent_api import Turn

_FILLER = " the quick brown fox jumps over the lazy dog while seven wizards box"


def payload(seq: int, size: int) -> str:
    """`@TS:SEQ;` and filler up to `size`; TS in microseconds of the monotonic clock."""
    mark = f"@{time.monotonic_ns() // 1000}:{seq};"
    missing = size - len(mark)
    return mark if missing <= 0 else mark + (_FILLER * (missing // len(_FILLER) + 1))[:missing]


async def paced(turn: Turn) -> AsyncIterator[str]:
    """The goal is JSON: {"rate": 20, "count": 600, "bytes": 64}; rate 0: as fast as possible. With
    "go", the path of a file, nothing comes before that file is there."""
    goal: dict[str, Any] = json.loads(turn.goal)
    rate, count, size = float(goal["rate"]), int(goal["count"]), int(goal["bytes"])
    while "go" in goal and not Path(goal["go"]).exists():
        await asyncio.sleep(0.02)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for seq in range(1, count + 1):
        if rate > 0:
            wait = start + seq / rate - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
        yield payload(seq, size)
