"""The pace at which a stream reaches its reader: in lists, or at a limited rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import Generic, TypeVar

from .._realtime.keepalive import TokenBucket

T = TypeVar("T")


class BufferedStream(Generic[T]):
    """Lists of what `stream` brings: `buffer_size` items, or as many as there are `max_wait`
    seconds after the first of them, so that a slow stream is not held back. The last list may be
    shorter; an error of the stream comes after what came before it."""

    def __init__(
        self, stream: AsyncIterable[T], buffer_size: int = 10, *, max_wait: float = 0.1
    ) -> None:
        if buffer_size < 1 or max_wait < 0:
            raise ValueError("buffer_size must be 1 or more, max_wait 0 or more")
        self.stream = stream
        self.buffer_size = buffer_size
        self.max_wait = max_wait

    async def __aiter__(self) -> AsyncIterator[list[T]]:
        items = aiter(self.stream)
        coming: asyncio.Future[T] | None = None
        try:
            while True:
                # The first one is awaited right here: nothing waits with it.
                try:
                    buffer = [await (anext(items) if coming is None else coming)]
                except StopAsyncIteration:
                    return
                deadline = time.monotonic() + self.max_wait
                coming = None
                while len(buffer) < self.buffer_size:
                    coming = asyncio.ensure_future(anext(items))
                    await asyncio.wait([coming], timeout=max(0.0, deadline - time.monotonic()))
                    if not coming.done() or coming.exception() is not None:
                        break
                    buffer.append(coming.result())
                    coming = None
                # What came is handed over first; then the one that is waited for, or the end.
                yield buffer
        finally:
            if coming is not None and not coming.done():
                coming.cancel()
                await asyncio.wait([coming])


class RateLimitedStream(Generic[T]):
    """The items of `stream`, at most `rate_limit` a second, evenly; it is not read faster."""

    def __init__(self, stream: AsyncIterable[T], rate_limit: float = 100) -> None:
        if not rate_limit > 0:
            raise ValueError("rate_limit must be more than 0")
        self.stream = stream
        self.rate_limit = rate_limit

    async def __aiter__(self) -> AsyncIterator[T]:
        bucket = TokenBucket(self.rate_limit, 1)
        async for item in self.stream:
            wait = bucket.wait(time.monotonic())
            if wait > 0:
                await asyncio.sleep(wait)
            yield item
