"""A viewer that does not read costs a cursor: no memory, no time of the agent's, and no chunk."""

from __future__ import annotations

import asyncio
import time

import orjson
import psutil
import pytest
from support.server import KEY, TESTS, Serve, ServerProcess
from support.wire import FrameReader, execute, raw_stream, read_all

CHUNKS = 50_000
WATCHED = TESTS / "support" / "watched.py"
MEGABYTE = 1_000_000
GROWTH = 20 * MEGABYTE
#: Turns measured with and without the viewer; the quickest of each are compared.
ROUNDS = 3
SLOWER = 3.0


def join(server: ServerProcess, session_id: str) -> bytes:
    return (
        f"GET /v1/sessions/{session_id}/stream?resume_from=0&follow=true HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    ).encode()


async def run_turn(server: ServerProcess, session_id: str) -> float:
    """Milliseconds that the agent's turn took by the server's own account."""
    async with server.client(timeout=60) as client:
        await execute(client, session_id=session_id, goal=f"count to {CHUNKS}")
        done = (await read_all(client, session_id, compact="true"))[-1].body
    assert done["status"] == "success"
    return float(done["usage"]["duration_ms"])


async def new_session(server: ServerProcess) -> str:
    async with server.client() as client:
        made = await client.post("/v1/sessions", json={"agent_id": "guide"})
        return str(made.json()["session_id"])


async def test_a_viewer_that_does_not_read(serve: Serve) -> None:
    server = serve()
    memory = psutil.Process(server.server_pid).memory_info
    # Warm: the code, SQLite's caches and the allocator have what any turn of this size needs.
    alone = [await run_turn(server, await new_session(server)) for _ in range(ROUNDS)]
    before = memory().rss

    watched = []
    for _ in range(ROUNDS):
        session_id = await new_session(server)
        reader, writer = await raw_stream(server, join(server, session_id), receive_buffer=4096)
        watched.append((session_id, reader, writer))
    beside = [await run_turn(server, session_id) for session_id, _, _ in watched]
    growth = memory().rss - before
    assert growth < GROWTH, f"{growth / MEGABYTE:.1f} MB"
    assert min(beside) < SLOWER * min(alone), (alone, beside)

    for _, reader, writer in watched:
        await read_whole(reader)
        writer.close()
    growth = memory().rss - before
    assert growth < GROWTH, f"{growth / MEGABYTE:.1f} MB after reading"


async def test_it_does_not_hold_up_a_stop(serve: Serve) -> None:
    """Nor does it make the server complain: it is cut off after its second of grace."""
    server = serve()
    session_id = await new_session(server)
    _, writer = await raw_stream(server, join(server, session_id), receive_buffer=4096)
    await run_turn(server, session_id)
    began = time.monotonic()
    server.terminate()
    assert await asyncio.to_thread(server.wait) == 0
    assert time.monotonic() - began < 5
    writer.close()


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_it_does_not_outlive_its_credential(serve: Serve, end: str) -> None:
    server = serve()
    session_id = await new_session(server)
    async with server.client() as client:
        if end == "revoked":
            body = {"name": "short", "scopes": ["sessions:read"]}
            made = (await client.post("/v1/keys", json=body)).json()
        else:
            body = {"scopes": ["sessions:read"], "ttl_seconds": 5}
            made = (await client.post("/v1/tokens", json=body)).json()
    credential = made["key"] if end == "revoked" else made["token"]
    request = join(server, session_id).replace(KEY.encode(), credential.encode())
    reader, writer = await raw_stream(server, request, receive_buffer=4096)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    await run_turn(server, session_id)
    process = psutil.Process(server.server_pid)
    me = writer.get_extra_info("sockname")[1]
    if end == "revoked":
        assert any(c.raddr and c.raddr.port == me for c in process.net_connections("tcp"))
        async with server.client() as client:
            assert (await client.delete(f"/v1/keys/{made['id']}")).is_success
    async with asyncio.timeout(15):
        while any(c.raddr and c.raddr.port == me for c in process.net_connections("tcp")):
            await asyncio.sleep(0.05)
    writer.close()


def subscribe(server: ServerProcess, session_id: str) -> tuple[bytes, bytes]:
    """What opens a socket, and the masked frame that follows a session on it."""
    handshake = (
        f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {KEY}\r\n\r\n"
    ).encode()
    message = orjson.dumps({"type": "subscribe", "channels": [f"session:{session_id}"]})
    return handshake, bytes([0x81, 0x80 | len(message)]) + bytes(4) + message


@pytest.mark.parametrize("careless", [False, True])
async def test_nothing_is_written_to_a_client_that_takes_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, careless: bool
) -> None:
    """Beyond the bound of its connection, by stream or by socket; and that would be noticed."""
    if careless:
        monkeypatch.setenv("CARELESS", "1")
    server = serve(program=WATCHED, may_complain=careless)
    session_id = await new_session(server)
    stream, streaming = await raw_stream(server, join(server, session_id), receive_buffer=4096)
    handshake, message = subscribe(server, session_id)
    _, talking = await raw_stream(server, handshake, receive_buffer=4096)
    talking.write(message)
    await run_turn(server, session_id)
    if not careless:
        await read_whole(stream)
    streaming.close()
    talking.close()
    if careless:
        server.logged("over the bound")
    else:
        assert "over the bound" not in server.log


async def read_whole(reader: asyncio.StreamReader) -> None:
    """Every position of the turn, in order, each once."""
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        frames, expected = FrameReader(), 1
        while expected <= CHUNKS + 3:
            for frame in frames.feed(await read_piece(reader)):
                assert frame.position == expected
                expected += 1
    assert frame.event == "done"


async def read_piece(reader: asyncio.StreamReader) -> bytes:
    """One piece of a chunked body."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    piece = await reader.readexactly(size + 2)
    return piece[:-2]
