"""A client made before a fork: each process has connections of its own, and nothing hangs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ..support.fake_server import FakeServer
from ..support.fake_socket import FakeSocketServer
from ..support.fake_wire import Payload

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork"),
]

PROGRAM = Path(__file__).parents[1] / "support" / "fork_program.py"


def echo(goal: str) -> list[Payload]:
    """A goal is answered with itself; `long` with thirty chunks."""
    texts = [{"type": "text", "content": goal}] * (29 if goal == "long" else 1)
    return [*texts, {"type": "done", "status": "success"}]


@pytest.fixture
def echoing(server: FakeServer) -> FakeServer:
    server.script = echo
    return server


#: From 3.12 on Python warns of a fork beside threads; the program does that on purpose.
QUIET = ("-W", "ignore:This process:DeprecationWarning")


async def started(name: str, url: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *QUIET, str(PROGRAM), name, url, stdin=pipe, stdout=pipe, stderr=pipe
    )


async def ended(program: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(60):
            _, complaints = await program.communicate(b"\n")
    finally:
        if program.returncode is None:
            program.kill()
    assert (program.returncode, complaints.decode()) == (0, "")


@pytest.mark.parametrize("name", ["many", "busy", "closed", "remembered", "loops"])
async def test_each_process_gets_its_own_answers(echoing: FakeServer, name: str) -> None:
    await ended(await started(name, echoing.url))


async def test_an_open_stream_goes_on_in_both(echoing: FakeServer) -> None:
    echoing.pace = 0.02
    await ended(await started("live", echoing.url))
    assert len(echoing.sessions) == 1


async def test_a_stream_that_the_parent_leaves_ends(echoing: FakeServer) -> None:
    echoing.hold_at = 1
    program = await started("left", echoing.url)
    assert program.stdout is not None
    async with asyncio.timeout(20):
        assert await program.stdout.readline() == b"closed\n"
    # The child still lives, with a copy of the connection.
    await echoing.wait_streams(0)
    await ended(program)


@pytest.fixture
async def socket_server() -> AsyncIterator[FakeSocketServer]:
    fake = FakeSocketServer()
    await fake.start()
    yield fake
    await fake.stop()


async def test_a_socket_belongs_to_its_process(socket_server: FakeSocketServer) -> None:
    await ended(await started("sockets", socket_server.url))
