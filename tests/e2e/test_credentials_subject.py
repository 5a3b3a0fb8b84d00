"""A token of a subject, a session or an agent sees its own and nothing else, by every transport."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.credentials import Tenant, make_tenant, make_token, sync_client
from support.endpoints import MISSING
from support.server import PATIENCE, ServerProcess, bearer
from websockets.sync.client import ClientConnection, connect

SCOPES = ["sessions:read", "sessions:write", "events:read", "files:read", "usage:read"]


@dataclass
class Person:
    """A subject with a session, a file and a token; `others` are what it must not see."""

    name: str
    token: dict[str, str]
    session: str
    file: str


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with sync_client(server) as made:
        yield made


@pytest.fixture(scope="module")
def tenant(server: ServerProcess) -> Tenant:
    with sync_client(server, headers=bearer()) as admin:
        return make_tenant(admin, "people")


@pytest.fixture(scope="module")
def people(client: httpx.Client, tenant: Tenant) -> list[Person]:
    return [person(client, tenant, name) for name in ("ann", "bob")]


def person(client: httpx.Client, tenant: Tenant, name: str) -> Person:
    token = bearer(make_token(client, *SCOPES, credential=tenant.key.key, subject=name))
    session = turn(client, token)
    path = f"/v1/files?name={name}.txt&subject={name}"
    file = client.post(path, content=name.encode(), headers=tenant.headers)
    assert file.status_code == 201, file.text
    return Person(name, token, session, file.json()["id"])


def turn(client: httpx.Client, headers: dict[str, str], agent: str = "guide") -> str:
    body = {"agent_id": agent, "goal": "count to 3"}
    answer = client.post("/v1/sessions/execute", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session_id"])


def get(client: httpx.Client, path: str, headers: dict[str, str]) -> Any:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def sessions_of(events: list[dict[str, Any]]) -> set[str]:
    return {event["data"]["session_id"] for event in events}


def test_lists_hold_its_own(client: httpx.Client, people: list[Person]) -> None:
    for one in people:
        listed = get(client, "/v1/sessions", one.token)["data"]
        assert [session["session_id"] for session in listed] == [one.session]
        assert [file["id"] for file in get(client, "/v1/files", one.token)["data"]] == [one.file]
        report = get(client, "/v1/usage?group_by=session", one.token)
        assert [row["session_id"] for row in report["data"]] == [one.session]
        assert (report["totals"]["turns"], report["budget"]) == (1, None)
        assert sessions_of(get(client, "/v1/events", one.token)["events"]) == {one.session}


@pytest.mark.parametrize("way", ["", "/stream", "/events", "/steps", "/export"])
def test_of_sessions(client: httpx.Client, people: list[Person], way: str) -> None:
    ann, bob = people
    assert client.get(f"/v1/sessions/{ann.session}{way}", headers=ann.token).status_code == 200
    never = MISSING["session_id"]
    said = {refusal(client, f"/v1/sessions/{one}{way}", ann) for one in (bob.session, never)}
    assert len(said) == 1 and "SESSION_NOT_FOUND" in said.pop()


@pytest.mark.parametrize("way", ["", "/content"])
def test_of_files(client: httpx.Client, people: list[Person], way: str) -> None:
    ann, bob = people
    assert client.get(f"/v1/files/{ann.file}{way}", headers=ann.token).status_code == 200
    never = MISSING["file_id"]
    said = {refusal(client, f"/v1/files/{one}{way}", ann) for one in (bob.file, never)}
    assert len(said) == 1 and "NOT_FOUND" in said.pop()


def refusal(client: httpx.Client, path: str, one: Person) -> str:
    answer = client.get(path, headers=one.token)
    assert answer.status_code == 404, path
    return answer.text.replace(answer.headers["x-request-id"], "")


def test_of_events(client: httpx.Client, tenant: Tenant, people: list[Person]) -> None:
    ann, bob = people
    everyone = get(client, "/v1/events?limit=500", tenant.headers)["events"]
    assert sessions_of([e for e in everyone if "session_id" in e["data"]]) >= {
        ann.session,
        bob.session,
    }
    for event in everyone:
        own = event["data"].get("session_id") == ann.session
        answer = client.get(f"/v1/events/{event['id']}", headers=ann.token)
        assert answer.status_code == (200 if own else 404), event
    body = {"since": "2026-01-01T00:00:00Z", "limit": 500}
    found = client.post("/v1/events/replay", json=body, headers=ann.token).json()["events"]
    assert sessions_of(found) == {ann.session}
    exported = client.get("/v1/events/export", headers=ann.token).text.splitlines()
    assert sessions_of([json.loads(line) for line in exported]) == {ann.session}


def test_live_events_by_both_streams(
    server: ServerProcess, client: httpx.Client, tenant: Tenant, people: list[Person]
) -> None:
    """Bob's turn, then Ann's: the first that Ann hears of is her own."""
    ann, bob = people
    with (
        client.stream("GET", "/v1/events/subscribe", headers=ann.token) as sse,
        socket(server, ann) as ws,
    ):
        ask(ws, {"type": "subscribe", "channels": ["sessions", "billing"]})
        theirs, hers = turn(client, bob.token), turn(client, ann.token)
        assert theirs not in (seen := _until(sse.iter_lines(), hers)), seen
        assert theirs not in (seen := _until(_messages(ws), hers)), seen
    for one, session in ((bob, theirs), (ann, hers)):
        path = f"/v1/sessions/{session}"
        assert client.delete(path, headers=one.token).status_code == 204


def _until(texts: Iterator[str], wanted: str) -> str:
    """Everything up to the first that holds `wanted`."""
    seen = ""
    for text in texts:
        seen += text
        if wanted in text:
            return seen
    raise AssertionError(f"{wanted} never came: {seen}")


def _messages(ws: ClientConnection) -> Iterator[str]:
    while True:
        yield str(ws.recv(timeout=PATIENCE))


def socket(server: ServerProcess, one: Person) -> ClientConnection:
    url = server.url.replace("http:", "ws:") + "/v1/ws"
    return connect(url, additional_headers=one.token, proxy=None)


def ask(ws: ClientConnection, message: dict[str, Any]) -> dict[str, Any]:
    ws.send(json.dumps({**message, "id": "asked"}))
    for text in _messages(ws):
        answer: dict[str, Any] = json.loads(text)
        if answer.get("id") == "asked":
            return answer
    raise AssertionError("no answer")


def test_of_sockets(server: ServerProcess, people: list[Person]) -> None:
    ann, bob = people
    with socket(server, ann) as ws:
        for session, said in (
            (ann.session, None),
            (bob.session, "SESSION_NOT_FOUND"),
            (MISSING["session_id"], "SESSION_NOT_FOUND"),
        ):
            goal = {"agent_id": "guide", "goal": "count to 3", "session_id": session}
            for message in (
                {"type": "subscribe", "channels": [f"session:{session}"]},
                {"type": "cancel", "session_id": session},
                {"type": "execute", **goal, "resume_from": 0},
            ):
                assert ask(ws, message).get("code") == said, (message, session)
            if said is not None:
                message = {"type": "execute", **goal}
                assert ask(ws, message)["code"] == said


@pytest.mark.parametrize("bound", ["session_id", "agent_id"])
def test_bound_to_a_session_or_an_agent(
    client: httpx.Client, tenant: Tenant, people: list[Person], bound: str
) -> None:
    own = turn(client, tenant.headers, "paced")
    value = {"session_id": own, "agent_id": "paced"}[bound]
    token = bearer(make_token(client, *SCOPES, credential=tenant.key.key, **{bound: value}))
    listed = get(client, "/v1/sessions", token)["data"]
    agents = {session["agent_id"] for session in listed}
    assert own in {session["session_id"] for session in listed} and agents == {"paced"}
    rows = get(client, "/v1/usage?group_by=session", token)["data"]
    assert {row["session_id"] for row in rows} == {session["session_id"] for session in listed}
    found = sessions_of(get(client, "/v1/events?limit=500", token)["events"])
    assert own in found and not found & {one.session for one in people}
    assert get(client, "/v1/files", token)["data"] == []
    for one in people:
        for path in (f"/v1/sessions/{one.session}", f"/v1/files/{one.file}"):
            assert client.get(path, headers=token).status_code == 404
