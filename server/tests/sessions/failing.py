"""A log that fails when the test says so, over a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from resonantgenesis_server.log.base import Append, LogUnavailable, Outcome, Page
from resonantgenesis_server.log.sqlite.log import SqliteLog


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

    def _concerned(self, appends: Sequence[Append]) -> bool:
        return self.streams is None or any(part.stream in self.streams for part in appends)

    def append(self, *appends: Append) -> asyncio.Future[list[int]]:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def resolve(result: list[int] | None, error: Exception | None) -> None:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result or [])

        self.submit(appends, resolve)
        return future

    def submit(self, appends: Sequence[Append], outcome: Outcome) -> None:
        if not self._concerned(appends) or not (self.writes or self.lost):
            return self._log.submit(appends, outcome)
        self.refused += 1
        if self.writes:
            refusal = LogUnavailable("no space left")
            asyncio.get_running_loop().call_soon(outcome, None, refusal)
            return None
        self.lost -= 1
        broken = LogUnavailable("the connection broke")
        return self._log.submit(appends, lambda _result, _error: outcome(None, broken))

    async def read(self, stream: str, after: int, **bounds: Any) -> Page:
        if self.reads:
            raise LogUnavailable("cannot be read")
        return await self._log.read(stream, after, **bounds)

    async def delete(self, *streams: str, appends: Sequence[Append] = ()) -> None:
        if self.writes:
            raise LogUnavailable("no space left")
        await self._log.delete(*streams, appends=appends)
