"""The audit log: each administrative act, by whom and from where, for nobody without its scope."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from support.credentials import Tenant, make_key, make_tenant, make_token, post, sync_client
from support.server import KEY, PATIENCE, ServerProcess, bearer
from websockets.sync.client import connect

AUDIT = "system.audit.*"


@pytest.fixture
def admin(server: ServerProcess) -> httpx.Client:
    return sync_client(server, headers=bearer())


@pytest.fixture
def tenant(admin: httpx.Client) -> Tenant:
    return make_tenant(admin, "audited")


def acts(
    client: httpx.Client, count: int, credential: str | None = None, target: str | None = None
) -> list[dict[str, Any]]:
    """The audit events (of a target), once there are so many; they come to the log behind the
    answers."""
    headers = {} if credential is None else bearer(credential)
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = client.get(f"/v1/events?events={AUDIT}&limit=500", headers=headers)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = [
            each
            for each in answer.json()["events"]
            if target is None or each["data"]["target"] == target
        ]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_every_act_is_there_with_its_actor_and_no_secret(
    admin: httpx.Client, tenant: Tenant, server: ServerProcess
) -> None:
    own = tenant.key.key
    key = make_key(admin, "sessions:read", credential=own)
    admin.delete(f"/v1/keys/{key.id}", headers=bearer(own))
    admin.delete(f"/v1/keys/{key.id}", headers=bearer(own))  # nothing changes any more
    make_token(admin, "*", credential=own)
    make_token(admin, "*", credential=own, subject="user-1")  # an end user's
    link = post(admin, "/v1/tokens/links", {}, own)
    signed_in = post(admin, "/v1/tokens/sign-in", {}, link["code"])
    agent = {"id": "spy", "name": "Spy", "engine": "guide"}
    post(admin, "/v1/agents", agent, own)
    admin.patch("/v1/agents/spy", json={"name": "Mole"}, headers=bearer(own))
    post(
        admin,
        "/v1/teams",
        {"id": "both", "name": "B", "members": [{"agent_id": "spy"}], "strategy": "parallel"},
        own,
    )
    admin.delete("/v1/agents/spy", headers=bearer(own))
    hook = post(admin, "/v1/webhooks", {"url": "https://hooks.example/"}, own)
    path = f"/v1/webhooks/{hook['id']}"
    admin.patch(path, json={"description": "d"}, headers=bearer(own))
    rotated = post(admin, f"{path}/rotate", {}, own)
    admin.delete(path, headers=bearer(own))
    found = acts(admin, 13, own)
    assert [each["type"].removeprefix("system.audit.") for each in found] == [
        "key.created", "key.revoked", "token.created", "link.created", "token.created",
        "agent.created", "agent.updated", "team.created", "agent.deleted",
        "webhook.created", "webhook.updated", "webhook.rotated", "webhook.deleted",
    ]  # fmt: skip
    for each in found:
        assert each["metadata"]["key_id"] == each["data"]["key_id"] == tenant.key.id
        assert each["data"]["address"] == "127.0.0.1"
        assert each["metadata"]["request_id"].startswith("req_")
    assert found[0]["data"]["target"] == found[1]["data"]["target"] == key.id
    assert found[0]["data"]["scopes"] == ["sessions:read"]
    assert found[10]["data"]["changes"] == ["description"]
    said = json.dumps(found)
    secrets = own, key.key, link["code"], signed_in["token"], hook["secret"], rotated["secret"]
    assert not any(secret in said for secret in secrets)
    # The acts of the server's administrator are in the administrator's own log.
    mine = [each for each in acts(admin, 1) if each["data"]["target"] == tenant.id]
    assert [each["type"] for each in mine] == ["system.audit.organization.created"]


def test_an_erasure_is_an_act(admin: httpx.Client, tenant: Tenant) -> None:
    gone = make_tenant(admin, "gone")
    erased = admin.delete("/v1/subjects", params={"subject": "ann"}, headers=tenant.headers)
    assert erased.status_code == 200, erased.text
    (event,) = acts(admin, 1, tenant.key.key)
    assert event["type"] == "system.audit.subject.deleted"
    assert event["data"]["target"] == "ann"
    assert admin.delete(f"/v1/organizations/{gone.id}").status_code == 200
    assert admin.delete(f"/v1/organizations/{gone.id}").status_code == 404
    made, deleted = acts(admin, 2, target=gone.id)
    assert made["type"] == "system.audit.organization.created"
    assert deleted["type"] == "system.audit.organization.deleted"


def test_only_its_scope_opens_it(admin: httpx.Client, tenant: Tenant) -> None:
    own = tenant.key.key
    make_key(admin, "sessions:read", credential=own)
    (event,) = acts(admin, 1, own)
    reader = make_key(admin, "events:read", "audit:read", credential=own)
    assert event in acts(admin, 1, reader.key)
    plain = make_key(admin, "events:read", credential=own)
    bound = make_token(admin, "events:read", "audit:read", credential=own, subject="u")
    for credential in (plain.key, bound):
        for path in (f"/v1/events?events={AUDIT}", f"/v1/events/{event['id']}"):
            refused = admin.get(path, headers=bearer(credential))
            assert refused.status_code in {403, 404}, refused.text
            if refused.status_code == 403:
                assert refused.json()["error"]["details"] == {"scope": "audit:read"}
        unknown, hidden = (
            admin.get(f"/v1/events/{name}", headers=bearer(credential))
            for name in ("evt_none", event["id"])
        )
        error = hidden.json()["error"]
        assert hidden.status_code == unknown.status_code == 404
        assert error | {"request_id": ""} == unknown.json()["error"] | {"request_id": ""}
    # Who follows everything, or system.*, has the same events as before.
    for path in ("/v1/events", "/v1/events?events=system.*", "/v1/events?events=*.audit.*"):
        seen = admin.get(path, headers=bearer(own)).json()["events"]
        assert not any(each["type"].startswith("system.audit.") for each in seen)
    webhook = {"url": "https://hooks.example/", "events": [AUDIT]}
    refused = admin.post("/v1/webhooks", json=webhook, headers=bearer(own))
    assert refused.status_code == 403
    assert "never sent" in refused.json()["error"]["message"]
    for kind in ("system.audit", "system.audit.key.forged"):
        forged = {"type": kind, "data": {}}
        assert admin.post("/v1/events", json=forged, headers=bearer(own)).status_code == 403


def test_a_sign_in_that_is_renewed_is_an_act(admin: httpx.Client, tenant: Tenant) -> None:
    link = post(admin, "/v1/tokens/links", {}, tenant.key.key)
    signed_in = post(admin, "/v1/tokens/sign-in", {}, link["code"])
    renewed = post(admin, "/v1/tokens/renew", {}, signed_in["token"])
    event = acts(admin, 3, tenant.key.key)[-1]
    assert event["type"] == "system.audit.token.renewed"
    assert event["data"]["target"] == tenant.key.id
    assert event["data"]["expires_at"] == renewed["expires_at"]


def test_a_socket_that_follows_acts_takes_no_credential_without_their_scope(
    admin: httpx.Client, tenant: Tenant, server: ServerProcess
) -> None:
    own = tenant.key.key
    auditor = make_token(admin, "events:read", "audit:read", credential=own)
    plain = make_token(admin, "events:read", credential=own)
    with connect(server.url.replace("http", "ws", 1) + "/v1/ws") as socket:

        def ask(**message: Any) -> dict[str, Any]:
            socket.send(json.dumps(message))
            answer: dict[str, Any] = {"type": "system."}
            while answer["type"].startswith("system."):  # an act, which the socket follows
                answer = json.loads(socket.recv(timeout=PATIENCE))
            return answer

        assert ask(type="auth", token=auditor)["type"] == "authenticated"
        follow = {"type": "subscribe", "channels": ["system"], "events": [AUDIT]}
        assert ask(**follow)["type"] == "subscribed"
        refused = ask(type="auth", token=plain)
        assert (refused["type"], refused["code"]) == ("error", "FORBIDDEN")
        assert "audit:read" in refused["message"]
        # Without the subscription the new credential is taken, and cannot make it again.
        assert ask(type="unsubscribe", channels=["system"])["type"] == "unsubscribed"
        assert ask(type="auth", token=plain)["type"] == "authenticated"
        assert ask(**follow)["code"] == "FORBIDDEN"


def test_acts_are_kept_longer_than_events(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = tmp_path_factory.mktemp("kept") / "data"
    server = ServerProcess(data, limits__event_retention=1).start()
    try:
        with sync_client(server, headers=bearer()) as client:
            made = [post(client, "/v1/keys", {"name": "k", "scopes": ["*"]}) for _ in range(3)]
            plain = make_key(client, "events:read", credential=KEY)
            acts(client, 4)
            time.sleep(1.1)  # the acts are older than the events' retention
            server.kill()
            server.start()  # which trims
            deadline = time.monotonic() + PATIENCE
            while len(client.get(f"/v1/events?events={AUDIT}").json()["events"]) > 1:
                assert time.monotonic() < deadline  # the youngest stays as a mark
            kept = client.get("/v1/events?audit=true").json()["events"]
            assert [each["data"]["target"] for each in kept] == [each["id"] for each in made] + [
                plain.id
            ]
            lines = client.get("/v1/events/export?audit=true").text.splitlines()
            assert [json.loads(line)["id"] for line in lines] == [each["id"] for each in kept]
            page = client.get("/v1/events?audit=true&limit=2").json()
            rest = client.get(f"/v1/events?audit=true&cursor={page['next_cursor']}")
            assert page["events"] + rest.json()["events"] == kept
            refused = client.get("/v1/events?audit=true", headers=bearer(plain.key))
            assert refused.json()["error"]["details"] == {"scope": "audit:read"}
    finally:
        server.stop()


def test_a_kill_behind_the_answer_loses_no_act(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = ServerProcess(tmp_path_factory.mktemp("killed") / "data").start()
    try:
        with sync_client(server, headers=bearer()) as client:
            made = post(client, "/v1/keys", {"name": "last", "scopes": ["*"]})
            server.kill()
            server.start()
            assert [each["data"]["target"] for each in acts(client, 1)] == [made["id"]]
    finally:
        server.stop()
