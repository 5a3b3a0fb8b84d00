"""Every message of a socket needs its scope, whoever sends it; bad credentials open none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from support.credentials import SCOPES, Tenant, make_key, make_tenant, make_token, sync_client
from support.endpoints import MESSAGES, MISSING, Message, with_ids
from support.server import PATIENCE, ServerProcess, bearer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

#: Each variant of each message, with its type.
VARIANTS = [(kind, message) for kind, several in MESSAGES.items() for message in several]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with sync_client(server) as made:
        yield made


@pytest.fixture(scope="module")
def tenant(server: ServerProcess) -> Tenant:
    with sync_client(server, headers=bearer()) as admin:
        return make_tenant(admin, "sockets")


@contextmanager
def socket(server: ServerProcess, credential: str | None) -> Iterator[ClientConnection]:
    headers = {} if credential is None else bearer(credential)
    url = server.url.replace("http:", "ws:") + "/v1/ws"
    with connect(url, additional_headers=headers, proxy=None, open_timeout=PATIENCE) as ws:
        yield ws


def ask(ws: ClientConnection, kind: str, message: Message) -> dict[str, Any]:
    """The answer to the message, by its id; chunks and events may come in between."""
    body = with_ids(message.body, MISSING)
    ws.send(json.dumps({"type": kind, "id": "asked", **body}))
    while True:
        answer: dict[str, Any] = json.loads(ws.recv(timeout=PATIENCE))
        if answer.get("id") == "asked":
            return answer


def check_granted(ws: ClientConnection, scope: str) -> None:
    """On one socket: what needs `scope` is let through, all else is refused for its scope."""
    for kind, message in VARIANTS:
        answer = ask(ws, kind, message)
        if message.needs in {None, scope}:
            assert answer.get("code") in {None, "SESSION_NOT_FOUND", "AGENT_NOT_FOUND"}, answer
        else:
            assert answer["code"] == "FORBIDDEN", (kind, answer)
            assert message.needs in answer["message"]
            assert answer["details"] == {"scope": message.needs}


@pytest.mark.parametrize("scope", SCOPES)
def test_every_message_needs_its_scope(
    server: ServerProcess, client: httpx.Client, tenant: Tenant, scope: str
) -> None:
    own = tenant.key.key
    with socket(server, make_key(client, scope, credential=own).key) as ws:
        check_granted(ws, scope)
    # Authenticated by its first message, and with a token, it is the same.
    with socket(server, None) as ws:
        token = make_token(client, scope, credential=own)
        ws.send(json.dumps({"type": "auth", "token": token}))
        assert json.loads(ws.recv(timeout=PATIENCE))["type"] == "authenticated"
        check_granted(ws, scope)


def test_nothing_is_done_before_the_credential(server: ServerProcess) -> None:
    with socket(server, None) as ws:
        for kind, message in VARIANTS:
            answer = ask(ws, kind, message)
            assert (answer["type"], answer["code"]) == ("error", "UNAUTHENTICATED"), kind


def test_bad_credentials_open_no_socket(
    server: ServerProcess, client: httpx.Client, tenant: Tenant
) -> None:
    revoked = make_key(client, "*", credential=tenant.key.key)
    orphan = make_token(client, "*", credential=revoked.key)
    assert client.delete(f"/v1/keys/{revoked.id}", headers=tenant.headers).status_code == 204
    for bad in ("rg_live_000000000000000000000000", "a.b.c", revoked.key, orphan):
        with pytest.raises(InvalidStatus) as refused, socket(server, bad):
            pass
        assert refused.value.response.status_code == 401
        with socket(server, None) as ws:
            ws.send(json.dumps({"type": "auth", "token": bad, "id": 7}))
            told = json.loads(ws.recv(timeout=PATIENCE))
            assert (told["type"], told["code"], told["id"]) == ("error", "UNAUTHENTICATED", 7)
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=PATIENCE)
            assert ws.close_code == 4401
