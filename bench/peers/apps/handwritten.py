"""FastAPI, sse-starlette and Redis Streams, as people write a resumable answer by hand: a task
that adds each token to a stream, and a reader per viewer that blocks on it."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid

import redis.asyncio as redis
from fastapi import FastAPI, Header, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

FILLER = " the quick brown fox jumps over the lazy dog while seven wizards box"
app = FastAPI()
store = redis.from_url(
    os.environ["REDIS_URL"], decode_responses=True, max_connections=20_000, socket_timeout=None
)
running = set()


class Chat(BaseModel):
    rate: float
    count: int
    bytes: int
    groups: int = 1


def payload(seq, size):
    mark = f"@{time.monotonic_ns() // 1000}:{seq};"
    missing = size - len(mark)
    return mark if missing <= 0 else mark + (FILLER * (missing // len(FILLER) + 1))[:missing]


async def add(key, seq, size):
    data = {"type": "text", "content": payload(seq, size), "position": seq}
    await store.xadd(key, {"event": "message", "data": json.dumps(data)})


async def generate(key, chat):
    start = time.monotonic()
    for seq in range(1, chat.count + 1):
        wait = start + seq / chat.rate - time.monotonic() if chat.rate else 0
        if wait > 0:
            await asyncio.sleep(wait)
        await add(key, seq, chat.bytes)
    await store.xadd(key, {"event": "done", "data": "{}"})


async def tick(chat):
    start = time.monotonic()
    for number in range(chat.count * chat.groups):
        wait = start + number / (chat.rate * chat.groups) - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        await add(f"stream:{number % chat.groups}", number // chat.groups + 1, chat.bytes)


def run(work):
    task = asyncio.create_task(work)
    running.add(task)
    task.add_done_callback(running.discard)


async def follow(key, last):
    while True:
        for _, entries in await store.xread({key: last}, count=500, block=10_000):
            for last, fields in entries:
                yield {"id": last, "event": fields["event"], "data": fields["data"]}
                if fields["event"] == "done":
                    return


@app.post("/chat")
async def chat(body: Chat):
    key = f"stream:{uuid.uuid4()}"
    run(generate(key, body))
    return EventSourceResponse(follow(key, "0"))


@app.get("/stream/{name}")
async def stream(name: str, last_event_id: str = Header("0")):
    return EventSourceResponse(follow(f"stream:{name}", last_event_id))


@app.post("/start", status_code=204)
async def start(body: Chat):
    run(tick(body))
    return Response(status_code=204)


@app.post("/fill/{name}", status_code=204)
async def fill(name: str, body: Chat):
    await generate(f"stream:{name}", body)
    return Response(status_code=204)
