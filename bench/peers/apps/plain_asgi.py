"""Plain ASGI: one task per viewer that waits for the next event and awaits `send`."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import parse_qsl

FILLER = " the quick brown fox jumps over the lazy dog while seven wizards box"
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


def payload(seq, size):
    mark = f"@{time.monotonic_ns() // 1000}:{seq};"
    missing = size - len(mark)
    return mark if missing <= 0 else mark + (FILLER * (missing // len(FILLER) + 1))[:missing]


def chunk(seq, size):
    return f'{{"type":"text","content":"{payload(seq, size)}","position":{seq}}}'


def frame(seq, text):
    return f"id: {seq}\nevent: message\ndata: {text}\n\n".encode()


class Channel:
    """Frames in memory, and an event that is set and replaced for each."""

    def __init__(self):
        self.frames = []
        self.texts = []
        self.changed = asyncio.Event()

    def publish(self, size):
        seq = len(self.frames) + 1
        text = chunk(seq, size)
        self.frames.append(frame(seq, text))
        self.texts.append(text)
        self.changed.set()
        self.changed = asyncio.Event()


channels = {}
stored = []
running = set()


def channel(name):
    if name not in channels:
        channels[name] = Channel()
    return channels[name]


async def tick(rate, count, size, groups):
    start = time.monotonic()
    step = 1 / (rate * groups)
    for number in range(count * groups):
        wait = start + number * step - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        channel(str(number % groups)).publish(size)


async def send_start(send, status=200, headers=HEADERS):
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def send_part(send, data, more=True):
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def stream(send, source, position):
    while True:
        changed = source.changed
        new = source.frames[position:]
        if new:
            position += len(new)
            await send_part(send, b"".join(new))
        else:
            await changed.wait()


async def view(scope, receive, send):
    headers = dict(scope["headers"])
    source = channel(scope["path"].rpartition("/")[2])
    position = int(headers.get(b"last-event-id", len(source.frames)))
    await send_start(send)
    await send_part(send, b": stream\n\n")
    writer = asyncio.create_task(stream(send, source, position))
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        writer.cancel()


async def tokens(query, send):
    rate, count, size = float(query["rate"]), int(query["count"]), int(query["bytes"])
    await send_start(send)
    start = time.monotonic()
    for seq in range(1, count + 1):
        wait = start + seq / rate - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        await send_part(send, frame(seq, chunk(seq, size)))
    await send_part(send, b"", more=False)


async def replay(send):
    await send_start(send)
    for each in stored:
        await send_part(send, each)
    await send_part(send, b"", more=False)


async def answer(send, status=204):
    await send_start(send, status, [(b"content-length", b"0")] if status != 204 else [])
    await send_part(send, b"", more=False)


async def http(scope, receive, send):
    path, query = scope["path"], dict(parse_qsl(scope["query_string"].decode()))
    if path.startswith("/stream/"):
        await view(scope, receive, send)
    elif path == "/tokens":
        await tokens(query, send)
    elif path == "/replay":
        await replay(send)
    elif path == "/fill":
        size = int(query["bytes"])
        stored[:] = [frame(seq, chunk(seq, size)) for seq in range(1, int(query["count"]) + 1)]
        await answer(send)
    elif path == "/start":
        numbers = (int(query["count"]), int(query["bytes"]), int(query["groups"]))
        task = asyncio.create_task(tick(float(query["rate"]), *numbers))
        running.add(task)
        task.add_done_callback(running.discard)
        await answer(send)
    else:
        await answer(send, 404)


async def socket_stream(send, source, position):
    while True:
        changed = source.changed
        new = source.texts[position:]
        for text in new:
            await send({"type": "websocket.send", "text": text})
        position += len(new)
        if not new:
            await changed.wait()


async def websocket(scope, receive, send):
    source = channel(scope["path"].rpartition("/")[2])
    await receive()
    await send({"type": "websocket.accept"})
    writer = asyncio.create_task(socket_stream(send, source, len(source.texts)))
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        writer.cancel()


async def app(scope, receive, send):
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
