"""`/v1/keys` and `/v1/tokens`: what they grant, and that nobody grants more than they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from http_harness import Service, bearer

pytestmark = pytest.mark.anyio


async def test_a_key_is_shown_once_and_kept_as_a_hash(service: Service, tmp_path: Path) -> None:
    answer = await service.client.post(
        "/v1/keys", json={"name": "ci", "scopes": ["agents:read"], "expires_in": 60}
    )
    assert answer.status_code == 201
    made = answer.json()
    credential = made.pop("key")
    assert credential.startswith("rg_live_") and len(credential) == 40
    assert answer.headers["location"] == f"/v1/keys/{made['id']}"
    assert made["scopes"] == ["agents:read"] and made["revoked_at"] is None
    assert made["expires_at"] > made["created_at"]
    shown = await service.client.get(f"/v1/keys/{made['id']}")
    assert shown.json() == made
    listed = await service.client.get("/v1/keys")
    assert made in listed.json()["data"] and len(listed.json()["data"]) == 2
    for text in (shown.text, listed.text):
        assert credential not in text and service.hasher.hash(credential) not in text
    for path in tmp_path.iterdir():
        assert credential.encode() not in path.read_bytes()
    used = await service.client.get("/v1/agents", headers=bearer(credential))
    assert used.status_code == 200


async def test_a_key_cannot_grant_what_it_lacks(service: Service) -> None:
    own = bearer(await service.make_key("keys:write", "agents:read"))
    for scopes, status in (
        (["agents:read"], 201),
        (["agents:read", "keys:write"], 201),
        (["agents:write"], 403),
        (["agents:read", "agents:write"], 403),
        (["*"], 403),
    ):
        answer = await service.client.post(
            "/v1/keys", json={"name": "k", "scopes": scopes}, headers=own
        )
        assert answer.status_code == status, scopes


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scopes": None}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": "*"}, "scopes"),
        ({"scopes": ["*"] * 65}, "scopes"),
        ({"name": 1}, "name"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": "60"}, "expires_in"),
        ({"expires_in": 1.5}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"expires_in": 10**12}, "expires_in"),
        ({"expires_in": 10**30}, "expires_in"),
    ],
)
async def test_wrong_fields_of_a_key(service: Service, change: dict[str, Any], field: str) -> None:
    body = {"name": "k", "scopes": ["*"], **change}
    answer = await service.client.post("/v1/keys", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["fields"].keys() == {field}


async def test_a_revoked_key_stays_listed(service: Service) -> None:
    made = (await service.client.post("/v1/keys", json={"name": "k", "scopes": ["*"]})).json()
    for _ in range(2):
        assert (await service.client.delete(f"/v1/keys/{made['id']}")).status_code == 204
    shown = (await service.client.get(f"/v1/keys/{made['id']}")).json()
    assert shown["revoked_at"] is not None
    missing = await service.client.delete("/v1/keys/key_none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_no_other_key_revokes_the_bootstrap_key(service: Service) -> None:
    path = f"/v1/keys/{service.key_id}"
    other, token = await service.make_key("*"), await service.make_token()
    for credential in (other, token):
        answer = await service.client.delete(path, headers=bearer(credential))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert (await service.client.get(path)).json()["revoked_at"] is None
    assert (await service.client.delete(path)).status_code == 204
    assert (await service.client.get("/v1/agents")).status_code == 401


async def test_keys_of_another_organization_are_not_found(service: Service) -> None:
    other = await service.records.organizations.create("second")
    theirs = bearer(await service.make_key("*", organization_id=other.id))
    for method in ("GET", "DELETE"):
        answer = await service.client.request(method, f"/v1/keys/{service.key_id}", headers=theirs)
        assert answer.status_code == 404
    assert len((await service.client.get("/v1/keys", headers=theirs)).json()["data"]) == 1
    assert (await service.client.get("/v1/agents")).status_code == 200


@pytest.mark.parametrize("bound", [{"subject": "ann"}, {"session_id": "s"}, {"agent_id": "a"}])
async def test_a_bound_token_has_no_access_to_keys(service: Service, bound: dict[str, str]) -> None:
    token = bearer(await service.make_token(**bound))
    body = {"name": "k", "scopes": ["agents:read"]}
    for method, path in (
        ("POST", "/v1/keys"),
        ("GET", "/v1/keys"),
        ("GET", f"/v1/keys/{service.key_id}"),
        ("DELETE", f"/v1/keys/{service.key_id}"),
    ):
        answer = await service.client.request(method, path, json=body, headers=token)
        assert answer.status_code == 403, path


async def test_a_key_made_by_a_token_ends_with_it(service: Service) -> None:
    token = bearer(await service.make_token(ttl_seconds=60))
    limit = service.clock() + 61
    for extra in ({}, {"expires_in": 3_600}):
        made = await service.client.post(
            "/v1/keys", json={"name": "k", "scopes": ["*"], **extra}, headers=token
        )
        record = await service.records.keys.find(made.json()["id"])
        assert record is not None and record.expires_at is not None
        assert record.expires_at < limit


async def test_a_token_grants_no_more_than_its_maker(service: Service) -> None:
    own = bearer(await service.make_key("tokens:write", "sessions:read"))
    for scopes, status in ((["sessions:read"], 201), (["sessions:write"], 403), (["*"], 403)):
        answer = await service.client.post("/v1/tokens", json={"scopes": scopes}, headers=own)
        assert answer.status_code == status, scopes
    token = answer = await service.client.post(
        "/v1/tokens", json={"scopes": ["tokens:write"], "ttl_seconds": 60}, headers=own
    )
    child = await service.client.post(
        "/v1/tokens",
        json={"scopes": ["tokens:write"], "ttl_seconds": 86_400},
        headers=bearer(token.json()["token"]),
    )
    assert child.json()["expires_at"] == token.json()["expires_at"]


async def test_what_a_token_is_bound_to_binds_its_tokens(service: Service) -> None:
    bound = {"subject": "ann", "session_id": "s1", "agent_id": "a1"}
    own = bearer(await service.make_token(**bound))
    inherited = await service.client.post("/v1/tokens", json={"scopes": ["*"]}, headers=own)
    assert {name: inherited.json()[name] for name in bound} == bound
    for name, own_value in bound.items():
        for value, status in ((own_value, 201), ("other", 403)):
            answer = await service.client.post(
                "/v1/tokens", json={"scopes": ["*"], name: value}, headers=own
            )
            assert answer.status_code == status, name


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"ttl_seconds": 86_401}, "ttl_seconds"),
        ({"ttl_seconds": "60"}, "ttl_seconds"),
        ({"subject": ""}, "subject"),
        ({"subject": "a\x00"}, "subject"),
        ({"session_id": "a\x00"}, "session_id"),
        ({"agent_id": "a b"}, "agent_id"),
        ({"cookie": 1}, "cookie"),
        ({"scopes": []}, "scopes"),
    ],
)
async def test_wrong_fields_of_a_token(
    service: Service, change: dict[str, Any], field: str
) -> None:
    answer = await service.client.post("/v1/tokens", json={"scopes": ["*"], **change})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["fields"].keys() == {field}


@pytest.mark.parametrize(
    ("host", "is_secure"),
    [
        ("api.example", True),
        ("api.example:443", True),
        ("localhost.example", True),
        ("localhost:8080", False),
        ("LOCALHOST", False),
        ("127.0.0.1:8080", False),
        ("[::1]:8080", False),
        ("[::1]", False),
    ],
)
async def test_the_cookie_is_secure_except_on_loopback(
    service: Service, host: str, is_secure: bool
) -> None:
    answer = await service.client.post(
        "/v1/tokens",
        json={"scopes": ["*"], "cookie": True, "ttl_seconds": 60},
        headers={"Host": host},
    )
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert value == f"rg_token={answer.json()['token']}"
    rest = {attribute.lower() for attribute in attributes}
    assert rest - {"secure"} == {"httponly", "samesite=strict", "path=/", "max-age=60"}
    assert ("secure" in rest) == is_secure


async def test_no_cookie_is_set_unasked(service: Service) -> None:
    answer = await service.client.post("/v1/tokens", json={"scopes": ["*"]})
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/tokens"])
async def test_a_secret_is_not_kept_for_a_repeat(
    service: Service, path: str, tmp_path: Path
) -> None:
    body: dict[str, Any] = {"scopes": ["*"]}
    if path == "/v1/keys":
        body["name"] = "k"
    headers = {"Idempotency-Key": "once"}
    first = await service.client.post(path, json=body, headers=headers)
    assert first.status_code == 201
    again = await service.client.post(path, json=body, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "CONFLICT")
    assert "only once" in again.json()["error"]["message"]
    assert "set-cookie" not in again.headers
    secret = first.json().get("key") or first.json()["token"]
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()


@pytest.mark.parametrize("scope", ["sessions:reed", "session:read", "nothing", "x" * 5000])
async def test_what_is_no_scope_is_named_with_those_that_are(service: Service, scope: str) -> None:
    body = {"name": "x", "scopes": [scope]}
    answer = await service.client.post("/v1/keys", json=body)
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert scope[:60] in message
    assert "sessions:read, sessions:write" in message
    assert ("did you mean sessions:read?" in message) == scope.startswith("session")
    assert len(message) < 1000
