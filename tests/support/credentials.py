"""Credentials of every kind, made over HTTP as their owners would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from support.server import PATIENCE, ServerProcess, bearer

RESOURCES = (
    "agents", "sessions", "events", "files", "teams", "webhooks", "usage", "keys", "tokens",
    "subjects",
)  # fmt: skip
SCOPES = [f"{resource}:{mode}" for resource in RESOURCES for mode in ("read", "write")]
SCOPES += ["agents:serve", "metrics:read", "audit:read"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A key, with its id."""

    id: str
    key: str


@dataclass(frozen=True)
class Tenant:
    """An organization and a key with every scope in it."""

    id: str
    key: Made

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.key.key)


def post(
    client: httpx.Client, path: str, body: Mapping[str, Any], credential: str | None = None
) -> Json:
    headers = {} if credential is None else bearer(credential)
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code in {200, 201}, answer.text
    found: Json = answer.json()
    return found


def make_tenant(admin: httpx.Client, name: str) -> Tenant:
    made = post(admin, "/v1/organizations", {"name": name})
    return Tenant(made["id"], Made(made["key"]["id"], made["key"]["key"]))


def make_key(client: httpx.Client, *scopes: str, credential: str, **more: Any) -> Made:
    made = post(client, "/v1/keys", {"name": "k", "scopes": list(scopes), **more}, credential)
    return Made(made["id"], made["key"])


def make_token(client: httpx.Client, *scopes: str, credential: str, **more: Any) -> str:
    body = {"scopes": list(scopes), "ttl_seconds": 600, **more}
    return str(post(client, "/v1/tokens", body, credential)["token"])


def sync_client(server: ServerProcess, **options: Any) -> httpx.Client:
    """A client that is nobody unless `headers` say so."""
    return httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False, **options)


def operations(client: httpx.Client) -> Iterator[tuple[str, str]]:
    """Every method and path of /openapi.json, and HEAD where there is GET of a file."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            yield method.upper(), path


def client_messages(client: httpx.Client) -> set[str]:
    """The types of message that /asyncapi.json lets a client send."""
    sent = client.get("/asyncapi.json").json()["operations"]["fromClient"]["messages"]
    return {message["$ref"].rsplit("/", 1)[1] for message in sent}
