"""Connect, subscribe to two channels, handle what comes by its type; with compression if asked."""

import asyncio
import json

import websockets
from common import MORE, URI, bearer, tell


async def connect_websocket():
    options = {"compression": "deflate"} if "deflate" in MORE else {}
    async with websockets.connect(URI, **options, **bearer()) as ws:
        await ws.send(json.dumps({"type": "subscribe", "channels": ["sessions", "agents"]}))
        async for message in ws:
            if handle_event(json.loads(message)):
                return


def handle_event(data):
    event_type = data.get("type")
    if event_type == "subscribed":
        tell(["subscribed"])
    elif event_type == "session.started":
        tell(["started", data["session_id"]])
    elif event_type == "session.completed":
        tell(["completed", data["session_id"]])
    elif event_type == "agent.error":
        tell(["error", data["error"]])
    return event_type == "agent.error"


asyncio.run(connect_websocket())
