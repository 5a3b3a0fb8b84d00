"""Agents of other libraries, with the libraries themselves, in a server beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis import AgentFailed, ResonantGenesis
from support.models import Call, FakeProvider, Reply
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "other_frameworks"
ENVIRONMENT = ROOT / ".venv-frameworks"
OWN = ("team", "asks", "careful", "kinds", "forgets", "remembers", "endless", "knowing", "trip")
AGENTS = {
    "graph": "langgraph_agent:answer",
    "chain": "langchain_agent:translate",
    "langchain": "langchain_agent:answer",
    "openai": "openai_agent:answer",
    **{name: f"frameworks.graphs:{name}" for name in OWN},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(seed=7) as running:
        yield running


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider
) -> Iterator[ServerProcess]:
    assert ENVIRONMENT.exists(), "make .venv-frameworks/.done"
    folder = tmp_path_factory.mktemp("frameworks")
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, folder)
    running = ServerProcess(folder / "data", agents=AGENTS, environment=ENVIRONMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", provider.url)
        patch.setenv("OPENAI_API_KEY", "sk-test")
        patch.setenv("MODEL", "m")
        patch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
        running.start()
        try:
            yield running
        finally:
            running.stop()
    assert running.errors() == []


async def turn_of(
    server: ServerProcess, agent: str, goal: str, *answers: Mapping[str, Any], **options: Any
) -> list[Any]:
    """The chunks of a turn, whose asks get these answers; the server is killed between with
    `kills`."""
    kills = options.pop("kills", False)
    left = list(answers)
    async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30) as client:
        stream = client.sessions.execute_stream(agent_id=agent, goal=goal, **options)
        chunks = [chunk async for chunk in stream]
        session = str(stream.session_id)
        while chunks[-1].type == "waiting":
            if kills:
                server.kill()
                server.start()
            for ask in (await client.sessions.get(session)).waiting:
                await client.sessions.input(session, ask.call_id, **left.pop(0))
            behind = client.sessions.join(session, resume_from=chunks[-1].position)
            chunks += [chunk async for chunk in behind]
    assert [chunk.position for chunk in chunks] == [
        chunks[0].position + number for number in range(len(chunks))
    ]
    assert left == []
    return chunks


def shown(chunks: list[Any], *kinds: str) -> list[Any]:
    """These kinds of chunks, as far as the adapters decide on them."""
    found: list[Any] = []
    for chunk in chunks:
        sub_agent = chunk.agent_id not in {None, "", *AGENTS}  # the first step has the turn's own
        origin = {"by": chunk.agent_id} if sub_agent else {}
        origin |= {"for": chunk.parent} if chunk.parent and origin else {}
        match chunk.type:
            case kind if kind not in kinds:
                continue
            case "step" if chunk.status == "started":
                found.append(("step", chunk.name, *origin.values()))
            case "tool_call":
                found.append(("call", chunk.tool, chunk.args, chunk.call_id, *origin.values()))
            case "tool_result":
                said = (chunk.result, chunk.is_error, *origin.values())
                found.append(("result", chunk.tool, *said))
            case "text" | "reasoning":
                found.append((chunk.type, chunk.content, *origin.values()))
            case "input_required":
                found.append(("ask", chunk.kind, chunk.message))
            case "source":
                found.append(("source", chunk.url))
            case "data":
                found.append(("data", chunk.name, chunk.data))
    return found


def usage_of(chunks: list[Any]) -> tuple[int, int]:
    used = chunks[-1].usage
    return used.input_tokens, used.output_tokens


async def test_an_interrupt_of_a_graph_is_an_ask(server: ServerProcess) -> None:
    chunks = await turn_of(server, "graph", "Oslo", {"payload": 3})
    assert shown(chunks, "step", "data", "input_required", "text") == [
        ("step", "book"),
        ("data", "interrupt", {"message": "How many seats?", "trip": "Oslo"}),
        ("ask", "input", "How many seats?"),
        ("step", "book"),
        ("text", "3 seats are booked. "),
        ("step", "confirm"),
        ("text", "The tickets are in your mail."),
    ]
    assert chunks[-1].output == "3 seats are booked. The tickets are in your mail."


async def test_several_interrupts_of_a_node_and_one_of_a_graph_in_it(server: ServerProcess) -> None:
    answers = [{"payload": word} for word in ("a", "b", "c")]
    chunks = await turn_of(server, "asks", "x", *answers)
    assert [ask[2] for ask in shown(chunks, "input_required")] == ["One?", "Two?", "Three?"]
    assert chunks[-1].output == "a b c."
    with pytest.raises(AgentFailed, match="no time"):
        await turn_of(server, "asks", "x", {"approved": False, "reason": "no time"})


async def test_a_breakpoint_is_an_approval(server: ServerProcess) -> None:
    chunks = await turn_of(server, "careful", "x", {"approved": True})
    assert (chunks[-1].output, chunks[-1].status) == ("Paid.", "success")
    with pytest.raises(AgentFailed, match="denied"):
        await turn_of(server, "careful", "x", {"approved": False})


@pytest.mark.parametrize("approved", [True, False])
async def test_an_agent_of_langchain(
    server: ServerProcess, provider: FakeProvider, approved: bool
) -> None:
    calls = [Call("order_total", {"order": 4}, "call-1"), Call("refund", {"order": 4}, "call-2")]
    provider.answer("m", Reply.saying("Let me see. ", calls=calls), Reply.saying("So be it."))
    decision = {"approved": approved, "reason": "too dear"}
    chunks = await turn_of(server, "langchain", "Refund 4", decision)
    assert shown(chunks, "step", "tool_call", "input_required")[:4] == [
        ("step", "model"),
        ("call", "order_total", {"order": 4}, "call-1"),
        ("call", "refund", {"order": 4}, "call-2"),
        ("ask", "approval", "Tool execution requires approval\n\nTool: refund\nArgs: {'order': 4}"),
    ]
    results = {result[1]: result[2:] for result in shown(chunks, "tool_result")}
    assert results["order_total"] == ("40.0", False)
    if approved:
        assert results["refund"] == ("order 4 is paid back", False)
    else:
        assert results["refund"][1] and "too dear" in results["refund"][0]
    assert chunks[-1].output == "Let me see. So be it."
    assert usage_of(chunks) == (22, 14)


async def test_two_equal_calls_are_decided_one_by_one(
    server: ServerProcess, provider: FakeProvider
) -> None:
    calls = [Call("refund", {"order": 4}, "call-1"), Call("refund", {"order": 4}, "call-2")]
    provider.answer("m", Reply(calls=calls), Reply.saying("So be it."))
    chunks = await turn_of(server, "langchain", "Refund 4", {"approved": True}, {"approved": False})
    results = {chunk.call_id: chunk.is_error for chunk in chunks if chunk.type == "tool_result"}
    assert results == {"call-1": False, "call-2": True}


async def test_interrupts_side_by_side_in_a_graph_with_a_state_of_its_own(
    server: ServerProcess,
) -> None:
    chunks = await turn_of(server, "trip", "Seats", {"payload": 3}, {"payload": "aisle"})
    asked = [chunk for chunk in chunks if chunk.type == "input_required"]
    assert [(ask.message, ask.schema) for ask in asked] == [
        ("Seats?", {"type": "integer"}),
        ("And?", None),
    ]
    assert shown(chunks, "data")[-1] == (
        "data",
        "output",
        {"goal": "Seats", "said": [3, "aisle"]},
    )


async def test_a_chain_of_langchain(server: ServerProcess, provider: FakeProvider) -> None:
    provider.answer("m", Reply.saying("Bonjour le monde."))
    chunks = await turn_of(server, "chain", "Hello world.")
    assert shown(chunks, "step", "text", "data") == [
        ("step", "model"),
        *(("text", word) for word in ("Bonjour ", "le ", "monde.")),
    ]
    assert (chunks[-1].output, usage_of(chunks)) == ("Bonjour le monde.", (11, 7))


async def test_an_agent_that_a_tool_runs_is_a_sub_agent(
    server: ServerProcess, provider: FakeProvider
) -> None:
    call = Call("research", {"topic": "fjords"}, "call-1")
    provider.answer("lead", Reply(calls=[call]), Reply.saying("Deep."))
    provider.answer("researcher", Reply.saying("Very deep."))
    chunks = await turn_of(server, "team", "How deep?")
    assert shown(chunks, "step", "tool_call", "tool_result", "text") == [
        ("step", "model"),
        ("call", "research", {"topic": "fjords"}, "call-1"),
        ("step", "model", "researcher", "call-1"),
        ("text", "Very ", "researcher", "call-1"),
        ("text", "deep.", "researcher", "call-1"),
        ("result", "research", "Very deep.", False),
        ("step", "model"),
        ("text", "Deep."),
    ]
    assert chunks[-1].output == "Deep."


async def test_thoughts_sources_and_own_data_of_a_graph(server: ServerProcess) -> None:
    chunks = await turn_of(server, "kinds", "x")
    assert shown(chunks, "reasoning", "text", "source", "data") == [
        ("reasoning", "Hm."),
        ("text", "Yes."),
        ("source", "https://a.example"),
        ("data", "custom", {"percent": 50}),
        ("source", "https://b.example"),
    ]


@pytest.mark.parametrize("agent", ["forgets", "remembers"])
async def test_a_graph_has_the_earlier_turns(server: ServerProcess, agent: str) -> None:
    first = await turn_of(server, agent, "one")
    second = await turn_of(server, agent, "two", session_id=first[-1].session_id)
    assert [first[-1].output, second[-1].output] == ["1 messages", "3 messages"]


async def test_a_graph_without_an_end(server: ServerProcess) -> None:
    with pytest.raises(AgentFailed, match="MAX_STEPS: Recursion limit"):
        await turn_of(server, "endless", "x")


@pytest.mark.parametrize("approved", [True, False])
async def test_agents_of_openais_sdk(
    server: ServerProcess, provider: FakeProvider, approved: bool
) -> None:
    provider.answer(
        "m",
        Reply(calls=[Call("transfer_to_refunds", {}, "call-1")]),
        Reply(text=["Sure. "], reasoning=["Hm."], calls=[Call("refund", {"order": 4}, "call-2")]),
        Reply.saying("So be it."),
    )
    chunks = await turn_of(
        server, "openai", "Refund 4", {"approved": approved, "reason": "too dear"}
    )
    said = "order 4 is paid back" if approved else "denied: too dear"
    assert shown(chunks, "step", "reasoning", "tool_call", "input_required", "tool_result") == [
        ("step", "desk"),
        ("call", "transfer_to_refunds", {}, "call-1"),
        ("result", "transfer_to_refunds", '{"assistant": "refunds"}', False),
        ("step", "refunds", "refunds"),
        ("reasoning", "Hm.", "refunds"),
        ("call", "refund", {"order": 4}, "call-2", "refunds"),
        ("ask", "approval", None),
        ("result", "refund", said, not approved, "refunds"),
        ("step", "refunds", "refunds"),
    ]
    assert (chunks[-1].output, usage_of(chunks)) == ("Sure. So be it.", (33, 21))


async def test_the_context_of_a_run_is_made_again_behind_a_wait(
    server: ServerProcess, provider: FakeProvider
) -> None:
    provider.answer("knowing", Reply(calls=[Call("whoami", {}, "call-1")]), Reply.saying("Ann."))
    chunks = await turn_of(
        server, "knowing", "Who am I?", {"approved": True}, metadata={"name": "Ann"}
    )
    assert shown(chunks, "tool_result") == [("result", "whoami", "Ann", False)]


@pytest.mark.soak
@pytest.mark.parametrize("agent", ["graph", "langchain", "openai"])
async def test_a_kill_while_an_agent_waits(
    server: ServerProcess, provider: FakeProvider, agent: str
) -> None:
    call = Call("refund", {"order": 4}, "call-1")
    provider.answer("m", Reply(calls=[call]), Reply.saying("So be it."))
    if agent == "openai":
        moved = Reply(calls=[Call("transfer_to_refunds", {}, "call-0")])
        provider.answer("m", moved, Reply(calls=[call]), Reply.saying("So be it."))
    answer = {"payload": 3} if agent == "graph" else {"approved": True}
    chunks = await turn_of(server, agent, "x", answer, kills=True)
    assert chunks[-1].output.endswith(("So be it.", "The tickets are in your mail."))
