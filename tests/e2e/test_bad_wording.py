"""What is wrong is named as the client named it, and so that it can be put right."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import websockets
from support.refusals import GOOD, check_refusal
from support.server import ServerProcess, bearer
from support.wire import execute

RANGE = "must be a whole number from 0 to 2147483647"


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("/v1/sessions/SESSION/stream?resume_from=-1", "resume_from", RANGE),
        ("/v1/sessions/SESSION/stream?resume_from=99999999999", "resume_from", RANGE),
        ("/v1/sessions/SESSION/stream?turn=0", "turn", "from 1 to 2147483647"),
        ("/v1/sessions/SESSION/stream?turn=7", "turn", "the session has one turn"),
        ("/v1/sessions/SESSION/stream?turn=1&turn=1", "turn", "more than once"),
        ("/v1/sessions?limit=1&limit=2", "limit", "more than once"),
        ("/v1/agents?%6cimit=1&limit=2", "limit", "more than once"),
        ("/v1/events?since=yesterday", "since", "neither a cursor nor an RFC 3339 time"),
        ("/v1/events?since=c_x", "since", "not a cursor"),
        ("/v1/events?cursor=c_x", "cursor", "not a cursor"),
        ("/v1/events?until=c_x", "until", "not a cursor"),
        ("/v1/events/export?until=c_x", "until", "not a cursor"),
        ("/v1/events?events=", "events", "empty pattern"),
        ("/v1/events/subscribe?events=,,", "events", "empty pattern"),
        ("/v1/events/export?events=app.*,", "events", "empty pattern"),
    ],
)
async def test_parameters(server: ServerProcess, path: str, name: str, words: str) -> None:
    async with server.client() as client:
        if "SESSION" in path:
            path = path.replace("SESSION", (await execute(client, goal=GOOD["goal"]))["session_id"])
        answer = await client.get(path)
    check_refusal(answer, "INVALID_REQUEST")
    assert words in answer.json()["error"]["details"]["fields"][name]


async def test_a_place_of_an_event_source(server: ServerProcess) -> None:
    async with server.client() as client:
        answer = await client.get("/v1/events/subscribe", headers={"Last-Event-ID": "c_x"})
    assert "Last-Event-ID" in answer.json()["error"]["details"]["fields"]


async def test_another_history(server: ServerProcess) -> None:
    async with server.client() as client:
        session = (await execute(client, goal=GOOD["goal"]))["session_id"]
        path = f"/v1/sessions/{session}/stream?resume_from=1"
        answer = await client.get(path, headers={"X-Log-Epoch": "another"})
    check_refusal_of_epoch(answer)


def check_refusal_of_epoch(answer: httpx.Response) -> None:
    assert answer.status_code == 410
    error = answer.json()["error"]
    assert (error["code"], error["details"]["earliest"]) == ("POSITION_EXPIRED", 1)
    assert "history has changed" in error["message"]


@pytest.mark.parametrize("path", ["/v1/sessions/execute", "/v1/sessions", "/v1/agents"])
@pytest.mark.parametrize("body", ["null", "[]", '"x"', "1"])
async def test_bodies_that_are_no_objects(server: ServerProcess, path: str, body: str) -> None:
    async with server.client() as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post(path, content=body, headers=headers)
    check_refusal(answer, "INVALID_REQUEST")
    assert "Body" not in answer.text


async def test_a_date_is_its_midnight(server: ServerProcess) -> None:
    async with server.client() as client:
        await client.post("/v1/events", json={"type": "app.test"})
        found: list[list[Any]] = []
        for since in ("2026-01-01", "2026-01-01T00:00:00Z"):
            body = {"since": since, "events": ["app.*"]}
            answer = await client.post("/v1/events/replay", json=body)
            assert answer.status_code == 200
            found.append(answer.json()["events"])
    assert found[0] == found[1] != []


async def test_types_that_may_be_published(server: ServerProcess) -> None:
    async with server.client() as client:
        answer = await client.post("/v1/events", json={"type": "session.completed"})
        check_refusal(answer, "FORBIDDEN")
        for prefix in ("app.*", "team.*", "billing.*", "system.*"):
            assert prefix in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "the message is empty"), ("[]", "a message is a JSON object"), ("{", "the message is")],
)
async def test_messages(server: ServerProcess, text: str, words: str) -> None:
    url = server.url.replace("http", "ws") + "/v1/ws"
    async with websockets.connect(url, additional_headers=bearer()) as socket:
        await socket.send(text)
        error = json.loads(await socket.recv())
    assert error["type"] == "error"
    assert words in error["message"]


async def test_a_further_turn_need_not_repeat_its_agent(server: ServerProcess) -> None:
    async with server.client() as client:
        session = (await execute(client, goal="count to 1"))["session_id"]
        further = {"session_id": session, "goal": "count to 2", "if_busy": "enqueue"}
        answer = await client.post("/v1/sessions/execute", json=further)
        assert answer.json().get("output") == "1 2", answer.text
        answer = await client.post("/v1/sessions/execute", json={**further, "agent_id": "paced"})
        assert said_of("agent_id", answer) == "is not the agent of this session, which is 'guide'"
        answer = await client.post("/v1/sessions/execute", json={"goal": "count to 2"})
        assert said_of("agent_id", answer) == "Field required"
        answer = await client.post(
            f"/v1/sessions/{session}/execute", json={"session_id": "sess_other", "goal": "x"}
        )
        assert said_of("session_id", answer) == "is not the session of the path"


def said_of(field: str, answer: httpx.Response) -> str:
    check_refusal(answer, "INVALID_REQUEST")
    return str(answer.json()["error"]["details"]["fields"][field])
