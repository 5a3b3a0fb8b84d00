"""A model's turn that waits for people and for its client, over kills of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis import ResonantGenesis
from support.models import Call, FakeProvider, Reply
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio
CLIENT_TOOL = {
    "name": "look",
    "description": "Looks at the screen.",
    "schema": {"type": "object", "properties": {"at": {"type": "string"}}},
}


@pytest.fixture(scope="module")
def models() -> Iterator[FakeProvider]:
    with FakeProvider(seed=5) as running:
        yield running


@pytest.fixture
def server(models: FakeProvider, tmp_path: Path) -> Iterator[ServerProcess]:
    urls = {"local": models.url, "anthropic": models.url.removesuffix("/v1")}
    running = ServerProcess(
        tmp_path / "data",
        llm__base_urls=json.dumps(urls),
        llm__api_keys=json.dumps({"local": "k", "anthropic": "k"}),
        tools__approvals="calculator",
    )
    yield running.start()
    running.stop()
    assert running.errors() == []


def sdk(server: ServerProcess) -> ResonantGenesis:
    return ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30)


async def agent_on(client: ResonantGenesis, model: str) -> str:
    agent = await client.agents.create(
        name="A", engine="llm", model=model, tools=["calculator", "current_time"]
    )
    return agent.agent_id


def results_of(body: dict[str, Any]) -> list[str]:
    """The results of tools in a request, in their order."""
    found: list[str] = []
    for message in body["messages"]:
        content = message["content"]
        if message["role"] == "tool":
            found.append(content)
        elif isinstance(content, list):
            found += [
                json.dumps(part["content"]) for part in content if part["type"] == "tool_result"
            ]
    return found


@pytest.mark.parametrize("model", ["local:m", "anthropic:m"])
@pytest.mark.parametrize("kills", [False, True])
async def test_a_turn_goes_on_from_its_log(
    models: FakeProvider, server: ServerProcess, model: str, kills: bool
) -> None:
    calls = [
        Call("calculator", {"expression": "6*7"}, "x1"),
        Call("current_time", {}, "x2"),
        Call("look", {"at": "the door"}, "x3"),
    ]
    denied = Call("calculator", {"expression": "1/3"}, "y1")
    models.answer(
        "m",
        Reply.saying("Let me see. ", calls=calls, usage=(5, 3)),
        Reply.saying("And now. ", calls=[denied], usage=(7, 4)),
        Reply.saying("Done.", usage=(11, 2)),
    )
    before = len(models.asked("m"))
    async with sdk(server) as client:
        agent = await agent_on(client, model)
        stream = client.sessions.execute_stream(
            agent_id=agent, goal="do it", client_tools=[CLIENT_TOOL]
        )
        first = [chunk async for chunk in stream]
        session = str(stream.session_id)
        asks = [(c.kind, c.tool, c.call_id) for c in first if c.type == "input_required"]
        assert asks == [("approval", "calculator", "call_1_1"), ("tool", "look", "call_1_3")]
        assert [c.call_id for c in first if c.type == "tool_result"] == ["call_1_2"]
        if kills:
            server.kill()
            server.start()
        await client.sessions.input(session, "call_1_3", payload={"seen": "a cat"})
        await client.sessions.input(session, "call_1_1", approved=True)
        second = [c async for c in client.sessions.join(session, resume_from=first[-1].position)]
        while second[-1].type != "waiting":
            more = client.sessions.join(session, resume_from=second[-1].position)
            second += [c async for c in more]
        if kills:
            server.kill()
            server.start()
        await client.sessions.input(session, "call_1_4", approved=False, reason="no thirds")
        last = [c async for c in client.sessions.join(session, resume_from=second[-1].position)]
    chunks = [*first, *second, *last]
    assert [c.position for c in chunks] == list(range(1, len(chunks) + 1))
    done = chunks[-1]
    assert (done.type, done.output) == ("done", "Let me see. And now. Done.")
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.steps) == (23, 9, 3)
    results = {c.call_id: c for c in chunks if c.type == "tool_result"}
    assert results["call_1_1"].result["result"] == 42
    assert results["call_1_3"].result == {"seen": "a cat"}
    assert (results["call_1_4"].is_error, results["call_1_4"].result) == (
        True, "denied: no thirds",
    )  # fmt: skip
    assert len(results) == sum(c.type == "tool_result" for c in chunks) == 4
    asked = [seen.body for seen in models.asked("m")[before:]]
    assert len(asked) == 3
    final = results_of(asked[-1])
    assert len(final) == 4
    assert "42" in final[0] and "a cat" in final[2] and "no thirds" in final[3]


async def test_a_client_tool_with_the_name_of_ours_is_refused(
    models: FakeProvider, server: ServerProcess
) -> None:
    async with sdk(server) as client:
        agent = await agent_on(client, "local:m")
        result = await client.sessions.execute(
            agent_id=agent,
            goal="x",
            client_tools=[{"name": "calculator"}],
            raise_on_error=False,
        )
    assert result.error is not None and "calculator" in result.error["message"]
