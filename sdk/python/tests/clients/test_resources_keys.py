"""`client.keys` and `client.tokens`: what they ask for, and what they make of the answers."""

from __future__ import annotations

from typing import Any

import pytest
from resonantgenesis import ApiKey, Conflict, ResonantGenesis, SyncResonantGenesis

from ..conftest import ServerThread
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio

KEY: dict[str, Any] = {
    "id": "key_1",
    "name": "ci",
    "scopes": ["sessions:read"],
    "created_at": "2026-02-21T00:00:00.000000Z",
    "expires_at": "2026-02-22T00:00:00.000000Z",
    "revoked_at": None,
}
SECRET = "rg_live_shown_once"
LISTED = {"data": [KEY], "next_cursor": "c_2", "has_more": True}
ROTATED = {"id": "abc", "created_at": "2026-02-21T00:00:00.000000Z", "former": 2}


def check(key: ApiKey) -> None:
    assert (key.id, key.name, key.scopes) == ("key_1", "ci", ["sessions:read"])
    assert (key.expires_at, key.revoked_at) == (KEY["expires_at"], None)


async def test_a_key_is_made_and_does_not_show(server: FakeServer, client: ResonantGenesis) -> None:
    server.fail_next("/v1/keys", 201, {**KEY, "key": SECRET})
    made = await client.keys.create("ci", ["sessions:read"], expires_in=86_400)
    check(made)
    assert made.key == SECRET and SECRET not in repr(made) and SECRET not in str(made)
    asked = server.requests[-1]
    assert asked.body == {"name": "ci", "scopes": ["sessions:read"], "expires_in": 86_400}
    assert asked.headers["idempotency-key"]


async def test_a_key_whose_answer_was_lost_is_said(
    server: FakeServer, client: ResonantGenesis
) -> None:
    error = {"code": "CONFLICT", "message": "its secret is shown only once", "details": {}}
    server.fail_next("/v1/keys", 503, {})
    server.fail_next("/v1/keys", 409, {"error": error})
    with pytest.raises(Conflict, match="only once"):
        await client.keys.create("ci", ["*"])
    first, again = server.requests[-2:]
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert "expires_in" not in first.body


async def test_keys_are_read_listed_and_revoked(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.fail_next("/v1/keys/key_1", 200, KEY)
    check(await client.keys.get("key_1"))
    server.fail_next("/v1/keys", 200, LISTED)
    page = await client.keys.list(limit=1, cursor="c_1")
    assert server.requests[-1].query == {"limit": "1", "cursor": "c_1"}
    check(page.data[0])
    assert (page.data[0].key, page.next_cursor) == (None, "c_2")
    server.fail_next("/v1/keys/a%2Fb", 204, "")
    await client.keys.revoke("a/b")
    assert server.requests[-1].method == "DELETE"


async def test_tokens_get_a_new_signing_key(server: FakeServer, client: ResonantGenesis) -> None:
    for end in (False, True):
        server.fail_next("/v1/tokens/rotate", 200, ROTATED)
        made = await client.tokens.rotate(end_tokens=end)
        assert (made.id, made.former) == ("abc", 2)
        assert server.requests[-1].body == {"end_tokens": end}


async def test_a_link_signs_in_to_the_console(server: FakeServer, client: ResonantGenesis) -> None:
    answer = {"code": "eyJ", "path": "/console/#sign-in=eyJ", "expires_at": "2026-11-30T00:00:00Z"}
    server.fail_next("/v1/tokens/links", 201, answer)
    link = await client.tokens.link()
    assert link.path == answer["path"] and "eyJ" not in repr(link)
    assert server.requests[-1].body == {}


def test_synchronously(served: ServerThread, sync_client: SyncResonantGenesis) -> None:
    server = served.server
    server.fail_next("/v1/keys", 201, {**KEY, "key": SECRET})
    assert sync_client.keys.create("ci", ["sessions:read"]).key == SECRET
    server.fail_next("/v1/keys/key_1", 200, KEY)
    check(sync_client.keys.get("key_1"))
    server.fail_next("/v1/keys", 200, LISTED)
    check(sync_client.keys.list().data[0])
    server.fail_next("/v1/keys/key_1", 204, "")
    sync_client.keys.revoke("key_1")
    server.fail_next("/v1/tokens/rotate", 200, ROTATED)
    assert sync_client.tokens.rotate().former == 2
