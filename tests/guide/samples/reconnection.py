"""A class that connects again whenever it must; its waits double.

Further arguments: the first wait in seconds, and after how many failures in a row to stop.
"""

import asyncio
import json
import time

import websockets
from common import HEADERS, KEY, MORE, URI, tell

FIRST, FAILURES = float(MORE[0]), int(MORE[1])


class ReconnectingWebSocket:
    def __init__(self, uri, api_key):
        self.uri = uri
        self.api_key = api_key
        self.ws = None
        self.reconnect_delay = FIRST
        self.max_delay = 60
        self.failures = 0

    async def connect(self):
        while True:
            try:
                self.ws = await websockets.connect(
                    self.uri, **{HEADERS: {"Authorization": f"Bearer {self.api_key}"}}
                )
                self.reconnect_delay = FIRST
                tell(["connected", time.monotonic()])
                return
            except Exception as e:
                tell(["failed", time.monotonic(), str(e)])
                self.failures += 1
                if self.failures == FAILURES:
                    raise SystemExit from e
                await asyncio.sleep(self.reconnect_delay)
                self.reconnect_delay = min(self.reconnect_delay * 2, self.max_delay)

    async def listen(self, handler):
        while True:
            try:
                await self.connect()
                async for message in self.ws:
                    await handler(json.loads(message))
            except websockets.ConnectionClosed:
                tell(["closed", time.monotonic()])
            except Exception as e:
                tell(["error", time.monotonic(), str(e)])


async def handler(data):
    tell(["message", time.monotonic(), data["type"]])


asyncio.run(ReconnectingWebSocket(URI, KEY).listen(handler))
