"""Two organizations in one server: whatever id of one is asked for with a key of the other, the
answer is that for an id that never was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.credentials import Tenant, make_tenant, make_token, post, sync_client
from support.endpoints import ALL, MESSAGES, MISSING, PUBLIC, path_of, with_ids
from support.server import PATIENCE, ServerProcess, bearer
from websockets.sync.client import ClientConnection, connect

KEY_OF_A = "the-first-of-a"


@dataclass
class World:
    a: Tenant
    b: Tenant
    #: One id of each kind, of A.
    ids: dict[str, str]
    client: httpx.Client


@pytest.fixture(scope="module")
def world(server: ServerProcess) -> Iterator[World]:
    with sync_client(server, headers=bearer()) as admin, sync_client(server) as client:
        a, b = (make_tenant(admin, name) for name in ("a", "b"))
        key = a.key.key
        agent = post(client, "/v1/agents", {"name": "own", "engine": "guide"}, key)
        goal = {"agent_id": agent["id"], "goal": "count to 3"}
        answer = client.post(
            "/v1/sessions/execute", json=goal, headers=a.headers | {"Idempotency-Key": KEY_OF_A}
        )
        file = client.post("/v1/files?name=a.txt", content=b"of a", headers=a.headers).json()
        event = post(client, "/v1/events", {"type": "app.of.a", "data": {}}, key)
        ids = {
            "agent_id": agent["id"],
            "session_id": answer.json()["session_id"],
            "event_id": event["id"],
            "file_id": file["id"],
            "key_id": a.key.id,
            "organization_id": a.id,
        }
        yield World(a, b, ids, client)


def said(answer: httpx.Response, ids: dict[str, str]) -> tuple[int, str]:
    """What an answer says, without what is new in each and without the ids that were asked for."""
    text = answer.text.replace(answer.headers["x-request-id"], "REQUEST")
    for name, value in ids.items():
        text = text.replace(value, name)
    return answer.status_code, text


def request(world: World, method: str, template: str, ids: dict[str, str]) -> httpx.Response:
    endpoint = ALL[method, template]
    return world.client.request(
        method,
        path_of(template, ids),
        params=endpoint.query,
        json=endpoint.body,
        content=endpoint.content,
        headers=world.b.headers,
    )


def test_the_ids_of_another_organization_never_were(world: World) -> None:
    asked = 0
    missing = {name: MISSING[name] for name in world.ids}
    for method, template in ALL:
        if "{" not in template:
            continue
        theirs = request(world, method, template, world.ids)
        never = request(world, method, template, MISSING)
        assert said(theirs, world.ids) == said(never, missing), (method, template)
        # Organizations are for the server's own key; everything else is simply not there.
        is_admin = template.startswith("/v1/organizations")
        if template == "/langgraph/threads/{session_id}/commands":  # its errors are messages
            assert theirs.json()["error"] == "no_such_run", theirs.text
            continue
        expected = 200 if ALL[method, template].needs is PUBLIC else 403 if is_admin else 404
        assert theirs.status_code == expected, (method, template)
        asked += 1
    assert asked >= 20
    check_untouched(world)


def check_untouched(world: World) -> None:
    """Nothing of A was changed or lost by what B asked for."""
    for path in (
        "/v1/agents/{agent_id}",
        "/v1/sessions/{session_id}",
        "/v1/events/{event_id}",
        "/v1/files/{file_id}/content",
        "/v1/keys/{key_id}",
    ):
        answer = world.client.get(path_of(path, world.ids), headers=world.a.headers)
        assert answer.status_code == 200, (path, answer.text)
    session = world.client.get(f"/v1/sessions/{world.ids['session_id']}", headers=world.a.headers)
    assert (session.json()["turns"], session.json()["status"]) == (1, "completed")


#: Ids in bodies and queries. `{name}` stands for the id.
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/sessions", {"agent_id": "{agent_id}"}),
    ("/v1/sessions/execute", {"agent_id": "{agent_id}", "goal": "x"}),
    ("/v1/sessions/execute", {"agent_id": "guide", "goal": "x", "session_id": "{session_id}"}),
    (
        "/v1/sessions/execute",
        {"agent_id": "guide", "goal": "x", "session_id": "{session_id}", "resume_from": 1},
    ),
]
QUERIES: list[tuple[str, dict[str, str]]] = [
    ("/v1/sessions", {"agent_id": "{agent_id}"}),
    ("/v1/files", {"session_id": "{session_id}"}),
    ("/v1/usage", {"session_id": "{session_id}", "from": "2026-01-01", "to": "2026-01-02"}),
    ("/v1/usage", {"agent_id": "{agent_id}", "from": "2026-01-01", "to": "2026-01-02"}),
    ("/v1/usage", {"key_id": "{key_id}", "from": "2026-01-01", "to": "2026-01-02"}),
    ("/v1/events", {"filters": '{{"session_id": "{session_id}"}}'}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_nor_do_they_exist_in_bodies(world: World, path: str, body: dict[str, Any]) -> None:
    answers = [
        said(world.client.post(path, json=with_ids(body, ids), headers=world.b.headers), ids)
        for ids in (world.ids, MISSING)
    ]
    assert answers[0] == answers[1] and answers[0][0] == 404, answers


@pytest.mark.parametrize(("path", "query"), QUERIES)
def test_nor_in_queries(world: World, path: str, query: dict[str, str]) -> None:
    answers = []
    for ids in (world.ids, MISSING):
        answer = world.client.get(path, params=with_ids(query, ids), headers=world.b.headers)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        answers.append(found.get("data", found.get("events")))
    assert answers == [[], []]


def test_lists_and_logs_hold_what_is_ones_own(world: World) -> None:
    theirs = {value for name, value in world.ids.items() if name != "organization_id"}
    for method, template in ALL:
        if method == "GET" and "{" not in template and not template.endswith("/subscribe"):
            text = request(world, method, template, {}).text
            assert not [value for value in theirs if value in text], template
    # Nor do they share names: each may take the same agent id and the same Idempotency-Key.
    named = post(
        world.client,
        "/v1/agents",
        {"id": world.ids["agent_id"], "name": "b's", "engine": "guide"},
        world.b.key.key,
    )
    body = {"agent_id": named["id"], "goal": "count to 2"}
    headers = world.b.headers | {"Idempotency-Key": KEY_OF_A}
    answer = world.client.post("/v1/sessions/execute", json=body, headers=headers)
    assert answer.json()["session_id"] != world.ids["session_id"]
    path = f"/v1/agents/{named['id']}"
    assert world.client.delete(path, headers=world.b.headers).status_code == 204
    check_untouched(world)


def test_nor_on_a_socket(server: ServerProcess, world: World) -> None:
    url = server.url.replace("http:", "ws:") + "/v1/ws"
    with connect(url, additional_headers=world.b.headers, proxy=None) as ws:
        for kind, several in MESSAGES.items():
            for message in several:
                if "_id}" not in str(message.body):
                    continue
                theirs, never = (
                    refusal(ws, {"type": kind, **with_ids(message.body, ids)}, ids)
                    for ids in (world.ids, MISSING)
                )
                assert theirs == never and "NOT_FOUND" in theirs, (kind, theirs, never)
    check_untouched(world)


def refusal(ws: ClientConnection, message: dict[str, Any], ids: dict[str, str]) -> str:
    ws.send(json.dumps(message))
    text = str(ws.recv(timeout=PATIENCE))
    assert json.loads(text)["type"] == "error", text
    for name, value in ids.items():
        text = text.replace(value, name)
    return text


def test_a_token_for_what_is_another_organizations_opens_nothing(world: World) -> None:
    """Who binds a token to an id learns nothing from it, and its holder neither."""
    for name in ("session_id", "agent_id"):
        token = make_token(world.client, "*", credential=world.b.key.key, **{name: world.ids[name]})
        path = path_of("/v1/sessions/{session_id}", world.ids)
        answer = world.client.get(path, headers=bearer(token))
        assert answer.json()["error"]["code"] == "SESSION_NOT_FOUND"
