"""Connections over the cap are told so, and health checks still get through."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource

import pytest
from support.server import KEY, Serve, ServerProcess

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


async def answer(pair: Pair) -> bytes:
    """All that comes until the server closes."""
    async with asyncio.timeout(10):
        return await pair[0].read()


async def stream(server: ServerProcess, stack: contextlib.AsyncExitStack) -> Pair:
    """A subscription that has begun, kept open by the stack."""
    pair = await asyncio.open_connection("127.0.0.1", server.port)
    stack.callback(pair[1].close)
    pair[1].write(request("/v1/events/subscribe"))
    async with asyncio.timeout(10):
        assert b" 200 " in await pair[0].readline()
    return pair


async def ask(server: ServerProcess, path: str) -> tuple[int, bytes]:
    pair = await asyncio.open_connection("127.0.0.1", server.port)
    pair[1].write(request(path))
    try:
        said = await answer(pair)
    finally:
        pair[1].close()
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split(b" ")[1]), body if path != "/v1/agents" else head + b"\r\n" + body


async def test_over_the_cap(serve: Serve) -> None:
    server = serve(limits__connections=3)
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stream(server, stack) for _ in range(3)]
        for _ in range(3):
            status, said = await ask(server, "/v1/agents")
            head, _, body = said.rpartition(b"\r\n")
            error = json.loads(body)["error"]
            assert (status, error["code"], error["retry_after"]) == (503, "UNAVAILABLE", 1.0)
            assert b"retry-after: 1" in head.lower()
            assert f"x-request-id: {error['request_id']}".encode() in head.lower()
        for path in ("/healthz", "/readyz"):
            assert (await ask(server, path))[0] == 200
        # Room that is left is taken again.
        streams.pop()[1].close()
        async with asyncio.timeout(10):
            while True:
                pair = await asyncio.open_connection("127.0.0.1", server.port)
                stack.callback(pair[1].close)
                pair[1].write(request("/v1/agents"))
                if b" 200 " in await pair[0].readline():
                    break
                pair[1].close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /v1/agents HTTP/1.1\r\nHost: x\r\nX: ",
        b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{",
        b"nonsense\r\n\r\n",
    ],
    ids=["nothing", "half a head", "an empty line", "a request", "half a body", "no request"],
)
async def test_who_is_silent_keeps_nobody_out(serve: Serve, said: bytes) -> None:
    """However many there are, and whatever they said before: a key and a health check get in."""
    server = serve(limits__connections=20)
    async with contextlib.AsyncExitStack() as stack:
        kept = await stream(server, stack)
        for number in range(130):
            pair = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(pair[1].close)
            pair[1].write(said)
            if number % 40 == 39:
                for path in ("/healthz", "/v1/agents"):
                    async with server.client() as client:
                        assert (await client.get(path)).status_code == 200
        # Nor do they take the place of one that is busy.
        kept[1].write(request("/healthz"))
        async with server.client() as client:
            made = await client.post("/v1/events", json={"type": "app.still", "data": {}})
            assert made.status_code == 201
        async with asyncio.timeout(10):
            await kept[0].readuntil(b"app.still")


async def test_descriptors_that_run_out_are_told_once(serve: Serve) -> None:
    server = serve(
        wrapper=["prlimit", "--nofile=128:128"], may_complain=True, limits__connections=100_000
    )
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.suppress(OSError):
            for _ in range(150):
                pair = await asyncio.open_connection("127.0.0.1", server.port)
                stack.callback(pair[1].close)
        async with asyncio.timeout(20):
            while not (told := [line for line in server.errors() if "descriptor" in line]):
                # The server ends those that say nothing; on a busy machine, before all are there.
                with contextlib.suppress(OSError):
                    pair = await asyncio.open_connection("127.0.0.1", server.port)
                    stack.callback(pair[1].close)
                await asyncio.sleep(0.05)
    assert len(told) == 1


async def test_the_usual_limit_of_open_files_is_raised(serve: Serve) -> None:
    # Nobody but root may have more than what this process may.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = serve(wrapper=["prlimit", f"--nofile=64:{min(most, 4096)}"])
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(200):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
        writer.write(request("/v1/agents"))
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 10)
