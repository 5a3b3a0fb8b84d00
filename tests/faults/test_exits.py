"""An agent that means to end the process ends its own turn."""

from __future__ import annotations

import asyncio

from support.server import Serve
from support.wire import dense, execute, read_all

PLACES = {"awaited task": "failed", "task": "success", "callback": "success"}
AGENTS = {name: f"support.agents:{name}" for name in ("exits", "exits_in_a_thread")}


async def test_the_server_lives_on(serve: Serve) -> None:
    server = serve(may_complain=True, agents=AGENTS)
    async with server.client() as client, asyncio.timeout(60):
        paced = {"goal": "count to 50", "context": {"words_per_second": 100}}
        other = (await execute(client, **paced))["session_id"]
        watching = asyncio.create_task(read_all(client, other))
        for agent in AGENTS:
            for goal in ("exit", "interrupt"):
                ended = await client.post(
                    "/v1/sessions/execute", json={"agent_id": agent, "goal": goal}
                )
                body = ended.json()
                assert (body["status"], body["error"]["code"]) == ("failed", "AGENT_FAILED")
                assert body["output"] == "bye "
        frames = await watching
        dense(frames)
        assert frames[-1].body["status"] == "success"
    assert server.process.poll() is None
    told = [line["exception"] for line in server.logged("agent failed", 2 * len(AGENTS))]
    for name in ("SystemExit", "KeyboardInterrupt"):
        assert sum(f"the agent raised {name}" in words for words in told) == len(AGENTS)


async def test_nor_does_it_end_by_what_an_agents_tasks_raise(serve: Serve) -> None:
    elsewhere = {"elsewhere": "support.agents:exits_elsewhere"}
    server = serve(may_complain=True, agents=elsewhere)
    async with server.client() as client, asyncio.timeout(60):
        paced = {"goal": "count to 50", "context": {"words_per_second": 100}}
        other = (await execute(client, **paced))["session_id"]
        watching = asyncio.create_task(read_all(client, other))
        for where, status in PLACES.items():
            for goal in ("exit", "interrupt"):
                ended = await client.post(
                    "/v1/sessions/execute",
                    json={"agent_id": "elsewhere", "goal": goal, "context": {"where": where}},
                )
                body = ended.json()
                assert body["status"] == status
                assert body["output"] == ("bye still here" if status == "success" else "bye ")
        frames = await watching
        dense(frames)
        assert frames[-1].body["status"] == "success"
    assert server.process.poll() is None
    tried = "an agent's or a tool's task tried to end the server"
    told = [line["raised"] for line in server.logged(tried, 2 * len(PLACES))]
    assert told == ["SystemExit", "KeyboardInterrupt"] * len(PLACES)
    server.stop()  # and it still hears the signal
    assert server.process.returncode == 0
