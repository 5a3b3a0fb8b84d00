"""The guide's WebSocket samples, in words of our own and call by call the same, as programs: with
the newest `websockets`, and with the release they were written for."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.server import KEY, Serve, ServerProcess
from support.wire import execute

pytestmark = pytest.mark.anyio

SAMPLES = Path(__file__).parent / "samples"
ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk" / "python" / "src"
#: `make test` makes the second one.
INTERPRETERS = {"newest": sys.executable, "guide": str(ROOT / ".venv-guide" / "bin" / "python")}


@pytest.fixture(params=list(INTERPRETERS))
def python(request: pytest.FixtureRequest) -> str:
    interpreter: str = INTERPRETERS[request.param]
    assert Path(interpreter).exists(), "make .venv-guide/.done"
    return interpreter


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    shared = ServerProcess(
        tmp_path_factory.mktemp("guide") / "data", agents={"failing": "guide.failing:failing"}
    )
    yield shared.start()
    shared.stop()


class Sample:
    """A running sample; what it told so far can be waited for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> Any:
        """The next thing it tells; None at its end."""
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            text = await self._process.stdout.readline()
        return json.loads(text) if text else None

    async def rest(self) -> list[Any]:
        """Everything until it ends by itself, without complaint."""
        lines = []
        while (line := await self.line()) is not None:
            lines.append(line)
        assert self._process.stderr is not None
        assert (await self._process.stderr.read()).decode() == ""
        return lines


@asynccontextmanager
async def running(
    python: str, name: str, server: ServerProcess, *more: str, key: str = KEY
) -> AsyncIterator[Sample]:
    uri = server.url.replace("http", "ws") + "/v1/ws"
    process = await asyncio.create_subprocess_exec(
        python, str(SAMPLES / f"{name}.py"), uri, key, *more,
        env={**os.environ, "PYTHONPATH": str(SDK), "PYTHONWARNINGS": "ignore::DeprecationWarning"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Sample(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_interpreters_have_the_releases_that_are_meant() -> None:
    majors = []
    for interpreter in INTERPRETERS.values():
        code = "import websockets; print(websockets.__version__.split('.')[0])"
        process = await asyncio.create_subprocess_exec(
            interpreter, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        majors.append(int((await process.communicate())[0]))
    assert majors[0] >= 15 and majors[1] == 13


@pytest.mark.parametrize("more", [[], ["deflate"]])
async def test_connect_subscribe_and_handle(
    python: str, server: ServerProcess, more: list[str]
) -> None:
    async with running(python, "connection", server, *more) as sample, server.client() as client:
        assert await sample.line() == ["subscribed"]
        good = (await execute(client, goal="count to 2"))["session_id"]
        assert [await sample.line(), await sample.line()] == [
            ["started", good],
            ["completed", good],
        ]
        bad = (await execute(client, agent_id="failing", goal="fly"))["session_id"]
        assert await sample.rest() == [["started", bad], ["error", "cannot fly"]]


async def test_authenticate_by_a_first_message(python: str, server: ServerProcess) -> None:
    async with running(python, "first_message", server) as sample, server.client() as client:
        assert [(await sample.line())[0] for _ in range(2)] == ["authenticated", "subscribed"]
        session_id = (await execute(client, goal="count to 2"))["session_id"]
        told = await sample.rest()
        assert told[-1] == ["session.completed", session_id]
        assert ["session.started", session_id] in told


async def test_a_heartbeat_beside_the_reader(python: str, server: ServerProcess) -> None:
    async with running(python, "heartbeat", server) as sample:
        assert await sample.rest() == [{"type": "pong"}] * 3 + ["over"]


async def test_with_a_wrong_key_it_backs_off(python: str, server: ServerProcess) -> None:
    async with running(python, "reconnection", server, "0.05", "4", key="rg_live_wrong") as sample:
        told = await sample.rest()
    assert [line[0] for line in told] == ["failed"] * 4
    assert all("401" in line[2] for line in told)
    assert all(got >= due for got, due in zip(waits(told), [0.05, 0.1, 0.2], strict=True))


async def test_while_the_server_drains_it_backs_off_and_then_it_is_back(
    python: str, serve: Serve
) -> None:
    server = serve(drain_seconds=20)
    async with running(python, "reconnection", server, "0.05", "1000") as sample:
        assert (await sample.line())[0] == "connected"
        async with server.client() as client:
            slow = {"goal": "count to 20", "context": {"words_per_second": 20}}
            await execute(client, **slow)
            server.terminate()
            assert (await sample.line())[::2] == ["message", "draining"]
            closed = await sample.line()
            # Closed with 1012, which ends an `async for` with an exception.
            assert closed[0] == "closed"
            told = [await sample.line() for _ in range(4)]
            assert [line[0] for line in told] == ["failed"] * 4
            assert "503" in told[0][2]
            assert all(got >= due for got, due in zip(waits(told), [0.05, 0.1, 0.2], strict=True))
        assert await asyncio.to_thread(server.wait) == 0
        await asyncio.to_thread(server.start)
        while (line := await sample.line())[0] == "failed":
            told.append(line)
        assert line[0] == "connected"
        # Each wait is twice the one before, so there are few attempts however long it took.
        assert len(told) < 12


async def test_the_sdks_building_blocks(python: str, server: ServerProcess) -> None:
    async with running(python, "building_blocks", server) as sample:
        told = await sample.rest()
    assert told == [
        ["heard", "pong"],
        *[["pooled", '{"type":"pong"}', 1]] * 3,
        ["streamed", told[-1][1], "success"],
    ]
    assert told[-1][1] > 20


def waits(told: list[Any]) -> list[float]:
    """The seconds between what was told."""
    times = [line[1] for line in told]
    return [later - earlier for earlier, later in itertools.pairwise(times)]
