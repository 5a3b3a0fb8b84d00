"""What a token is bound to stands in all that it does: whom it may name, which Idempotency-Keys it
shares, and which events it sees, whatever their publishers say of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.credentials import Tenant, make_tenant, make_token, sync_client
from support.refusals import check_refusal
from support.server import PATIENCE, ServerProcess, bearer
from websockets.sync.client import ClientConnection, connect

GOAL = {"agent_id": "guide", "goal": "count to 1"}


@dataclass
class Kit:
    """An organization with a session of Ann's, one of nobody's, and tokens by what binds them."""

    server: ServerProcess
    client: httpx.Client
    tenant: Tenant
    anns: str
    nobodys: str
    bound: dict[str, dict[str, str]]

    def session(self, **more: Any) -> str:
        answer = self.client.post(
            "/v1/sessions/execute", json={**GOAL, **more}, headers=self.tenant.headers
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["session_id"])

    def token(self, **bound: str) -> dict[str, str]:
        return bearer(make_token(self.client, "*", credential=self.tenant.key.key, **bound))

    def socket(self, headers: dict[str, str]) -> ClientConnection:
        url = self.server.url.replace("http:", "ws:") + "/v1/ws"
        return connect(url, additional_headers=headers, proxy=None)


@pytest.fixture(scope="module")
def kit(server: ServerProcess) -> Iterator[Kit]:
    with sync_client(server) as client, sync_client(server, headers=bearer()) as admin:
        kit = Kit(server, client, make_tenant(admin, "bound"), "", "", {})
        kit.anns, kit.nobodys = kit.session(subject="ann"), kit.session()
        kit.bound = {
            "subject": kit.token(subject="bob"),
            "session": kit.token(session_id=kit.nobodys),
            "session of a subject": kit.token(session_id=kit.anns),
            "agent": kit.token(agent_id="guide"),
            "session and agent": kit.token(session_id=kit.nobodys, agent_id="guide"),
            "subject and agent": kit.token(subject="bob", agent_id="guide"),
        }
        yield kit


Way = Callable[[Kit, dict[str, str], str], httpx.Response]


def posted(path: str, **body: Any) -> Way:
    def way(kit: Kit, headers: dict[str, str], subject: str) -> httpx.Response:
        named = {**body, "subject": subject}
        return kit.client.post(path.format(kit=kit), json=named, headers=headers)

    return way


def uploaded(kit: Kit, headers: dict[str, str], subject: str) -> httpx.Response:
    path = f"/v1/files?name=a&subject={subject}"
    return kit.client.post(path, content=b"x", headers=headers)


NAMING: dict[str, Way] = {
    "session": posted("/v1/sessions", agent_id="guide"),
    "execute": posted("/v1/sessions/execute", **GOAL),
    "next turn": posted("/v1/sessions/{kit.nobodys}/execute", goal="count to 1"),
    "join": posted("/v1/sessions/{kit.nobodys}/execute", goal="count to 1", resume_from=0),
    "token": posted("/v1/tokens", scopes=["files:read"]),
    "file": uploaded,
}


def test_the_table_of_what_names_a_subject_is_whole(kit: Kit) -> None:
    document = kit.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    naming = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref", "/")
            fields = schemas.get(reference.rsplit("/", 1)[1], {}).get("properties", {})
            queried = {parameter["name"] for parameter in operation.get("parameters", [])}
            if "subject" in {*fields, *queried}:
                naming.add((method, path))
    # Of one's own turns, see test_credentials_subject; and for no token with a binding.
    asks = {("get", "/v1/usage"), ("delete", "/v1/subjects")}
    assert naming - asks == {
        ("post", "/v1/sessions"),
        ("post", "/v1/sessions/execute"),
        ("post", "/v1/sessions/{session_id}/execute"),
        ("post", "/v1/tokens"),
        ("post", "/v1/files"),
    }
    for headers in kit.bound.values():
        rows = kit.client.get("/v1/usage?group_by=subject&subject=zoe", headers=headers).json()
        assert rows["data"] == []
        erased = kit.client.delete("/v1/subjects?subject=zoe", headers=headers)
        assert erased.status_code == 403
        check_refusal(erased, "FORBIDDEN")


@pytest.mark.parametrize("way", NAMING)
def test_no_token_names_another_subject(kit: Kit, way: str) -> None:
    for name, headers in kit.bound.items():
        answer = NAMING[way](kit, headers, "ann")
        sees = name in {"session", "agent", "session and agent"}
        if way in {"next turn", "join"} and not sees:
            assert answer.status_code == 404, (name, answer.text)  # not even the session
        else:
            assert answer.status_code == 403, (name, answer.text)
            check_refusal(answer, "FORBIDDEN")
    for name in ("subject", "subject and agent"):
        assert NAMING[way](kit, kit.bound[name], "bob").status_code in {200, 201, 404}, name


def test_no_socket_of_a_token_names_another_subject(kit: Kit) -> None:
    for headers in kit.bound.values():
        with kit.socket(headers) as ws:
            ws.send(json.dumps({"type": "execute", **GOAL, "subject": "ann", "id": 1}))
            assert json.loads(ws.recv(timeout=PATIENCE))["code"] == "FORBIDDEN"


def test_a_bound_token_makes_none_for_a_session_that_it_does_not_see(kit: Kit) -> None:
    body = {"scopes": ["files:write"], "session_id": kit.anns}
    for name in ("subject", "session", "subject and agent"):
        answer = kit.client.post("/v1/tokens", json=body, headers=kit.bound[name])
        assert answer.status_code == (403 if name == "session" else 404), answer.text
    answer = kit.client.post("/v1/tokens", json=body, headers=kit.bound["agent"])
    assert answer.status_code == 201, answer.text


#: Each takes an Idempotency-Key, and is open to tokens that are bound.
KEYED: dict[str, Callable[[Kit, dict[str, str]], httpx.Response]] = {
    "/v1/sessions": lambda kit, headers: kit.client.post(
        "/v1/sessions", json={"agent_id": "guide"}, headers=headers
    ),
    "/v1/sessions/execute": lambda kit, headers: kit.client.post(
        "/v1/sessions/execute", json=GOAL, headers=headers
    ),
    "/v1/sessions/{session_id}/execute": lambda kit, headers: kit.client.post(
        f"/v1/sessions/{kit.nobodys}/execute",
        json={"goal": secrets.token_hex(4), "if_busy": "enqueue"},
        headers=headers,
    ),
    "/v1/sessions/{session_id}/fork": lambda kit, headers: kit.client.post(
        f"/v1/sessions/{kit.nobodys}/fork", json={}, headers=headers
    ),
    "/v1/tokens": lambda kit, headers: kit.client.post(
        "/v1/tokens", json={"scopes": ["files:read"]}, headers=headers
    ),
    "/v1/files": lambda kit, headers: kit.client.post(
        "/v1/files?name=a", content=b"x", headers=headers
    ),
    "/v1/events": lambda kit, headers: kit.client.post(
        "/v1/events", json={"type": "app.keyed", "data": {}}, headers=headers
    ),
}


def test_the_table_of_what_takes_keys_is_whole(kit: Kit) -> None:
    document = kit.client.get("/openapi.json").json()["paths"]
    taking = {
        path
        for path, methods in document.items()
        for operation in methods.values()
        if any(p["name"] == "Idempotency-Key" for p in operation.get("parameters", []))
    }
    closed = {
        "/v1/agents",
        "/v1/keys",
        "/v1/organizations",
        "/v1/organizations/{organization_id}/keys",
        "/v1/teams",
        "/v1/webhooks",
    }
    # The key of a message is its id in one session; see test_steering. A chat's names a turn in the
    # session of its caller; see the clients' own tests.
    closed |= {"/v1/sessions/{session_id}/messages", "/v1/agents/{agent_id}/chat"}
    assert taking - closed == KEYED.keys()


@pytest.mark.parametrize("path", KEYED)
def test_each_binding_has_its_own_idempotency_keys(kit: Kit, path: str) -> None:
    """Whoever is first: nobody else learns of the key, is answered with what it made, or is
    kept from using it."""
    asked, key = KEYED[path], {"Idempotency-Key": secrets.token_hex(8)}
    callers = {"key": kit.tenant.headers, **kit.bound}
    made: dict[str, str] = {}
    for name in ("session", "key", *callers):
        if name in made:
            continue
        answer = asked(kit, callers[name] | key)
        assert answer.status_code != 409, (name, answer.text)
        assert "idempotency-replayed" not in answer.headers, name
        if answer.is_success:
            body = answer.json()
            made[name] = str(
                body.get("id") or body.get("token") or (body["session_id"], body["turn"])
            )
    few = {"/v1/sessions", "/v1/sessions/{session_id}/fork"}  # not for every binding
    assert len(made) >= 4 or path in few, made
    assert len(set(made.values())) == len(made), made


def test_a_turn_is_not_cancelled_by_the_key_of_another_binding(kit: Kit) -> None:
    key = secrets.token_hex(8)
    answer = KEYED["/v1/sessions/execute"](kit, kit.tenant.headers | {"Idempotency-Key": key})
    assert answer.status_code == 200
    for name, headers in {**kit.bound, "key": kit.tenant.headers}.items():
        found = kit.client.post(
            "/v1/sessions/cancel", json={"idempotency_key": key}, headers=headers
        )
        assert found.status_code == (200 if name == "key" else 404), name


def test_what_a_publisher_says_decides_for_nobody(kit: Kit) -> None:
    """A session, an agent, a subject in `data` is the publisher's word; over every transport."""
    tokens = {
        "session": kit.token(session_id=kit.nobodys),
        "agent": kit.token(agent_id="guide"),
        "subject": kit.token(subject="ann"),
    }
    publishers = [kit.tenant.headers, kit.token(subject="bob"), kit.token(session_id=kit.anns)]
    data = {"session_id": kit.nobodys, "agent_id": "guide", "subject": "ann"}
    for name, headers in tokens.items():
        with (
            kit.client.stream("GET", "/v1/events/subscribe?events=app.*", headers=headers) as sse,
            kit.socket(headers) as ws,
        ):
            ws.send('{"type":"subscribe","channels":["app"]}')
            assert json.loads(ws.recv(timeout=PATIENCE))["type"] == "subscribed"
            cursor = kit.client.get("/v1/events?limit=1000", headers=headers).json()["next_cursor"]
            foreign = [published(kit, one, data) for one in publishers]
            own = published(kit, headers, {})
            assert own["metadata"].items() >= bound_to(kit, name).items()
            # The first that it hears of is its own.
            lines = (line for line in sse.iter_lines() if line.startswith("data:"))
            assert json.loads(next(lines)[5:])["id"] == own["id"], name
            assert json.loads(ws.recv(timeout=PATIENCE))["id"] == own["id"], name
        for event in foreign:
            assert kit.client.get(f"/v1/events/{event['id']}", headers=headers).status_code == 404
        assert kit.client.get(f"/v1/events/{own['id']}", headers=headers).json() == own
        for found in read_again(kit, headers, cursor):
            assert [event["id"] for event in found] == [own["id"]], name


