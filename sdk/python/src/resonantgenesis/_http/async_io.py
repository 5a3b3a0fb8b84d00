"""What only the asynchronous client does: waiting, threads, locks, one connection pool per loop.

`sync_io` has the same names for the synchronous client, which `scripts/sync_client.py` generates
from the asynchronous one.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress

import httpx

from .._core.actions import Outcome, Received
from .._core.settings import Settings
from .._files.local import SyncSource
from .._process.reachability import Reachability
from .adapter import client_options

#: Seconds that the end of a finished stream is waited for.
LAST_BYTES = 0.1

Lock = asyncio.Lock
sleep = asyncio.sleep
to_thread = asyncio.to_thread
#: What `files.upload` takes.
Source = SyncSource | AsyncIterable[bytes]


class AsyncConnections:
    """One process's connections, pooled per event loop: a module's client outlives its loops."""

    def __init__(self, settings: Settings) -> None:
        self.reach = Reachability(settings)
        self._options = client_options(settings)
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def client(self) -> httpx.AsyncClient:
        """The running loop's pool."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx.AsyncClient(**self._options)
        return client

    async def aclose(self) -> None:
        """Close the running loop's connections; those of ended loops are gone already."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


async def read_rest(read: Callable[[float], Awaitable[Outcome]]) -> None:
    """Read a finished stream to its end, so that its connection can be used again.

    The end follows the last chunk at once. What takes longer is not worth waiting for.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_BYTES):
            while isinstance(await read(LAST_BYTES), Received):
                continue
