"""Turns of teams, at a real server: their order, failures, limits, asks, ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis import ResonantGenesis, StreamError
from support.models import Call, FakeProvider, Reply
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio

NAMES = (
    "upper", "echo", "failing", "broken", "numbers", "in_thread", "endless", "asks", "stops",
    "lead", "bounded", "structured",
)  # fmt: skip


@pytest.fixture(scope="module")
def models() -> Iterator[FakeProvider]:
    with FakeProvider(seed=5) as running:
        yield running


def server_at(data: Path, models: FakeProvider) -> ServerProcess:
    return ServerProcess(
        data,
        agents={name: f"support.team_agents:{name}" for name in NAMES},
        llm__base_urls=json.dumps({"local": models.url}),
        llm__api_keys=json.dumps({"local": "k"}),
        tools__approvals="calculator",
    )


@pytest.fixture(scope="module")
def server(
    models: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One that lives through all tests that do not kill it."""
    running = server_at(tmp_path_factory.mktemp("teams") / "data", models).start()
    yield running
    running.stop()
    assert [line for line in running.errors() if "member of a team failed" not in line] == []


@pytest.fixture
def mortal(models: FakeProvider, tmp_path: Path) -> Iterator[ServerProcess]:
    running = server_at(tmp_path / "data", models).start()
    yield running
    running.stop()


def sdk(server: ServerProcess) -> ResonantGenesis:
    return ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30)


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[ResonantGenesis]:
    async with sdk(server) as opened:
        yield opened


async def team(
    client: ResonantGenesis, strategy: str, *members: str | dict[str, Any], **fields: Any
) -> str:
    named = [{"agent_id": each} if isinstance(each, str) else each for each in members]
    return (await client.teams.create(name="t", strategy=strategy, members=named, **fields)).id


