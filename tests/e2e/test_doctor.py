"""`resonantgenesis doctor` through what stands between it and the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.proxy import EvilProxy
from support.server import COMMAND, KEY, ServerProcess

pytestmark = pytest.mark.anyio


async def doctor(server: ServerProcess, url: str) -> tuple[int | None, dict[str, Any]]:
    """Its exit code and what it found of the way to the server."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RESONANTGENESIS_")}
    environment["RESONANTGENESIS_API_KEY"] = KEY
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "doctor", "--url", url, "--data", str(server.data), "--json", "--patience", "2",
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=server.data.parent,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    rows = [json.loads(line) for line in out.splitlines()]
    return process.returncode, {row["check"]: row for row in rows}


@pytest.mark.parametrize("mode", ["pass", "dribble"])
async def test_a_way_that_lets_streams_through(server: ServerProcess, mode: str) -> None:
    async with EvilProxy(server.port, lambda: mode, random.Random(1)).running() as proxy:
        code, found = await doctor(server, proxy.url)
    assert found["stream"]["level"] == "OK", found
    assert code == 0


async def test_a_proxy_that_buffers_is_found(server: ServerProcess) -> None:
    async with EvilProxy(server.port, lambda: "buffer", random.Random(1)).running() as proxy:
        code, found = await doctor(server, proxy.url)
    assert found["server"]["level"] == "OK", found
    assert found["stream"]["level"] == "FAIL"
    assert "holds the stream back" in found["stream"]["message"]
    assert "proxy_buffering off" in found["stream"]["next"]
    assert code == 1


async def test_a_server_that_says_nothing(server: ServerProcess) -> None:
    proxy = EvilProxy(server.port, lambda: "stall", random.Random(1))
    proxy.budget = lambda: 20
    async with proxy.running():
        code, found = await doctor(server, proxy.url)
    assert found["server"]["level"] == "FAIL", found
    assert code == 1


async def test_sockets_are_tried_as_well(server: ServerProcess) -> None:
    code, found = await doctor(server, f"{server.url}/api/v1")
    assert found["socket"]["level"] == "OK", found
    assert code == 0


@pytest.mark.parametrize("dropped", ["Upgrade", "Connection"])
async def test_a_proxy_that_eats_the_upgrade_is_found(server: ServerProcess, dropped: str) -> None:
    async with header_eater(server.port, dropped) as url:
        code, found = await doctor(server, url)
    assert found["server"]["level"] == found["stream"]["level"] == "OK", found
    assert found["socket"]["level"] == "FAIL"
    assert "426" in found["socket"]["message"]
    assert dropped in found["socket"]["message"]
    assert "proxy_set_header Upgrade" in found["socket"]["next"]
    assert code == 1


@contextlib.asynccontextmanager
async def header_eater(upstream: int, dropped: str) -> AsyncIterator[str]:
    """A proxy whose requests lack one header, as many proxies' do; gives its address."""
    tasks = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
        back = asyncio.create_task(copy(up_reader, writer))
        tasks.add(back)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                up_writer.write(re.sub(rf"(?im)^{dropped}:.*\r\n".encode(), b"", data))
        up_writer.close()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    proxy = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    finally:
        proxy.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
