"""A task that sends pings beside the one that reads; it ends when the connection does."""

import asyncio
import json

import websockets
from common import URI, bearer, tell


async def maintain_connection(ws, every):
    while True:
        try:
            await ws.send(json.dumps({"type": "ping"}))
            await asyncio.sleep(every)
        except:  # noqa: E722 - the guide's own form
            break


async def main():
    async with websockets.connect(URI, **bearer()) as ws:
        beating = asyncio.create_task(maintain_connection(ws, 0.05))
        for _ in range(3):
            tell(json.loads(await ws.recv()))
    await beating
    tell("over")


asyncio.run(main())
