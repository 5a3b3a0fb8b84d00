"""Workers serve an agent over a socket: what they are told, what they answer, who may be one."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from resonantgenesis import (
    AgentFailed,
    AuthenticationError,
    Conflict,
    NotFound,
    PermissionDenied,
    RateLimited,
    ResonantGenesis,
    SyncResonantGenesis,
    TurnTimeout,
)
from support.credentials import make_key, make_tenant, make_token, sync_client
from support.server import COMMAND, KEY, PATIENCE, Serve, ServerProcess, bearer
from support.serving import WorkerProcess, listed, paced

pytestmark = pytest.mark.anyio

Start = Callable[..., WorkerProcess]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Start]:
    """Starts workers that are there when it returns, and ends them."""
    started: list[WorkerProcess] = []

    def start(
        server: ServerProcess, handler: str, agent: str = "", **options: Any
    ) -> WorkerProcess:
        made = WorkerProcess(server, agent or handler, handler, tmp_path, **options)
        started.append(made)
        return made.ready()

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[SyncResonantGenesis]:
    with SyncResonantGenesis(api_key=KEY, base_url=server.url) as made:
        yield made


def test_a_handler_gets_the_turn_and_gives_every_kind_of_chunk(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start
) -> None:
    worker(server, "telling")
    first = client.sessions.execute(agent_id="telling", goal="one", context={"a": [1]})
    stream = client.sessions.execute_stream(
        agent_id="telling", session_id=first.session_id, goal="two", metadata={"m": 1}
    )
    chunks = list(stream)
    assert [chunk.type for chunk in chunks] == [
        "step", "tool_call", "tool_result", "step", "text", "done",
    ]  # fmt: skip
    assert chunks[1].args == {"goal": "two"}
    assert chunks[2].result == {
        "turn": 2,
        "context": {"a": [1]},
        "metadata": {"m": 1},
        "subject": None,
        "history": [["one", "turn 1", "success"]],
    }
    assert chunks[3].raw["finish_reason"] == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert (chunks[-1].output, usage.input_tokens, usage.output_tokens) == ("turn 2", 3, 4)
    with sync_client(server) as admin:
        (node,) = admin.get("/v1/metrics?of=server", headers=bearer()).json()["data"]
    assert node["open_streams"] >= 1  # the worker's socket


def test_a_turn_asks_and_goes_on_in_another_worker(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start
) -> None:
    first = worker(server, "asking")
    stream = client.sessions.execute_stream(agent_id="asking", goal="x")
    assert [chunk.type for chunk in stream][-1] == "waiting"
    session = client.sessions.get(stream.session_id)
    assert (session.status, [ask.call_id for ask in session.waiting]) == ("waiting", ["pay", "why"])
    first.kill()
    second = worker(server, "asking")
    client.sessions.input(session.session_id, "why", payload="lost")
    client.sessions.input(session.session_id, "pay", approved=True)
    *_, done = client.sessions.join(session.session_id, resume_from=stream.position)
    said = f"paid=True because=lost kept={first.pid} by={second.pid} after=asking "
    assert done.output == f"asking {said}"


def test_a_handler_awaits_and_goes_on_in_another_worker(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start
) -> None:
    first = worker(server, "awaiting")
    stream = client.sessions.execute_stream(agent_id="awaiting", goal="x")
    chunks = list(stream)
    session = str(stream.session_id)
    client.sessions.input(session, "pay", approved=True)
    chunks += client.sessions.join(session, resume_from=chunks[-1].position)
    first.kill()
    second = worker(server, "awaiting")
    [ask] = client.sessions.get(session).waiting
    client.sessions.input(session, ask.call_id, payload="lost")
    chunks += client.sessions.join(session, resume_from=chunks[-1].position)
    kinds = [chunk.type for chunk in chunks if chunk.type not in {"step", "input", "waiting"}]
    said = ["text", "tool_call", "input_required", "tool_result", "input_required", "text"]
    assert kinds == [*said, "done"]
    assert chunks[-1].output == f"asking paid=True because=lost by={second.pid}"


@pytest.mark.parametrize(("handler", "output"), [("plain", "plain hi"), ("returning", "hi!")])
def test_a_handler_may_be_plain(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start, handler: str, output: str
) -> None:
    worker(server, handler)
    assert client.sessions.execute(agent_id=handler, goal="hi").output == output


def test_a_failure_says_what_the_handler_meant_for_clients(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start
) -> None:
    mine = worker(server, "failing")
    with pytest.raises(RateLimited, match="the cellar is full") as told:
        list(client.sessions.execute_stream(agent_id="failing", goal="told"))
    assert told.value.retry_after == 7
    for goal in ("hidden", "bad"):
        with pytest.raises(AgentFailed, match="the agent failed") as hidden:
            list(client.sessions.execute_stream(agent_id="failing", goal=goal))
        assert "secret" not in str(hidden.value)
    assert "a secret of the house" in mine.log
    assert "a handler yields str, or one of Text, Reasoning" in mine.log


async def test_two_workers_share_200_turns_and_none_is_lost_or_doubled(
    server: ServerProcess, worker: Start, tmp_path: Path
) -> None:
    took = tmp_path / "took"
    both = [worker(server, "paced", "shared", capacity=10) for _ in range(2)]
    async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=20) as sdk:

        async def one(number: int) -> tuple[str, str | None]:
            context = {"count": 20, "pace": 400, "took": str(took)}
            result = await sdk.sessions.execute(
                agent_id="shared", goal=f"t{number}", context=context
            )
            return result.status, result.output

        limit = asyncio.Semaphore(40)

        async def bounded(number: int) -> tuple[str, str | None]:
            async with limit:
                return await one(number)

        results = await asyncio.gather(*(bounded(number) for number in range(200)))
    for number, result in enumerate(results):
        text = "".join(f"t{number}-{piece:06d} " for piece in range(1, 21))
        assert result == ("success", text)
    shares = Counter(took.read_text().split())
    assert shares.total() == 200
    assert set(shares) == {str(each.pid) for each in both}
    assert min(shares.values()) > 50


def test_a_turn_without_a_worker_says_what_is_missing(serve: Serve) -> None:
    server = serve(limits__worker_wait=0.5)
    with SyncResonantGenesis(api_key=KEY, base_url=server.url) as client:
        client.agents.create(id="late", name="late", engine="worker")
        with pytest.raises(
            AgentFailed, match=r"no worker serves agent 'late' for 0\.5 s"
        ) as missing:
            list(client.sessions.execute_stream(agent_id="late", goal="x"))
        soon = client.sessions.execute_stream(agent_id="late", goal="x", timeout_seconds=0.1)
        with pytest.raises(TurnTimeout, match=r"not begin within 0\.1 s: no worker serves") as late:
            list(soon)
    assert missing.value.code == "MODEL_UNAVAILABLE"
    assert missing.value.retryable
    assert late.value.code == "TIMEOUT"


def test_a_turn_waits_for_a_worker(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start
) -> None:
    make_served(client, "awaited")
    session = execute_soon(server, "awaited", "wanted", {})
    mine = worker(server, "late", "awaited")
    assert list(client.sessions.join(session))[-1].output == f"wanted by {mine.pid}"


def test_a_full_worker_is_given_no_more_than_its_capacity(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start, tmp_path: Path
) -> None:
    took, hold = tmp_path / "took", tmp_path / "hold"
    worker(server, "late", "narrow", capacity=2)
    context = {"took": str(took), "hold": str(hold)}
    sessions = [execute_soon(server, "narrow", f"t{n}", context) for n in range(5)]
    until(lambda: took.exists() and len(took.read_text().split()) == 2)
    (mine,) = [each for each in listed(server) if each["agent_id"] == "narrow"]
    assert (mine["running"], mine["capacity"], mine["draining"]) == (2, 2, False)
    hold.touch()
    ends = [list(client.sessions.join(session))[-1].status for session in sessions]
    assert ends == ["success"] * 5
    assert len(took.read_text().split()) == 5


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_the_end_of_a_turn_reaches_the_handler(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start, tmp_path: Path, how: str
) -> None:
    ended = tmp_path / "ended"
    worker(server, "minding")
    timeout = 0.5 if how == "timeout" else 60
    session = execute_soon(server, "minding", "x", {"ended": str(ended)}, timeout_seconds=timeout)
    stream = client.sessions.join(session, raise_on_error=False)
    for chunk in stream:
        if chunk.type == "text" and how == "cancel":
            client.sessions.cancel(session)
    until(ended.exists)
    until(lambda: all(w["running"] == 0 for w in listed(server) if w["agent_id"] == "minding"))


def test_a_drained_worker_ends_its_turns_and_takes_none(
    server: ServerProcess, client: SyncResonantGenesis, worker: Start, tmp_path: Path
) -> None:
    hold, took = tmp_path / "hold", tmp_path / "took"
    old = worker(server, "late", "draining")
    context = {"hold": str(hold), "took": str(took)}
    session = execute_soon(server, "draining", "first", context)
    until(took.exists)
    old.send(signal.SIGTERM)
    until(lambda: [w["draining"] for w in listed(server) if w["name"] == old.name] == [True])
    new = worker(server, "late", "draining")
    assert client.sessions.execute(agent_id="draining", goal="x").output == f"x by {new.pid}"
    hold.touch()
    assert list(client.sessions.join(session))[-1].output == f"first by {old.pid}"
    assert old.process.wait(PATIENCE) == 0
    assert [w["name"] for w in listed(server) if w["agent_id"] == "draining"] == [new.name]


# -- who may be one ------------------------------------------------------------------------


async def test_only_the_scope_of_its_own_serves(server: ServerProcess) -> None:
    with sync_client(server, headers=bearer()) as admin:
        tenant, other = make_tenant(admin, "serving"), make_tenant(admin, "other")
        made = {"id": "mine", "name": "mine", "engine": "worker"}
        assert admin.post("/v1/agents", json=made, headers=tenant.headers).status_code == 201
        made = {"id": "guided", "name": "guided", "engine": "guide"}
        assert admin.post("/v1/agents", json=made, headers=tenant.headers).status_code == 201
        own = tenant.key.key
        scoped = make_key(admin, "agents:serve", credential=own).key
        without = make_key(admin, "agents:read", "agents:write", credential=own).key
        bound = make_token(admin, "agents:serve", credential=own, agent_id="mine")
        elsewhere = make_token(admin, "agents:serve", credential=own, agent_id="guided")
        of_user = make_token(admin, "agents:serve", credential=own, subject="u")
    refused = {
        without: (PermissionDenied, "agents:serve"),
        of_user: (PermissionDenied, "cannot serve"),
        elsewhere: (NotFound, "no such agent"),
        other.key.key + "x": (AuthenticationError, "not valid"),
    }
    for key, (kind, words) in refused.items():
        async with ResonantGenesis(api_key=key, base_url=server.url) as sdk:
            with pytest.raises(kind, match=words):
                await sdk.agents.serve("mine", paced)
    async with ResonantGenesis(api_key=own, base_url=server.url) as sdk:
        with pytest.raises(Conflict, match="engine 'guide'"):
            await sdk.agents.serve("guided", paced)
    for key in (scoped, bound):
        async with ResonantGenesis(api_key=key, base_url=server.url) as sdk:
            with pytest.raises(PermissionDenied):  # may serve, and nothing else
                await sdk.agents.list()
            task = asyncio.create_task(sdk.agents.serve("mine", paced))
            async with ResonantGenesis(api_key=own, base_url=server.url) as owner:
                while not (await owner.agents.workers()).data:
                    await asyncio.sleep(0.01)
                result = await owner.sessions.execute(agent_id="mine", goal="x")
                assert result.status == "success"
            task.cancel()
            await asyncio.wait({task})


async def test_another_organization_sees_and_serves_nothing(server: ServerProcess) -> None:
    with sync_client(server, headers=bearer()) as admin:
        one, other = make_tenant(admin, "one"), make_tenant(admin, "another")
        made = {"id": "sealed", "name": "sealed", "engine": "worker"}
        for tenant in (one, other):
            assert admin.post("/v1/agents", json=made, headers=tenant.headers).status_code == 201

    async def marked(_turn: object) -> str:
        return "of the other"

    async with (
        ResonantGenesis(api_key=one.key.key, base_url=server.url) as mine,
        ResonantGenesis(api_key=other.key.key, base_url=server.url) as theirs,
    ):
        task = asyncio.create_task(theirs.agents.serve("sealed", marked))
        while not (await theirs.agents.workers()).data:
            await asyncio.sleep(0.01)
        assert (await mine.agents.workers()).data == []
        session = await mine.sessions.create(agent_id="sealed")
        waits = asyncio.create_task(
            mine.sessions.execute(agent_id="sealed", session_id=session.session_id, goal="x")
        )
        result = await theirs.sessions.execute(agent_id="sealed", goal="x")
        assert result.output == "of the other"
        assert not waits.done()
        await mine.sessions.cancel(session.session_id)
        await waits
        task.cancel()
        await asyncio.wait({task})


async def test_a_revoked_key_ends_its_worker(server: ServerProcess) -> None:
    with sync_client(server, headers=bearer()) as admin:
        tenant = make_tenant(admin, "revoking")
        key = make_key(admin, "agents:serve", "agents:read", credential=tenant.key.key)
        made = {"id": "revoked", "name": "revoked", "engine": "worker"}
        admin.post("/v1/agents", json=made, headers=tenant.headers)
    async with ResonantGenesis(api_key=key.key, base_url=server.url) as sdk:
        task = asyncio.create_task(sdk.agents.serve("revoked", paced))
        while not (await sdk.agents.workers()).data:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=server.url, headers=tenant.headers) as owner:
            assert (await owner.delete(f"/v1/keys/{key.id}")).status_code == 204
        with pytest.raises(AuthenticationError):
            await asyncio.wait_for(task, PATIENCE)


# -- the wire ------------------------------------------------------------------------------


async def hello(socket: Any, **fields: Any) -> dict[str, Any]:
    body = {"type": "hello", "worker_id": "wrk_0123456789abcdef", "capacity": 1, **fields}
    await socket.send(json.dumps(body))
    answer: dict[str, Any] = json.loads(await socket.recv())
    return answer


def socket_of(server: ServerProcess, agent: str) -> Any:
    url = f"{server.url.replace('http', 'ws', 1)}/v1/agents/{agent}/serve"
    return websockets.connect(url, additional_headers=bearer())


def test_a_plain_get_says_why_a_socket_is_refused(
    server: ServerProcess, client: SyncResonantGenesis
) -> None:
    """For clients whose WebSocket does not."""
    make_served(client, "plain-get")
    with sync_client(server) as admin:
        key = make_key(admin, "sessions:read", credential=KEY)
    refused = {
        ("plain-get", KEY): (426, "INVALID_REQUEST"),
        ("plain-get", "rg_wrong"): (401, "UNAUTHENTICATED"),
        ("plain-get", key.key): (403, "FORBIDDEN"),
        ("nobody", KEY): (404, "AGENT_NOT_FOUND"),
        ("guide", KEY): (409, "CONFLICT"),
    }
    for (agent, credential), wanted in refused.items():
        answer = httpx.get(f"{server.url}/v1/agents/{agent}/serve", headers=bearer(credential))
        assert (answer.status_code, answer.json()["error"]["code"]) == wanted


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('{"type":"chunks"', "not JSON"),
        ('{"type":"nonsense"}', "is one of hello"),
        ("[]", "is one of hello"),
        ('{"type":"chunks","assignment":"a","seq":1,"chunks":[]}', "first message"),
        ('{"type":"hello","worker_id":"short","capacity":1}', "worker_id"),
        ('{"type":"hello","worker_id":"wrk_0123456789abcdef","capacity":0}', "capacity"),
        ('{"type":"hello","worker_id":"wrk_0123456789abcdef","capacity":1,"x":1}', "not known"),
    ],
)
async def test_a_bad_message_is_refused_and_the_socket_closed(
    server: ServerProcess, client: SyncResonantGenesis, message: str, words: str
) -> None:
    make_served(client, "wire")
    async with socket_of(server, "wire") as socket:
        await socket.send(message)
        answer = json.loads(await socket.recv())
        assert answer["type"] == "error"
        assert words in answer["message"]
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4400


async def test_messages_count_once_and_in_order(
    server: ServerProcess, client: SyncResonantGenesis
) -> None:
    make_served(client, "raw")
    async with socket_of(server, "raw") as socket:
        welcome = await hello(socket)
        assert (welcome["type"], welcome["assignments"]) == ("welcome", [])
        session = execute_soon(server, "raw", "x", {})
        assign = json.loads(await socket.recv())
        assert (assign["type"], assign["turn"]["goal"]) == ("assign", "x")
        chunks = {"type": "chunks", "assignment": assign["assignment"], "seq": 1, "chunks": ["a"]}
        for _ in range(2):
            await socket.send(json.dumps(chunks))
        until(lambda: client.sessions.get(session).output == "a")
        # Another socket of the same worker takes the assignment over.
        async with socket_of(server, "raw") as second:
            held = [{"assignment": assign["assignment"]}, {"assignment": "asg_0_unknown"}]
            welcome = await hello(second, assignments=held)
            kept = [{"assignment": assign["assignment"], "seq": 1}]
            assert welcome["assignments"] == kept
            last = {**chunks, "seq": 2, "chunks": ["b", {"type": "text", "content": "c"}]}
            await second.send(json.dumps({**last, "is_last": True}))
            assert json.loads(await second.recv()) == {
                "type": "ack",
                "assignment": assign["assignment"],
                "seq": 2,
            }
            # It is over: whoever still sends is told so.
            await second.send(json.dumps({**chunks, "seq": 3}))
            assert json.loads(await second.recv())["type"] == "cancel"
    assert list(client.sessions.join(session))[-1].output == "abc"


@pytest.mark.parametrize(
    "chunk",
    [{"type": "nonsense"}, {"type": "text"}, {"type": "tool_call", "tool": "t", "args": []}],
)
async def test_a_bad_chunk_fails_its_turn_alone(
    server: ServerProcess, client: SyncResonantGenesis, chunk: dict[str, Any]
) -> None:
    make_served(client, "badly")
    async with socket_of(server, "badly") as socket:
        await hello(socket)
        session = execute_soon(server, "badly", "x", {})
        assign = json.loads(await socket.recv())
        message = {"type": "chunks", "assignment": assign["assignment"], "seq": 1}
        await socket.send(json.dumps({**message, "chunks": ["well ", chunk]}))
        answer = json.loads(await socket.recv())
        assert answer == {"type": "cancel", "assignment": assign["assignment"]}
        await socket.send(json.dumps({"type": "ended", "assignment": assign["assignment"]}))
        *_, error, done = list(client.sessions.join(session, raise_on_error=False))
        assert (error.code, done.output) == ("AGENT_FAILED", "well ")
        assert "the agent sent a" in (error.message or "")


def test_the_command_line_lists_workers(server: ServerProcess, worker: Start) -> None:
    mine = worker(server, "paced", "listed", name="of the test")
    done = subprocess.run(
        [*COMMAND, "workers", "--json", "--url", server.url],
        env={"RESONANTGENESIS_API_KEY": KEY, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    (row,) = [row for row in rows if row["agent_id"] == "listed"]
    assert (row["name"], row["capacity"], row["running"]) == (mine.name, 8, 0)


# -- helpers -------------------------------------------------------------------------------


def make_served(client: SyncResonantGenesis, agent: str) -> None:
    try:
        client.agents.get(agent)
    except NotFound:
        client.agents.create(id=agent, name=agent, engine="worker")


def execute_soon(
    server: ServerProcess, agent: str, goal: str, context: dict[str, Any], **more: Any
) -> str:
    """Start a turn; the id of its session."""
    answer = httpx.post(
        f"{server.url}/v1/sessions/execute",
        json={"agent_id": agent, "goal": goal, "context": context, **more},
        headers={**bearer(), "Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["session_id"])


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)
