"""Data for those who watch now: over every live transport, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from resonantgenesis import Chunk, ResonantGenesis
from support.server import KEY, TESTS, Serve, ServerProcess
from support.wire import dense, execute, read_all

pytestmark = pytest.mark.anyio

AGENTS = {"reporting": "support.agents:reporting"}


@pytest.fixture(params=["ours", "plain"])
def server(request: pytest.FixtureRequest, serve: Serve) -> Iterator[ServerProcess]:
    """With our protocol class, and on any other ASGI server."""
    program = {} if request.param == "ours" else {"program": TESTS / "support" / "plain.py"}
    yield serve(agents=AGENTS, **program)


async def until_reported(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    """The chunks up to the third that is transient."""
    seen: list[Chunk] = []
    async for chunk in chunks:
        seen.append(chunk)
        if sum(each.transient for each in seen) == 3:
            break
    return seen


async def test_viewers_see_it_live_and_nobody_later(server: ServerProcess) -> None:
    async with (
        asyncio.timeout(30),
        ResonantGenesis(api_key=KEY, base_url=server.url) as client,
        server.client() as http,
        client.realtime() as realtime,
    ):
        stream = client.sessions.execute_stream(agent_id="reporting", goal="go")
        viewers = [await until_reported(stream)]
        session = str(stream.session_id)
        viewers.append(await until_reported(realtime.session(session, resume_from=0)))
        viewers.append(await until_reported(client.sessions.join(session, resume_from=0)))
        for seen in viewers:
            *_, before, _, _, last = seen
            assert (last.type, last.name, last.id, last.turn) == ("data", "progress", "p", 1)
            assert last.data["step"] > 0
            assert (before.type, before.position, last.position) == ("text", 2, 2)
        await client.sessions.cancel(session)
        polled = (await http.get(f"/v1/sessions/{session}/events", params={"wait": 20})).json()
        assert "data" not in {chunk["type"] for chunk in polled["events"]}
        frames = await read_all(http, session, resume_from=0)
        dense(frames)
        assert [frame.event for frame in frames] == ["step", "message", "step", "done"]


async def test_its_frame_has_no_id_and_its_body_no_position(server: ServerProcess) -> None:
    async with asyncio.timeout(30), server.client() as http:
        session = (await execute(http, agent_id="reporting", goal="go"))["session_id"]
        async with http.stream("GET", f"/v1/sessions/{session}/stream") as response:
            block = await until_data(response)
        assert block[0] == "event: data"
        assert '"transient":true' in block[1] and '"position"' not in block[1]


async def until_data(response: httpx.Response) -> list[str]:
    block: list[str] = []
    async for line in response.aiter_lines():
        if line:
            block.append(line)
        elif any(line == "event: data" for line in block):
            return block
        else:
            block = []
    raise AssertionError("the stream ended")
