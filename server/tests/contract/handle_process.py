"""A program that does all that a writer may, on streams that others write as well, and keeps a
line for everything that it begins and for how it ended.

    handle_process.py BACKEND PLACE SEED OUTPUT
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from resonantgenesis_server.log.base import Append, LogError, LogUnavailable, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.spread import SpreadLog
from resonantgenesis_server.log.sqlite.log import SqliteLog

STREAMS = ["g0", "g0/x", "g1", "g1/x", "g2", "g3"]


class Handle:
    def __init__(self, log: Any, seed: int, output: int) -> None:
        self._log = log
        self._random = random.Random(seed)
        self._output = output
        self._count = 0
        self._heads = dict.fromkeys(STREAMS, 0)
        self._fences: list[int] = []

    def _say(self, **line: Any) -> None:
        os.write(self._output, json.dumps(line).encode() + b"\n")

    async def produce(self) -> None:
        while True:
            await self._log.room()
            if self._random.random() < 0.05:
                self._fences = [*self._fences[-2:], await self._log.next_fence()]
            await self._append()

    def _one(self, stream: str, body: str, fence: int | None) -> Append:
        key = None
        if self._random.random() < 0.3:
            key = f"k{self._random.randrange(400)}"
        expect = None
        if self._random.random() < 0.2:
            expect = self._heads[stream]
        entries = [NewEntry("m", json.dumps({"body": body, "fence": fence}).encode(), key)]
        return Append(stream, entries, fence=fence, expect=expect)

    async def _append(self) -> None:
        self._count += 1
        name = f"{os.getpid()}.{self._count}"
        stream = self._random.choice(STREAMS)
        fence = None
        if self._fences and self._random.random() < 0.3:
            fence = self._random.choice(self._fences)
        call = [self._one(stream, name, fence)]
        if stream in ("g0", "g1") and self._random.random() < 0.5:
            call.append(self._one(f"{stream}/x", name, fence))
        self._say(
            do=name,
            streams=[append.stream for append in call],
            keys=[append.entries[0].key for append in call],
        )
        try:
            result = await self._log.append(*call)
        except LogUnavailable as error:
            self._say(done=name, unknown=str(error))
        except LogError as error:
            self._say(done=name, refused=type(error).__name__)
            page = await self._log.read(stream, 1 << 40)
            self._heads[stream] = 0 if page.info is None else page.info.head
        else:
            self._say(done=name, positions=result)
            for append, position in zip(call, result, strict=True):
                self._heads[append.stream] = position


async def main(backend: str, place: str, seed: int, output: Path) -> None:
    log: Any
    if backend == "postgres":
        log = await PostgresLog.open(place)
    elif backend == "postgres-spread":
        log = await SpreadLog.open(place.split(), is_shared={"events"}.__contains__)
    else:
        log = await SqliteLog.open(Path(place))
    handle = Handle(log, seed, os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    while True:
        try:
            await asyncio.gather(*(handle.produce() for _ in range(6)))
        except LogUnavailable:  # of a fence or a read, which changes nothing
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