def bound_to(kit: Kit, name: str) -> dict[str, str]:
    return {
        "session": {"session_id": kit.nobodys},
        "agent": {"agent_id": "guide"},
        "subject": {"subject": "ann"},
    }[name]


def published(kit: Kit, headers: dict[str, str], data: dict[str, Any]) -> dict[str, Any]:
    body = {"type": "app.said", "data": data}
    answer = kit.client.post("/v1/events", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    event: dict[str, Any] = answer.json()
    return event


def read_again(kit: Kit, headers: dict[str, str], since: str) -> Iterator[list[dict[str, Any]]]:
    """What came of app.* since, by every way to read it later."""
    asked = {"events": "app.*", "since": since}
    for wait in (0, 1):
        params = {**asked, "wait": wait}
        yield kit.client.get("/v1/events", params=params, headers=headers).json()["events"]
    body = {"since": since, "events": ["app.*"]}
    yield kit.client.post("/v1/events/replay", json=body, headers=headers).json()["events"]
    exported = kit.client.get("/v1/events/export", params=asked, headers=headers)
    yield [json.loads(line) for line in exported.text.splitlines()]


def test_lists_of_sessions_hold_what_was_asked_for(kit: Kit) -> None:
    for name in ("session", "agent"):
        path = "/v1/sessions?agent_id="
        ours = kit.client.get(path + "guide", headers=kit.bound[name]).json()["data"]
        others = kit.client.get(path + "paced", headers=kit.bound[name]).json()["data"]
        assert ours and not others, name
        status = kit.client.get("/v1/sessions?status=failed", headers=kit.bound[name])
        assert status.json()["data"] == []
