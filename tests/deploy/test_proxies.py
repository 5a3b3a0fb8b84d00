"""Behind each proxy, with the very files of deploy/proxies: nothing is held back, cut or lost."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil
import pytest
from resonantgenesis import ResonantGenesis
from support.proxies import PROXIES, Proxy
from support.server import KEY, ServerProcess, bearer
from support.wire import dense, execute, frames, streaming

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxies") / request.param
    with PROXIES[request.param](server, folder) as running:
        yield running


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    """As browsers are: it takes gzip and has a connection of its own."""
    headers = bearer() | {"Accept-Encoding": "gzip"}
    async with httpx.AsyncClient(
        base_url=proxy.url, headers=headers, timeout=20, trust_env=False
    ) as made:
        yield made


async def test_a_stream_comes_as_it_is_produced(client: httpx.AsyncClient) -> None:
    body = {"agent_id": "silent", "goal": "x", "context": {"seconds": 600}, "stream": True}
    async with (
        asyncio.timeout(20),
        streaming(client, "POST", "/v1/sessions/execute", json=body) as (response, found),
    ):
        # The turn says no more, and its answer has not ended.
        assert (await anext(found)).body["type"] == "step"
        assert (await anext(found)).body["type"] == "tool_call"
        session_id = response.headers["x-session-id"]
        cancelled = await client.post(f"/v1/sessions/{session_id}/cancel")
        assert cancelled.status_code == 200, cancelled.text
        assert [frame.body["type"] async for frame in found][-1] == "done"


async def test_a_viewer_that_leaves_is_noticed(
    client: httpx.AsyncClient, server: ServerProcess
) -> None:
    silent = {"agent_id": "silent", "goal": "x", "context": {"seconds": 600}}
    session_id = (await execute(client, **silent))["session_id"]

    async def viewers() -> int:
        async with server.client() as direct:
            told = (await direct.get("/metrics")).text
        (streams,) = re.findall(
            r'^resonantgenesis_streams_open\{transport="sse"\} (\d+)', told, re.M
        )
        return int(streams)

    async with asyncio.timeout(20):
        while await viewers():  # of the test before
            await asyncio.sleep(0.02)
        async with client.stream("GET", f"/v1/sessions/{session_id}/stream") as response:
            found = frames(response)  # kept: one that is collected closes the response
            await anext(found)
            while await viewers() != 1:
                await asyncio.sleep(0.02)
        while await viewers():
            await asyncio.sleep(0.02)
    await client.post(f"/v1/sessions/{session_id}/cancel")


async def test_a_socket_and_its_turns(proxy: Proxy) -> None:
    async with (
        asyncio.timeout(20),
        ResonantGenesis(api_key=KEY, base_url=proxy.url) as sdk,
        sdk.realtime() as socket,
    ):
        chunks = [chunk async for chunk in socket.execute("guide", "count to 20")]
    assert chunks[-1].type == "done"
    assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))


async def upload_and_download(client: httpx.AsyncClient, size: int) -> None:
    piece = os.urandom(MIB)
    digest = hashlib.sha256()

    async def content() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            digest.update(piece)
            yield piece

    made = await client.post("/v1/files?name=large", content=content())
    assert (made.status_code, made.json()["size"]) == (201, size)
    read = hashlib.sha256()
    # A file is random bytes here: compressing it would show nothing.
    path = f"/v1/files/{made.json()['id']}/content"
    async with client.stream("GET", path, headers={"Accept-Encoding": "identity"}) as response:
        async for part in response.aiter_raw():
            read.update(part)
    assert read.digest() == digest.digest()
    await client.delete(path.removesuffix("/content"))


async def test_a_large_file(client: httpx.AsyncClient) -> None:
    await upload_and_download(client, 16 * MIB)


@pytest.mark.soak
async def test_a_very_large_file(client: httpx.AsyncClient) -> None:
    await upload_and_download(client, 1024 * MIB)


async def test_connections_to_the_server_are_kept(
    client: httpx.AsyncClient, server: ServerProcess
) -> None:
    def ports() -> set[int]:
        connections = psutil.Process(server.server_pid).net_connections("tcp")
        return {each.raddr.port for each in connections if each.raddr}

    await client.get("/healthz")
    before = ports()
    for number in range(30):
        told = await client.get("/v1/agents", headers={"X-Request-Id": f"r{number}"})
        assert (told.status_code, told.headers["x-request-id"]) == (200, f"r{number}")
    # HAProxy's own look at /readyz may be among them.
    assert len(ports() - before) <= 2


async def test_a_reload_in_mid_stream_loses_nothing(proxy: Proxy, server: ServerProcess) -> None:
    context = {"count": 120, "pace": 60}
    async with (
        asyncio.timeout(40),
        ResonantGenesis(api_key=KEY, base_url=proxy.url) as sdk,
        server.client() as direct,
    ):
        stream = sdk.sessions.execute_stream(agent_id="paced", goal="x", context=context)
        found = []
        async for chunk in stream:
            found.append(chunk)
            if chunk.position == 20:
                await asyncio.to_thread(proxy.reload)
        assert found[-1].type == "done" and found[-1].status == "success"
        assert [chunk.position for chunk in found] == list(range(1, len(found) + 1))
        path = f"/v1/sessions/{stream.session_id}/stream"
        async with streaming(direct, "GET", path, params={"resume_from": 0}) as (_, log):
            dense(kept := [frame async for frame in log])
        assert len(kept) == len(found)