async def run(
    client: ResonantGenesis, team_id: str, goal: str, **fields: Any
) -> list[dict[str, Any]]:
    """The chunks of a turn, up to its end or its stop."""
    stream = client.sessions.execute_stream(
        agent_id=team_id, goal=goal, raise_on_error=False, **fields
    )
    chunks = [chunk.raw async for chunk in stream]
    assert [chunk["position"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    return chunks


def text_of(chunks: list[dict[str, Any]], agent_id: str | None = None) -> str:
    texts = [chunk for chunk in chunks if chunk["type"] == "text"]
    return "".join(each["content"] for each in texts if each.get("agent_id") == agent_id)


def result_of(chunks: list[dict[str, Any]], call_id: str) -> tuple[Any, bool]:
    results = [each for each in chunks if each["type"] == "tool_result"]
    (result,) = [each for each in results if each["call_id"] == call_id]
    return result["result"], result["is_error"]


async def events_of(client: ResonantGenesis, session: str) -> list[Any]:
    found = client.events.replay(
        since="2026-01-01", events=["team.*"], filters={"session_id": session}
    )
    return [event async for event in found]


async def test_one_after_the_other(client: ResonantGenesis) -> None:
    parrot = {"agent_id": "echo", "role": "parrot", "instructions": "Say it again."}
    chunks = await run(client, await team(client, "sequential", "upper", parrot), "hi")
    said = "hi\n\nupper answered:\n\nHI|Your role in the team: parrot.\n\nSay it again. "
    assert text_of(chunks, "upper") == "HI"
    assert text_of(chunks, "echo") == text_of(chunks) == said
    assert text_of(chunks, "whisperer") == "(psst)"
    assert chunks[-1]["output"] == said
    assert result_of(chunks, "call_1_1") == ("HI", False)
    usage = chunks[-1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["steps"]) == (2, 1, 4)
    theirs = [chunk for chunk in chunks if "parent" in chunk]
    assert {(chunk["agent_id"], chunk["parent"]) for chunk in theirs} == {
        ("upper", "call_1_1"), ("whisperer", "call_1_1"), ("echo", "call_1_2"),
    }  # fmt: skip
    begins = [chunk["name"] for chunk in chunks if chunk.get("status") == "started"]
    assert begins == ["answer", "upper", "shout", "echo"]


async def test_an_answer_that_is_no_text_is_given_on_as_json(client: ResonantGenesis) -> None:
    chunks = await run(client, await team(client, "sequential", "structured", "echo"), "hi")
    assert result_of(chunks, "call_1_1") == ('{"said":"hi"}', False)
    assert chunks[-1]["output"] == 'hi\n\nstructured answered:\n\n{"said":"hi"}|None '
    chunks = await run(client, await team(client, "sequential", "structured"), "hi")
    assert chunks[-1]["output"] == '{"said":"hi"}'


async def test_the_events_of_a_turn(client: ResonantGenesis) -> None:
    chunks = await run(
        client, await team(client, "sequential", "failing", "upper", on_failure="continue"), "hi"
    )
    events = await events_of(client, chunks[0]["session_id"])
    assert [(event.type, event.data.get("member")) for event in events] == [
        ("team.execution.started", None),
        ("team.task.assigned", "failing"),
        ("team.task.failed", "failing"),
        ("team.task.assigned", "upper"),
        ("team.task.completed", "upper"),
        ("team.execution.completed", None),
    ]
    assert events[2].data["error"] == "the shop is closed"
    assert events[3].data["task"] == "hi\n\nfailing failed: the shop is closed"
    assert len({event.id for event in events}) == len(events)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(counts=st.lists(st.integers(0, 80), min_size=2, max_size=2))
def test_each_member_of_a_parallel_turn_keeps_its_order(
    server: ServerProcess, counts: list[int]
) -> None:
    body = {
        "name": "t",
        "strategy": "parallel",
        "members": [{"agent_id": "numbers"}, {"agent_id": "in_thread"}, {"agent_id": "echo"}],
    }
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        made = http.post("/v1/teams", json=body).json()["id"]
        for count in counts:
            asked = {"agent_id": made, "goal": "a b c d", "context": {"count": count}}
            done = http.post("/v1/sessions/execute", json=asked).json()
            chunks = http.get(f"/v1/sessions/{done['session_id']}/events").json()["events"]
            expected = "".join(f"{number} " for number in range(count))
            assert text_of(chunks, "numbers") == text_of(chunks, "in_thread") == expected
            assert text_of(chunks, "echo") == "a b c d|None "
            positions = [chunk["position"] for chunk in chunks]
            assert positions == list(range(1, len(chunks) + 1))
            heads = ("## numbers\n", "## in_thread\n", "## echo\n")
            places = [done["output"].index(head) for head in heads]
            assert places == sorted(places)


async def test_a_lead_gives_tasks(client: ResonantGenesis) -> None:
    members = ("lead", "upper", "failing")
    made = await team(client, "hierarchical", *members, lead="lead", on_failure="continue")
    chunks = await run(client, made, "upper:one;failing:two;nobody:x;upper:three")
    bad = "agent must be one of upper, failing, and task a text"
    assert chunks[-1]["output"] == f"Let me ask 4. ONE / the shop is closed / {bad} / THREE"
    assert text_of(chunks, "upper") == "ONETHREE"
    results = [each for each in chunks if each["type"] == "tool_result" and "parent" not in each]
    assert sorted(each["call_id"] for each in results) == ["d0", "d1", "d2", "d3"]
    assert "lead" not in {chunk.get("agent_id") for chunk in chunks}


async def test_a_model_leads_models(client: ResonantGenesis, models: FakeProvider) -> None:
    """Two tasks at once, of a model whose own call needs an approval; then the lead's answer."""
    ask = [
        Call("delegate", {"agent": "worker", "task": "add"}, "x1"),
        Call("delegate", {"agent": "upper", "task": "loud"}, "x2"),
    ]
    models.answer("boss", Reply.saying("Go. ", calls=ask), Reply.saying("All done."))
    add = Call("calculator", {"expression": "6*7"}, "y1")
    models.answer("worker", Reply.saying("Hm. ", calls=[add]), Reply.saying("It is 42."))
    for name, tools in (("boss", []), ("worker", ["calculator"])):
        await client.agents.create(
            id=name, name=name, engine="llm", model=f"local:{name}", tools=tools
        )
    made = await team(client, "hierarchical", "boss", "worker", "upper", lead="boss")
    chunks = await run(client, made, "do it")
    session = chunks[0]["session_id"]
    assert chunks[-1]["type"] == "waiting"
    (call_id,) = chunks[-1]["calls"]
    (ask_chunk,) = [chunk for chunk in chunks if chunk["type"] == "input_required"]
    assert (ask_chunk["agent_id"], ask_chunk["tool"]) == ("worker", "calculator")
    assert result_of(chunks, "call_1_2") == ("LOUD", False)
    await client.sessions.input(session, call_id, approved=True)
    joined = client.sessions.join(session, resume_from=chunks[-1]["position"])
    chunks += [chunk.raw async for chunk in joined]
    assert chunks[-1]["output"] == "Go. All done."
    assert result_of(chunks, "call_1_1") == ("Hm. It is 42.", False)
    last = models.asked("boss")[-1].body["messages"]
    assert [each["content"] for each in last if each["role"] == "tool"] == [
        "Hm. It is 42.", "LOUD",
    ]  # fmt: skip
    assert [each["role"] for each in models.asked("worker")[0].body["messages"]] == ["user"]


async def test_a_member_that_fails_ends_the_others(client: ResonantGenesis) -> None:
    chunks = await run(client, await team(client, "parallel", "endless", "failing"), "hi")
    assert [chunk["type"] for chunk in chunks[-2:]] == ["error", "done"]
    assert chunks[-2]["message"] == "failing: the shop is closed"
    assert chunks[-1]["status"] == "failed"
    opened = [chunk for chunk in chunks if chunk["type"] == "step"]
    assert len(opened) == 2 * len({chunk["step"] for chunk in opened})
    kinds = [event.type for event in await events_of(client, chunks[0]["session_id"])]
    assert kinds[-1] == "team.execution.failed" and "team.task.completed" not in kinds


async def test_a_team_whose_members_all_fail_has_failed(client: ResonantGenesis) -> None:
    made = await team(client, "parallel", "failing", "broken", on_failure="continue")
    chunks = await run(client, made, "hi")
    assert chunks[-2]["message"] == "every member of the team failed"
    assert result_of(chunks, "call_1_2") == ("the agent failed", True)
    assert "a secret" not in json.dumps(chunks)


async def test_the_limits_of_a_member_hold(client: ResonantGenesis) -> None:
    made = await team(client, "parallel", "bounded", "upper", on_failure="continue")
    late, steps = await run(client, made, "wait"), await run(client, made, "go")
    assert "timeout_seconds of the agent" in result_of(late, "call_1_1")[0]
    assert "max_steps of the agent" in result_of(steps, "call_1_1")[0]
    assert late[-1]["status"] == steps[-1]["status"] == "success"
    limited = await run(client, made, "go", max_steps=3)
    assert limited[-2]["code"] == "MAX_STEPS" and "raise max_steps" in limited[-2]["message"]


async def test_a_member_waits_for_a_place(client: ResonantGenesis) -> None:
    """While a turn of its own has the only one."""
    held = client.sessions.execute_stream(agent_id="bounded", goal="wait", timeout_seconds=60)
    async for _ in held:
        break
    made = await team(client, "sequential", "bounded")
    chunks = await run(client, made, "wait")
    assert "timeout_seconds of the agent" in chunks[-2]["message"]
    assert chunks[-2]["code"] == "TIMEOUT"
    await client.sessions.cancel(str(held.session_id))


async def test_a_cancel_reaches_all(client: ResonantGenesis) -> None:
    made = await team(client, "parallel", "endless", "upper", "asks")
    stream = client.sessions.execute_stream(agent_id=made, goal="hi")
    async for chunk in stream:
        if chunk.type == "waiting":
            break
    await client.sessions.cancel(str(stream.session_id))
    chunks: list[dict[str, Any]] = []
    # The turn still waits while its members end.
    followed = client.sessions.join(str(stream.session_id), resume_from=0, follow=True)
    async for chunk in followed:
        chunks.append(chunk.raw)
        if chunk.type == "done":
            break
    assert chunks[-1]["status"] == "cancelled"
    events = await events_of(client, str(stream.session_id))
    assert events[-1].type == "team.execution.cancelled"


async def test_members_wait_in_their_place(client: ResonantGenesis) -> None:
    """One awaits its answer, another has returned; both go on in one process."""
    made = await team(client, "parallel", "asks", "stops")
    chunks = await run(client, made, "hi")
    session = chunks[0]["session_id"]
    while chunks[-1]["type"] == "waiting":
        for call_id in chunks[-1]["calls"]:
            await client.sessions.input(session, call_id, payload="Bo")
        joined = client.sessions.join(session, resume_from=chunks[-1]["position"])
        chunks += [chunk.raw async for chunk in joined]
    assert result_of(chunks, "call_1_1") == ("May I? Hello Bo.", False)
    assert result_of(chunks, "call_1_2") == ("May I? Hello Bo; said May I? ", False)
    asked = [chunk for chunk in chunks if chunk["type"] == "input_required"]
    assert {(each["call_id"], each["agent_id"]) for each in asked} == {
        ("call_1_1.name", "asks"), ("call_1_2.name", "stops"),
    }  # fmt: skip


async def test_a_turn_that_waits_outlives_its_process(mortal: ServerProcess) -> None:
    async with sdk(mortal) as client:
        made = await team(client, "sequential", "upper", "stops", "echo")
        chunks = await run(client, made, "hi")
        session = chunks[0]["session_id"]
        assert chunks[-1]["calls"] == ["call_1_2.name"]
        mortal.kill()
        mortal.start()
        await client.sessions.input(session, "call_1_2.name", payload="Bo")
        joined = client.sessions.join(session, resume_from=chunks[-1]["position"])
        chunks += [chunk.raw async for chunk in joined]
        events = [event.type for event in await events_of(client, session)]
    assert [chunk["position"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert text_of(chunks, "stops") == "May I? Hello Bo; said May I? "
    assert text_of(chunks, "upper") == "HI"
    assert "stops answered:\n\nMay I? Hello Bo; said May I? " in chunks[-1]["output"]
    assert events.count("team.task.assigned") == events.count("team.task.completed") == 3


async def test_a_lead_outlives_its_process(mortal: ServerProcess) -> None:
    """No task is done twice, and the lead knows of all that were done before."""
    async with sdk(mortal) as client:
        members = ("lead", "upper", "stops", "failing")
        made = await team(client, "hierarchical", *members, lead="lead", on_failure="continue")
        chunks = await run(client, made, "upper:one;stops:two;failing:three")
        stream = chunks[-1]
        assert stream["calls"] == ["d1.name"]
        mortal.kill()
        mortal.start()
        session = stream["session_id"]
        await client.sessions.input(session, "d1.name", payload="Bo")
        joined = client.sessions.join(session, resume_from=stream["position"])
        chunks += [chunk.raw async for chunk in joined]
    said = "ONE / May I? Hello Bo; said May I?  / the shop is closed"
    assert chunks[-1]["output"] == f"Let me ask 3. {said}"
    assert text_of(chunks, "upper") == "ONE"
    assert sum(chunk["type"] == "tool_result" and "parent" not in chunk for chunk in chunks) == 3


async def test_a_turn_ends_with_its_process(mortal: ServerProcess) -> None:
    """While members work, and while one awaits its answer in its place."""
    async with sdk(mortal) as client:
        working = await team(client, "parallel", "endless", "upper")
        stream = client.sessions.execute_stream(agent_id=working, goal="hi")
        async for chunk in stream:
            if chunk.type == "tool_result" and chunk.raw["call_id"] == "call_1_2":
                break
        waiting = await run(client, await team(client, "sequential", "asks"), "hi")
        assert waiting[-1]["type"] == "waiting"
        mortal.kill()
        mortal.start()
        with pytest.raises(StreamError) as lost:
            async for _ in client.sessions.join(str(stream.session_id), turn=1):
                pass
        assert lost.value.code == "RUNNER_LOST"
        with pytest.raises(StreamError) as lost:
            async for _ in client.sessions.join(str(waiting[0]["session_id"]), turn=1):
                pass
        assert lost.value.code == "RUNNER_LOST"
        kinds = [event.type for event in await events_of(client, str(stream.session_id))]
        assert kinds[-1] == "team.execution.failed"


async def test_a_socket_and_other_clients_run_a_team(
    server: ServerProcess, client: ResonantGenesis
) -> None:
    made = await team(client, "sequential", "upper")
    async with client.realtime() as rt:
        execution = rt.execute(agent_id=made, goal="hi")
        kinds = [chunk.type async for chunk in execution]
    assert kinds[-1] == "done"
    async with server.client() as http:
        body = {"model": made, "messages": [{"role": "user", "content": "hi"}]}
        answer = (await http.post("/openai/v1/chat/completions", json=body)).json()
        assert answer["choices"][0]["message"]["content"] == "HI"
        models = (await http.get("/openai/v1/models")).json()
    assert made in {each["id"] for each in models["data"]}
