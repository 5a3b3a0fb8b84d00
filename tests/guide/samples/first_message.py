"""Authenticate by a first message, with a subscription right behind it, as a browser does."""

import asyncio
import json

import websockets
from common import KEY, URI, tell


async def main():
    async with websockets.connect(URI) as ws:
        await ws.send(json.dumps({"type": "auth", "token": KEY}))
        await ws.send(json.dumps({"type": "subscribe", "channels": ["sessions", "agents"]}))
        async for message in ws:
            data = json.loads(message)
            tell([data["type"], data.get("session_id")])
            if data["type"] == "session.completed":
                return


asyncio.run(main())
