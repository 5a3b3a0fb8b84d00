"""Models asked from worker processes: the same turns, and what happens when a worker ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.agents.engines.llm.calls import (
    AssistantMessage,
    CallRequest,
    Finish,
    ModelCall,
    ModelFailure,
    Sampling,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings
from resonantgenesis_server.agents.engines.llm.workers.ipc import (
    WorkerLink,
    call_json,
    call_of,
    delta_json,
    delta_of,
    failure_json,
)
from resonantgenesis_server.agents.engines.llm.workers.pool import ModelWorkers
from resonantgenesis_server.agents.tools.images import Image
from resonantgenesis_server.codec.json import dumps, loads
from resonantgenesis_server.model.chunks import Reasoning, Source
from resonantgenesis_server.model.errors import AgentError
from support.models import Call, FakeProvider, Gate, Reply
from support.server import ServerProcess
from support.wire import execute, reached, read_all

from .llm_quirks import faults_of

pytestmark = pytest.mark.anyio
KEY = "sk-of-the-provider"
Serve = Callable[..., ServerProcess]
Json = dict[str, Any]


def configured(provider: FakeProvider, data: Path, **fields: Any) -> ServerProcess:
    """A server with two workers."""
    urls = {"local": provider.url, "anthropic": provider.url.removesuffix("/v1")}
    given = {
        "llm__base_urls": json.dumps(urls),
        "llm__api_keys": json.dumps({"anthropic": KEY, "local": KEY}),
        "engine_workers": 2,
        **fields,
    }
    return ServerProcess(data, **given)


@pytest.fixture
def serve(provider: FakeProvider, tmp_path: Path) -> Iterator[Serve]:
    servers: list[ServerProcess] = []

    def start(**fields: Any) -> ServerProcess:
        servers.append(configured(provider, tmp_path / f"data{len(servers)}", **fields))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[FakeProvider]:
    with FakeProvider(seed=5) as running:
        yield running


@pytest.fixture(scope="module")
def shared(
    shared_provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """For tests that leave it running."""
    server = configured(shared_provider, tmp_path_factory.mktemp("workers") / "data")
    yield server.start()
    server.stop()
    assert KEY not in server.log
    assert server.errors() == []


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(server.server_pid).children()
        if any("workers.main" in part for part in child.cmdline())
    ]


async def make_agent(client: httpx.AsyncClient, model: str, **fields: Any) -> str:
    body = {"name": "A", "engine": "llm", "model": model, **fields}
    made = await client.post("/v1/agents", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def ended(client: httpx.AsyncClient, session: str) -> list[Json]:
    return [frame.body for frame in await read_all(client, session)]


async def test_turns_are_the_same_and_nothing_of_models_is_in_the_server(
    shared_provider: FakeProvider, shared: ServerProcess
) -> None:
    provider, server = shared_provider, shared
    call = Call("calculator", {"expression": "6*7"})
    replies = Reply.saying("Let me see.", calls=[call], reasoning=["hm"]), Reply.saying("It is 42.")
    async with server.client() as client:
        for name in ("local", "anthropic"):
            provider.answer(name, *replies)
            agent = await make_agent(client, f"{name}:{name}", tools=["calculator"])
            turn = await execute(client, agent_id=agent, goal="6*7?")
            chunks = await ended(client, turn["session_id"])
            assert chunks[-1]["output"] == "Let me see.It is 42."
            assert chunks[-1]["usage"]["output_tokens"] == 14
            assert [c["result"]["result"] for c in chunks if c["type"] == "tool_result"] == [42]
        refused = await client.post(
            "/v1/agents", json={"name": "A", "engine": "llm", "model": "nobody:m"}
        )
        assert "there is no provider 'nobody'" in refused.text
        assert len(workers_of(server)) == 2
    # The signed thought went through the worker and back.
    assert "c2lnbmVk" in str(provider.asked("anthropic")[1].body)
    maps = Path(f"/proc/{server.server_pid}/maps").read_text()
    assert "aiohttp" not in maps and "jiter" not in maps  # libraries of the two clients


@pytest.mark.parametrize("name", ["local", "anthropic"])
async def test_a_model_is_told_of_the_tools_of_earlier_turns(
    shared_provider: FakeProvider, shared: ServerProcess, name: str
) -> None:
    provider, model = shared_provider, f"{name}-tools"
    call = Call("calculator", {"expression": "6*7"}, "same-id")
    provider.answer(model, Reply.saying("Let me see. ", calls=[call]), Reply.saying("It is 42."))
    async with shared.client() as client:
        agent = await make_agent(client, f"{name}:{model}", tools=["calculator"])
        first = await execute(client, agent_id=agent, goal="6*7?")
        await ended(client, first["session_id"])
        more = await execute(
            client, agent_id=agent, goal="Sure?", session_id=first["session_id"], tools=[]
        )
        assert more["turn"] == 2
        await ended(client, first["session_id"])
        await execute(client, agent_id=agent, goal="Why?", session_id=first["session_id"])
        await ended(client, first["session_id"])
    *_, without, told = (seen.body for seen in provider.asked(model))
    assert "42" in str(without["messages"]) and "calculator" not in str(without["messages"])
    said = told["messages"]
    if name == "local":
        assert faults_of(told) == []
        assert [m["role"] for m in said[:4]] == ["user", "assistant", "tool", "assistant"]
        assert '"result":42' in said[2]["content"] and said[3]["content"] == "It is 42."
    kinds = [part["type"] for m in said for part in m["content"]] if name == "anthropic" else []
    assert kinds[:5] in ([], ["text", "text", "tool_use", "tool_result", "text"])
    assert "6*7" in str(said) and str(said).index("6*7") < str(said).index("It is 42.")


@pytest.mark.parametrize("name", ["local", "anthropic"])
async def test_a_cancel_reaches_the_provider(
    shared_provider: FakeProvider, shared: ServerProcess, name: str
) -> None:
    provider = shared_provider
    provider.answer("m", Reply.saying("one two three", break_at=4, break_how="stall"))
    async with shared.client() as client:
        turn = await execute(client, agent_id=await make_agent(client, f"{name}:m"), goal="go")
        await reached(client, turn["session_id"], 2)
        await client.post(f"/v1/sessions/{turn['session_id']}/cancel", json={})
        chunks = await ended(client, turn["session_id"])
    assert chunks[-1]["status"] == "cancelled"
    assert chunks[-1]["output"].startswith("one ")
    assert await asyncio.to_thread(provider.seen[-1].wait_left)


async def test_a_worker_that_dies_takes_its_turns_only_and_is_replaced(
    provider: FakeProvider, serve: Serve
) -> None:
    server = serve()
    turns = 6
    gate = Gate(turns + 1)  # opened by a turn that comes later
    provider.answer("m", Reply.saying("one two three", gate=gate, gate_at=2))
    async with server.client() as client:
        agent = await make_agent(client, "local:m")
        begun = [await execute(client, agent_id=agent, goal="go") for _ in range(turns)]
        for turn in begun:
            await reached(client, turn["session_id"], 2)
        [victim, other] = workers_of(server)
        os.kill(victim.pid, signal.SIGKILL)
        lost = await asyncio.to_thread(lambda: _wait_for_left(provider, turns // 2))
        assert lost == turns // 2
        later = await execute(client, agent_id=agent, goal="go on")
        ends = [(await ended(client, t["session_id"]))[-2:] for t in (*begun, later)]
        again = await _replaced(server, other)
    statuses = [done["status"] for _, done in ends]
    assert sorted(statuses) == ["failed"] * 3 + ["success"] * 4
    assert statuses[-1] == "success"
    for error, done in ends:
        if done["status"] == "failed":
            assert (error["code"], error["retryable"]) == ("AGENT_FAILED", True)
            assert "the process that asked the model ended" in error["message"]
            assert done["output"].startswith("one")
    assert again != victim.pid
    assert server.logged("an engine worker ended")


def _wait_for_left(provider: FakeProvider, count: int) -> int:
    provider.wait_until(lambda: sum(seen.left.is_set() for seen in provider.seen) >= count)
    return sum(seen.left.is_set() for seen in provider.seen)


async def _replaced(server: ServerProcess, other: psutil.Process) -> int:
    async with asyncio.timeout(20):
        while True:
            new = [worker.pid for worker in workers_of(server) if worker.pid != other.pid]
            if new:
                return new[0]
            await asyncio.sleep(0.05)


async def test_workers_end_with_a_server_that_is_killed(serve: Serve) -> None:
    server = serve()
    async with server.client() as client:
        await make_agent(client, "local:m")
    workers = workers_of(server)
    server.kill()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, workers, 20)
    assert (len(gone), alive) == (2, [])


async def test_a_drain_lets_the_turns_of_workers_end(provider: FakeProvider, serve: Serve) -> None:
    server = serve(drain_seconds=20)
    gate = Gate(2)
    provider.answer("m", Reply.saying("one two three", gate=gate, gate_at=2))
    async with server.client() as client:
        agent = await make_agent(client, "local:m")
        turn = await execute(client, agent_id=agent, goal="go")
        await reached(client, turn["session_id"], 2)
        workers = workers_of(server)
        for worker in workers:  # as a terminal or a service manager would
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGINT)
        server.terminate()
        async with asyncio.timeout(20):
            while (await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.02)
        provider.open_gate(gate)
        assert await asyncio.to_thread(server.wait) == 0
    server.start()
    async with server.client() as client:
        assert (await ended(client, turn["session_id"]))[-1]["status"] == "success"
    assert not any(worker.is_running() for worker in workers)


# -- without a server ------------------------------------------------------------------------


@pytest.fixture
async def source(provider: FakeProvider) -> AsyncIterator[ModelWorkers]:
    async with opened(provider) as made:
        yield made


@asynccontextmanager
async def opened(provider: FakeProvider) -> AsyncIterator[ModelWorkers]:
    """One worker."""
    urls = {"local": provider.url}
    made = ModelWorkers(LlmSettings(base_urls=urls), 1, log_level="info", log_format="text")
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def test_a_worker_stops_reading_when_nobody_takes_what_it_read() -> None:
    count, text = 2_000, "x" * 20_000
    with FakeProvider() as provider:
        provider.answer("m", Reply(text=[text] * count))
        async with opened(provider) as source, asyncio.timeout(60):
            _, client = await source.find("local:m")
            async with aclosing(client.stream(ModelCall("m", "", []))) as deltas:
                size = len(str(await anext(deltas)))
                held = await _settled(provider)
                # The window, what sockets hold, and no more; then all of it comes.
                assert held < count / 2
                size += sum([len(d) async for d in deltas if isinstance(d, str)])
        assert size == count * len(text)


async def _settled(provider: FakeProvider) -> int:
    """How many events the provider has sent once it sends no more."""
    sent, same = 0, 0
    while same < 10:
        await asyncio.sleep(0.03)
        now = provider.seen[0].sent
        same = same + 1 if now == sent else 0
        sent = now
    return sent


async def test_refusals_come_through(source: ModelWorkers) -> None:
    with pytest.raises(AgentError, match="no key for openai"):
        await source.find("openai:m")
    with pytest.raises(AgentError, match="is not PROVIDER:MODEL"):
        await source.find("m")
    _, client = await source.find("local:nobody")
    with pytest.raises(ModelFailure) as failed:
        async for _ in client.stream(ModelCall("nobody", "", [])):
            pass
    assert failed.value.kind == "model"


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60)
@given(st.lists(words, max_size=5), st.data())
def test_messages_arrive_whole_however_they_are_cut(said: list[str], data: st.DataObject) -> None:
    heard: list[Any] = []
    link = WorkerLink(lambda message, _size: heard.append(message), lambda: None)
    raw = b"".join(dumps([n, text]) + b"\n" for n, text in enumerate(said))
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    for start, end in zip([0, *places], [*places, len(raw)], strict=True):
        link.data_received(raw[start:end])
    assert heard == [[n, text] for n, text in enumerate(said)]


def test_calls_and_deltas_go_there_and_back() -> None:
    calls = [CallRequest("1", "t", "{}")]
    call = ModelCall(
        "m",
        "s",
        [
            UserMessage("u"),
            AssistantMessage("a", calls, "native"),
            AssistantMessage("b"),
            ToolMessage("1", "t", "r", True),
            UserMessage("i", [Image("image/png", "aGk=")]),
        ],
        [ToolSpec("t", "d", {"type": "object"})],
        Sampling(0.1, 2, "low"),
    )
    back = call_of(loads(dumps(call_json(call))))
    assert back.messages[2] == AssistantMessage("b", [])
    back.messages[2] = AssistantMessage("b")
    back.messages[0] = UserMessage("u")
    assert back == call
    for delta in ("text", Reasoning("r"), Source("u", "t"), calls[0], Finish("stop", 1, None, "n")):
        number, kind, *fields = loads(dumps(delta_json(7, delta)))
        assert (number, delta_of(kind, fields)) == (7, delta)
    _, kind, *fields = failure_json(7, ModelFailure("key", "said", retry_after=2.0))
    with pytest.raises(ModelFailure) as failed:
        delta_of(kind, fields)
    assert (failed.value.kind, failed.value.retry_after) == ("key", 2.0)
