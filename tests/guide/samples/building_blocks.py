"""The SDK's own building blocks and its realtime(), under whichever release runs this."""

import asyncio

from common import KEY, URI, tell
from resonantgenesis import ResonantGenesis
from resonantgenesis.streaming import (
    BufferedStream,
    RateLimitedStream,
    ReconnectingWebSocket,
    StreamingPool,
    maintain_connection,
)

BASE = URI.replace("ws://", "http://").removesuffix("/v1/ws")


async def listening():
    socket = ReconnectingWebSocket(URI, KEY)

    async def handler(message):
        tell(["heard", message["type"]])
        await socket.aclose()

    await socket.connect()
    beating = asyncio.create_task(maintain_connection(socket.ws))
    await socket.listen(handler)
    await beating


async def pooling():
    async with StreamingPool(max_connections=2, api_key=KEY, base_url=BASE) as pool:
        for _ in range(3):
            async with pool.get_connection() as connection:
                await connection.send({"type": "ping"})
                tell(["pooled", await connection.recv(), pool.size])


async def streaming():
    async with ResonantGenesis(api_key=KEY, base_url=BASE) as client, client.realtime() as rt:
        turn = rt.execute(agent_id="guide", goal="count to 20")
        lots = [lot async for lot in BufferedStream(RateLimitedStream(turn, 1000), buffer_size=10)]
        tell(["streamed", sum(map(len, lots)), lots[-1][-1].status])


for part in (listening, pooling, streaming):
    asyncio.run(part())
