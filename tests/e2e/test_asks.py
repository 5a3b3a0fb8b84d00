"""Turns that wait, over real processes: killed, restarted, answered by others, streamed on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from resonantgenesis import Conflict, InvalidRequest, ResonantGenesis, SyncResonantGenesis
from support.server import KEY, Serve, ServerProcess
from support.wire import dense, execute, read_all, text_of
from websockets.asyncio.client import connect

pytestmark = pytest.mark.anyio
AGENTS = {
    "refunds": "support.agents:refunds",
    "refunds-thread": "support.agents:refunds_in_a_thread",
    "questions": "support.agents:questions",
}


@pytest.fixture
def server(serve: Serve) -> ServerProcess:
    return serve(agents=AGENTS)


def sdk(server: ServerProcess) -> ResonantGenesis:
    return ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30)


async def until(client: ResonantGenesis, session: str, status: str) -> None:
    async with asyncio.timeout(60):
        while (await client.sessions.get(session)).status != status:
            await asyncio.sleep(0.05)


async def until_counted(server: ServerProcess, state: str, count: int) -> None:
    """Wait until the metrics have so many turns of this state."""
    sample = f'resonantgenesis_turns_open{{state="{state}"}} {count}'
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=server.url) as http:
        while sample not in (text := (await http.get("/metrics")).text):
            assert "resonantgenesis_turns_open" in text
            await asyncio.sleep(0.05)


async def test_a_cancelled_turn_says_that_it_has_ended(server: ServerProcess) -> None:
    async with sdk(server) as client:
        stream = client.sessions.execute_stream(agent_id="refunds", goal="7", context={})
        async for _ in stream:
            pass
        session = str(stream.session_id)
        await client.sessions.cancel(session)
        with pytest.raises(Conflict, match=r"turn 1 does not wait .* it has ended \(cancelled\)"):
            await client.sessions.input(session, "refund", approved=True)


async def test_a_kill_between_the_question_and_the_answer(
    server: ServerProcess, tmp_path: Path
) -> None:
    paid = tmp_path / "paid"
    async with sdk(server) as client:
        stream = client.sessions.execute_stream(
            agent_id="refunds", goal="7", context={"paid": str(paid)}
        )
        first = [chunk async for chunk in stream]
        session = str(stream.session_id)
    assert [c.type for c in first][-2:] == ["input_required", "waiting"]
    asked = first[-2]
    assert (asked.kind, asked.tool, asked.args) == ("approval", "refund", {"order": "7"})
    server.kill()
    server.start()
    assert not paid.exists()
    async with sdk(server) as other:
        shown = await other.sessions.get(session)
        assert (shown.status, [ask.call_id for ask in shown.waiting]) == ("waiting", ["refund"])
        await until_counted(server, "waiting", 1)
        page = await other.sessions.list(status="waiting")
        assert [ask.kind for ask in page.data[0].waiting] == ["approval"]
        given = await other.sessions.input(session, "refund", approved=True)
        assert given.call_id == "refund"
        rest = [c async for c in other.sessions.join(session, resume_from=first[-1].position)]
        assert [c.type for c in rest] == ["input", "tool_result", "text", "step", "done"]
        assert rest[-1].output == "Looking. Paid."
        events = await other.events.replay(since="2026-01-01", events=["session.*"])
        waiting, resumed = (e for e in events if e.type in {"session.waiting", "session.resumed"})
        assert waiting.data["calls"] == [
            {"call_id": "refund", "kind": "approval", "tool": "refund"}
        ]
        assert (resumed.data["session_id"], resumed.data["turn"]) == (session, 1)
        again = await other.sessions.input(session, "refund", approved=True)
        assert again.status == "completed"
        with pytest.raises(Conflict):
            await other.sessions.input(session, "refund", approved=False)
    assert paid.read_text().count("\n") == 1
    async with server.client() as http:
        found = await read_all(http, session, resume_from=0)
    dense(found)
    assert text_of(found) == "Looking. Paid."
    assert [frame.event for frame in found].count("tool_call") == 1


async def test_two_clients_race_for_three_answers_in_reverse(server: ServerProcess) -> None:
    async with sdk(server) as one, sdk(server) as two:
        result = await one.sessions.execute(agent_id="questions", goal="three")
        assert (result.status, len(result.waiting)) == ("waiting", 3)
        session = result.session_id
        with pytest.raises(InvalidRequest):
            await one.sessions.input(session, "n0", payload="zero")

        async def answer(client: ResonantGenesis, call_id: str, payload: int) -> bool:
            try:
                await client.sessions.input(session, call_id, payload=payload)
            except Conflict:
                return False
            return True

        won: dict[str, int] = {}
        for call_id in ("n2", "n1", "n0"):
            took = await asyncio.gather(answer(one, call_id, 1), answer(two, call_id, 2))
            assert sum(took) == 1
            won[call_id] = 1 if took[0] else 2
        await until(one, session, "completed")
        output = (await two.sessions.get(session)).output
        assert output == f"{won['n0']} {won['n1']} {won['n2']}"
        chunks = [c async for c in two.sessions.join(session, resume_from=0)]
    assert [c.call_id for c in chunks if c.type == "input"] == ["n2", "n1", "n0"]
    assert [c.position for c in chunks] == list(range(1, len(chunks) + 1))


async def test_an_ask_expires_while_the_server_is_down(
    server: ServerProcess, tmp_path: Path
) -> None:
    context = {"paid": str(tmp_path / "paid"), "seconds": 2}
    async with server.client() as http:
        made = await execute(http, agent_id="refunds", goal="7", context=context)
    async with sdk(server) as client:
        await until(client, made["session_id"], "waiting")
    server.kill()
    await asyncio.sleep(2)
    server.start()
    async with sdk(server) as client:
        await until(client, made["session_id"], "completed")
        assert (await client.sessions.get(made["session_id"])).output == "Looking. Not paid."
        chunks = [c async for c in client.sessions.join(made["session_id"], resume_from=0)]
        result = next(c for c in chunks if c.type == "tool_result")
        assert (result.is_error, result.result) == (True, "nobody answered in time")


@pytest.mark.parametrize("kills", [False, True])
async def test_an_agent_in_a_thread(server: ServerProcess, kills: bool) -> None:
    def talk() -> str:
        with SyncResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30) as client:
            stream = client.sessions.execute_stream(agent_id="refunds-thread", goal="7")
            first = list(stream)
            session = str(stream.session_id)
            assert [c.type for c in first].count("tool_call") == 1
            if kills:
                server.kill()
                server.start()
            client.sessions.input(session, str(first[-2].call_id), approved=True)
            rest = list(client.sessions.join(session, resume_from=first[-1].position))
            assert [c.type for c in rest][-2:] == ["input_required", "waiting"]
            client.sessions.input(session, str(rest[-2].call_id), payload="Ada")
            last = list(client.sessions.join(session, resume_from=rest[-1].position))
            return str(last[-1].output)

    assert await asyncio.to_thread(talk) == "Looking. Paid, Ada."


async def test_over_one_socket(server: ServerProcess, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    url = server.url.replace("http", "ws", 1) + "/v1/ws"
    async with asyncio.timeout(30), connect(url, additional_headers=headers) as socket:
        context = {"paid": str(tmp_path / "paid")}
        execute = {"type": "execute", "agent_id": "refunds", "goal": "7", "context": context}
        await socket.send(json.dumps(execute))
        seen: list[dict[str, object]] = []
        while not seen or seen[-1].get("type") != "done":
            seen.append(json.loads(await socket.recv()))
            if seen[-1]["type"] == "waiting":
                answer = {"type": "input", "session_id": seen[-1]["session_id"], "id": 7}
                await socket.send(json.dumps({**answer, "call_id": "refund", "approved": True}))
    answered = next(message for message in seen if message["type"] == "answered")
    assert (answered["id"], answered["call_id"]) == (7, "refund")
    chunks = [message for message in seen if "position" in message]
    assert [c["position"] for c in chunks] == list(range(1, len(chunks) + 1))


async def test_over_the_realtime_client(server: ServerProcess, tmp_path: Path) -> None:
    seen: list[str] = []
    async with asyncio.timeout(30), sdk(server) as client, client.realtime() as realtime:
        stream = realtime.execute("refunds", "7", context={"paid": str(tmp_path / "paid")})
        async for chunk in stream:
            seen.append(chunk.type)
            if chunk.type == "waiting":
                await realtime.input(str(chunk.session_id), "refund", approved=True)
    assert seen[-5:] == ["input", "tool_result", "text", "step", "done"]


async def test_others_may_not_answer(server: ServerProcess, tmp_path: Path) -> None:
    async with server.client() as http:
        context = {"paid": str(tmp_path / "paid")}
        made = await execute(http, agent_id="refunds", goal="7", context=context, subject="ada")
        async with sdk(server) as client:
            await until(client, made["session_id"], "waiting")
        path = f"/v1/sessions/{made['session_id']}/input"
        answer = {"call_id": "refund", "approved": True}

        async def by(scopes: list[str], subject: str) -> int:
            body = {"scopes": scopes, "subject": subject, "ttl_seconds": 60}
            token = (await http.post("/v1/tokens", json=body)).json()["token"]
            async with httpx.AsyncClient(base_url=server.url) as bare:
                given = await bare.post(
                    path, json=answer, headers={"Authorization": f"Bearer {token}"}
                )
                return given.status_code

        assert await by(["sessions:write"], "bob") == 404
        assert await by(["sessions:read"], "ada") == 403
        assert await by(["sessions:write"], "ada") == 200


def command(server: ServerProcess, *arguments: str, said: str = "") -> tuple[int, str]:
    """What `resonantgenesis` prints, with this input."""
    environment = {"RESONANTGENESIS_BASE_URL": server.url, "RESONANTGENESIS_API_KEY": KEY}
    ended = subprocess.run(
        [sys.executable, "-m", "resonantgenesis_server", *arguments],
        input=said,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_a_chat_answers_in_its_place(server: ServerProcess) -> None:
    code, out = command(server, "chat", "questions", said="three\nold\n1\n2\n3\n")
    assert code == 0, out
    assert "? Number 0?" in out
    assert "type JSON" in out
    assert "1 2 3" in out


def test_a_chat_that_ends_leaves_the_turn_waiting(server: ServerProcess) -> None:
    code, out = command(server, "chat", "refunds-thread", said="7\n")
    assert code == 0, out
    session = re.findall(r"sessions input (sess_\w+)", out)[0]
    code, out = command(server, "sessions", "input", session)
    assert "call_1\tapprove refund" in out
    code, out = command(server, "sessions", "input", session, "--payload", "1")
    assert code == 2
    assert "--approve or --deny" in " ".join(out.split())
    code, out = command(server, "sessions", "input", session, "--approve")
    assert (code, "answered" in out) == (0, True)
    for _ in range(20):  # until the agent has asked for the name
        code, out = command(server, "sessions", "input", session, "--text", "Ada")
        if code == 0:
            break
    assert "Paid, Ada." in command(server, "sessions", "stream", session)[1]


def test_a_chat_goes_on_with_a_turn_that_waits(server: ServerProcess) -> None:
    _, out = command(server, "chat", "questions", said="three\n1\n")
    session = re.findall(r"sessions input (sess_\w+)", out)[0]
    code, out = command(server, "chat", "--session", session, said="2\n3\n")
    assert code == 0, out
    assert "1 2 3" in out
