"""A log that fails when the test says so, over a real one."""

from __future__ import annotations

import asyncio
from typing import Any

from resonantgenesis_server.log.base import Append, LogUnavailable, Page
from resonantgenesis_server.log.sqlite import SqliteLog


class FailingLog:
    """`writes`: appends are refused. `reads`: so are reads. `lost`: the next so many appends
    take, but their answer says they failed. `streams`: only appends to these are concerned."""

    def __init__(self, log: SqliteLog, *, writes: bool = False, reads: bool = False) -> None:
        self._log = log
        self.writes = writes
        self.reads = reads
        self.lost = 0
        self.streams: set[str] | None = None
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def heal(self) -> None:
        self.writes = self.reads = False
        self.lost = 0

    def _concerned(self, appends: tuple[Append, ...]) -> bool:
        return self.streams is None or any(part.stream in self.streams for part in appends)

    def append(self, *appends: Append) -> asyncio.Future[list[int]]:
        if not self._concerned(appends):
            return self._log.append(*appends)
        if self.writes:
            self.refused += 1
            future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
            future.set_exception(LogUnavailable("no space left"))
            return future
        if self.lost:
            self.lost -= 1
            self.refused += 1
            return asyncio.ensure_future(self._lose(self._log.append(*appends)))
        return self._log.append(*appends)

    async def _lose(self, future: asyncio.Future[list[int]]) -> list[int]:
        await future
        raise LogUnavailable("the connection broke")

    async def read(self, stream: str, after: int, **bounds: Any) -> Page:
        if self.reads:
            raise LogUnavailable("cannot be read")
        return await self._log.read(stream, after, **bounds)

    async def delete(self, *streams: str) -> None:
        if self.writes:
            raise LogUnavailable("no space left")
        await self._log.delete(*streams)
