"""What stays open is looked at once a second: is its credential still good, does it move?

One task for all streams, since a timer per stream would cost more than the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from ..model.errors import ApiError, Unauthenticated
from ..model.principal import Principal

log_ = structlog.get_logger("resonantgenesis.watch")

#: Seconds between looks; with the authenticator's own memory of one second, the end of a
#: credential ends its streams within two.
INTERVAL = 0.5

Recheck = Callable[[Principal], Awaitable[None]]


class Watched(Protocol):
    """An open stream."""

    principal: Principal

    def end(self, error: ApiError) -> None:
        """Tell the client this error and close."""
        ...

    def check_progress(self, now: float) -> None:
        """Close if the client has taken nothing for too long; `now` is the loop's time."""
        ...


class Watch:
    """Ends streams whose credential has ended or whose client has stalled."""

    def __init__(self, recheck: Recheck) -> None:
        self._recheck = recheck
        self._open: set[Watched] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def add(self, stream: Watched) -> None:
        self._open.add(stream)

    def discard(self, stream: Watched) -> None:
        self._open.discard(stream)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="stream watch")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)

    def end_all(self, error: ApiError) -> None:
        """The server goes away."""
        for stream in tuple(self._open):
            stream.end(error)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._look(loop.time())
            except Exception as error:  # one bad look must not be the last
                log_.error("streams could not be checked", exc_info=error)

    async def _look(self, now: float) -> None:
        groups: dict[tuple[str, float | None], list[Watched]] = {}
        for stream in self._open:
            stream.check_progress(now)
            principal = stream.principal
            groups.setdefault((principal.key_id, principal.expires_at), []).append(stream)
        for streams in groups.values():
            try:
                await self._recheck(streams[0].principal)
            except Unauthenticated as error:
                for stream in streams:
                    stream.end(error)
