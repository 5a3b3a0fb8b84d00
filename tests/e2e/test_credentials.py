"""Every endpoint and every message of a socket, asked with every kind of credential."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.credentials import (
    SCOPES,
    Tenant,
    client_messages,
    make_key,
    make_tenant,
    make_token,
    operations,
    post,
    sync_client,
)
from support.endpoints import (
    ADMINISTRATOR,
    ALL,
    ENDPOINTS,
    LINK,
    MESSAGES,
    MISSING,
    PUBLIC,
    path_of,
)
from support.refusals import check_refusal
from support.server import KEY, ServerProcess, bearer


@dataclass
class Kit:
    """Credentials of one organization, by what is said of them."""

    bad: dict[str, str | None]
    only: dict[str, str]
    all_but: dict[str, str]
    tokens: dict[str, str]
    bound: dict[str, dict[str, str]]
    everything: str


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with sync_client(server) as made:
        yield made


@pytest.fixture(scope="module")
def kit(server: ServerProcess, client: httpx.Client) -> Kit:
    with sync_client(server, headers=bearer()) as admin:
        tenant = make_tenant(admin, "tested")
        disabled = make_tenant(admin, "disabled")
        answer = admin.patch(f"/v1/organizations/{disabled.id}", json={"disabled": True})
        assert answer.json()["disabled_at"] is not None
    own = tenant.key.key
    return Kit(
        bad={**_bad(client, tenant), "of a disabled organization": disabled.key.key},
        only={scope: make_key(client, scope, credential=own).key for scope in SCOPES},
        all_but={
            scope: make_key(client, *(s for s in SCOPES if s != scope), credential=own).key
            for scope in SCOPES
        },
        tokens={scope: make_token(client, scope, credential=own) for scope in SCOPES},
        bound={
            name: {
                scope: make_token(client, scope, credential=own, **{name: "x"}) for scope in SCOPES
            }
            for name in ("subject", "session_id", "agent_id")
        },
        everything=own,
    )


def _bad(client: httpx.Client, tenant: Tenant) -> dict[str, str | None]:
    """Those that open nothing."""
    own = tenant.key.key
    expired = make_key(client, "*", credential=own, expires_in=1).key
    late = make_token(client, "*", credential=own, ttl_seconds=1)
    revoked = make_key(client, "*", credential=own)
    orphan = make_token(client, "*", credential=revoked.key)
    good = make_token(client, "*", credential=own)
    assert client.delete(f"/v1/keys/{revoked.id}", headers=bearer(own)).status_code == 204
    for ending in (expired, late):
        while client.get("/v1/agents", headers=bearer(ending)).status_code != 401:
            pass
    return {
        "none": None,
        "garbage": "rg_live_000000000000000000000000",
        "a garbage token": "eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
        "a forged token": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "an expired key": expired,
        "an expired token": late,
        "a revoked key": revoked.key,
        "a token of a revoked key": orphan,
    }


def ask(client: httpx.Client, method: str, path: str, credential: str | None) -> httpx.Response:
    """A right request for things that never were. Of a stream that is granted, the beginning."""
    endpoint = ALL[method, path]
    headers = {} if credential is None else bearer(credential)
    asked = client.build_request(
        method,
        path_of(path, MISSING),
        params=endpoint.query,
        json=endpoint.body,
        content=endpoint.content,
        headers=headers,
    )
    response = client.send(asked, stream=True)
    if response.status_code >= 400:
        response.read()
    response.close()
    return response


def refused(response: httpx.Response, code: str, why: object) -> None:
    assert response.status_code == {"UNAUTHENTICATED": 401, "FORBIDDEN": 403}[code], why
    if response.request.method != "HEAD":
        check_refusal(response, code)


def test_the_table_is_whole(client: httpx.Client) -> None:
    described = set(operations(client))
    assert described <= ENDPOINTS.keys()
    # HEAD is not described by itself, and what is not built yet cannot be asked.
    assert {one for one in ENDPOINTS if one[0] != "HEAD"} == described
    assert client_messages(client) == MESSAGES.keys()


def test_what_opens_nothing_opens_no_endpoint(client: httpx.Client, kit: Kit) -> None:
    for (method, path), endpoint in ALL.items():
        for name, credential in kit.bad.items():
            answer = ask(client, method, path, credential)
            if endpoint.needs is PUBLIC:
                assert answer.status_code < 400, (method, path, name)
            else:
                refused(answer, "UNAUTHENTICATED", (method, path, name))


def test_every_endpoint_needs_its_scope_and_no_other(client: httpx.Client, kit: Kit) -> None:
    for (method, path), endpoint in ALL.items():
        if endpoint.needs in {PUBLIC, ADMINISTRATOR, LINK}:
            continue
        for scope in SCOPES:
            answer = ask(client, method, path, kit.only[scope])
            if scope == endpoint.needs:
                assert answer.status_code not in {401, 403}, (method, path, answer.text)
            else:
                refused(answer, "FORBIDDEN", (method, path, scope))
        answer = ask(client, method, path, kit.all_but[endpoint.needs])
        refused(answer, "FORBIDDEN", (method, path))
        if method != "HEAD":
            error = answer.json()["error"]
            assert endpoint.needs in error["message"] and "/v1/keys" in error["message"]
            assert error["details"] == {"scope": endpoint.needs}


def test_tokens_go_by_their_scopes_and_what_they_are_bound_to(
    client: httpx.Client, kit: Kit
) -> None:
    for (method, path), endpoint in ALL.items():
        if endpoint.needs in {PUBLIC, ADMINISTRATOR, LINK}:
            continue
        for tokens in (kit.tokens, *kit.bound.values()):
            lacking = next(scope for scope in SCOPES if scope != endpoint.needs)
            refused(ask(client, method, path, tokens[lacking]), "FORBIDDEN", (method, path))
        answer = ask(client, method, path, kit.tokens[endpoint.needs])
        if endpoint.no_token:
            refused(answer, "FORBIDDEN", (method, path))
        else:
            assert answer.status_code not in {401, 403}, (method, path, answer.text)
        for name, tokens in kit.bound.items():
            answer = ask(client, method, path, tokens[endpoint.needs])
            assert answer.status_code != 401, (method, path, name)
            if endpoint.unbound:
                refused(answer, "FORBIDDEN", (method, path, name))


def test_a_link_signs_in_once_and_does_nothing_else(client: httpx.Client, kit: Kit) -> None:
    path = "/v1/tokens/sign-in"
    for credential in (KEY, kit.everything, *kit.only.values(), *kit.tokens.values()):
        refused(ask(client, "POST", path, credential), "FORBIDDEN", path)
    key = make_key(client, "tokens:write", "sessions:read", credential=kit.everything).key
    headers = {"Authorization": f"Bearer {key}"}
    link = client.post("/v1/tokens/links", json={}, headers=headers).json()
    assert link["path"].endswith(f"#sign-in={link['code']}")
    for (method, template), endpoint in ALL.items():
        if endpoint.needs not in {PUBLIC, LINK}:
            refused(ask(client, method, template, link["code"]), "FORBIDDEN", (method, template))
    with_code = {"Authorization": f"Bearer {link['code']}"}
    token = client.post(path, json={"ttl_seconds": 60}, headers=with_code).json()
    assert token["scopes"] == ["sessions:read", "tokens:write"]
    assert ask(client, "GET", "/v1/sessions", token["token"]).status_code == 200
    for again in ("Bearer {}", "bearer {}", "Bearer  {}", "Bearer {}="):
        said = {"Authorization": again.format(link["code"])}
        answer = client.post(path, json={"ttl_seconds": 70}, headers=said)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT"), again


def test_the_token_of_a_sign_in_is_renewed_and_no_other(client: httpx.Client, kit: Kit) -> None:
    path = "/v1/tokens/renew"
    for credential in (KEY, kit.everything, *kit.tokens.values()):
        refused(ask(client, "POST", path, credential), "FORBIDDEN", path)

    def renewed(credential: str, seconds: int) -> dict[str, Any]:
        return post(client, path, {"ttl_seconds": seconds}, credential)

    def signed_in(**key: Any) -> dict[str, Any]:
        scopes = ("tokens:write", "sessions:read")
        made = make_key(client, *scopes, credential=kit.everything, **key).key
        code = post(client, "/v1/tokens/links", {}, made)["code"]
        return post(client, "/v1/tokens/sign-in", {"ttl_seconds": 60}, code)

    first = signed_in()
    second = renewed(renewed(first["token"], 120)["token"], 3_600)
    assert second["scopes"] == first["scopes"] and second["token"] != first["token"]
    assert second["expires_at"] > first["expires_at"]
    for token in (first, second):
        assert ask(client, "GET", "/v1/sessions", token["token"]).status_code == 200
    # What is created with it is not of a sign-in.
    made = post(client, "/v1/tokens", {"ttl_seconds": 60}, second["token"])["token"]
    refused(ask(client, "POST", path, made), "FORBIDDEN", path)
    # Nothing outlives the key.
    last = signed_in(expires_in=90)
    assert renewed(last["token"], 600)["expires_at"] == renewed(last["token"], 86_400)["expires_at"]


def test_a_key_made_in_a_sign_in_outlasts_it_and_not_the_key(
    client: httpx.Client, kit: Kit
) -> None:
    def ends(asked: int | None, **own: Any) -> tuple[str | None, str | None]:
        """When the key that signs in ends, and when one that is made there."""
        maker = make_key(client, "*", credential=kit.everything, **own)
        code = post(client, "/v1/tokens/links", {}, maker.key)["code"]
        token = post(client, "/v1/tokens/sign-in", {"ttl_seconds": 60}, code)["token"]
        body = {"name": "k", "scopes": ["sessions:read"], "expires_in": asked}
        made = post(client, "/v1/keys", body, token)
        answer = client.get(f"/v1/keys/{maker.id}", headers=bearer(token))
        return answer.json()["expires_at"], made["expires_at"]

    assert ends(None) == (None, None)
    assert ends(3_600)[1] is not None
    last, end = ends(7_200, expires_in=3_600)
    assert last == end is not None


def test_only_the_bootstrap_key_is_an_administrator(client: httpx.Client, kit: Kit) -> None:
    of_bootstrap = make_key(client, "*", credential=KEY).key
    token = make_token(client, "*", credential=KEY)
    for (method, path), endpoint in ALL.items():
        if endpoint.needs != ADMINISTRATOR:
            continue
        for credential in (kit.everything, of_bootstrap, token, *kit.only.values()):
            refused(ask(client, method, path, credential), "FORBIDDEN", (method, path))
        answer = ask(client, method, path, KEY)
        assert answer.status_code not in {401, 403}, (method, path, answer.text)
