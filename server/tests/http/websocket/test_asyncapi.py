"""`/asyncapi.json` describes the socket. That real traffic conforms is checked by the client of
these tests, with every message that it sends or receives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from resonantgenesis_server.http.websocket import commands as ws_commands
from resonantgenesis_server.http.websocket import connection as ws_socket
from resonantgenesis_server.http.websocket import protocol as ws_machine
from resonantgenesis_server.http.websocket import subscriptions as ws_feeds
from ws_harness import Server, check_from_client, check_from_server

pytestmark = pytest.mark.anyio


async def test_it_is_served_without_a_credential(server: Server) -> None:
    answer = await server.http.get("/asyncapi.json", headers={"Authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["socket"]["address"] == "/v1/ws"


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for item in value.values() for ref in references(item)]
    if isinstance(value, list):
        return [ref for item in value for ref in references(item)]
    return []


async def test_every_reference_leads_somewhere(server: Server) -> None:
    document = (await server.http.get("/asyncapi.json")).json()
    found = references(document)
    assert len(found) > 40
    for reference in found:
        target = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


async def test_it_knows_every_type_that_the_server_says(server: Server) -> None:
    """The types in the source of what is sent, against those that are described."""
    source = ""
    for module in (ws_commands, ws_feeds, ws_machine, ws_socket):
        source += Path(str(module.__file__)).read_text()
    said = set(re.findall(r'(?:control|_answer)\(\s*"(\w+)"', source)) | {"cursor"}
    document = (await server.http.get("/asyncapi.json")).json()
    described = set()
    for schema in document["components"]["schemas"].values():
        kind = schema["properties"].get("type", {})  # parts of messages have none
        described.add(kind.get("const"))
    assert len(said) >= 9
    assert said <= described


GOOD = {"type": "pong", "id": "x"}
WRONG: list[dict[str, Any]] = [
    {"type": "pong", "more": 1},
    {"type": "nothing"},
    {"type": "started", "session_id": "s"},
    {"type": "text", "content": "x", "position": 0, "session_id": "s"},
    {"type": "text", "content": "x", "position": 1},
    {"type": "app.x", "id": "evt", "channel": "no", "created_at": "", "cursor": "", "data": {},
     "metadata": {}},
]  # fmt: skip


def test_the_check_has_teeth() -> None:
    check_from_server(GOOD)
    for message in WRONG:
        with pytest.raises(jsonschema_rs.ValidationError):
            check_from_server(message)
    for message in ({"type": "pong"}, {"type": "auth"}, {"type": "subscribe", "channels": []}):
        with pytest.raises(jsonschema_rs.ValidationError):
            check_from_client(message)
