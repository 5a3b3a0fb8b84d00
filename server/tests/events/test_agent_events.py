"""The whole server: a change of an agent and its event, as a caller sees them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from outbox_support import client_of
from resonantgenesis_server.app import Parts, open_parts
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.log.base import LogUnavailable
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio

NEW = {"id": "writer", "name": "Writer", "engine": "guide"}


async def agent_events(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await client.get("/v1/events", params={"events": "agent.*"})
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


async def test_the_event_is_there_when_the_answer_is(settings: Settings) -> None:
    async with open_parts(settings) as parts, client_of(parts) as client:
        made = await client.post("/v1/agents", json=NEW, headers={"X-Request-Id": "ask-1"})
        assert made.status_code == 201
        (created,) = await agent_events(client)
        assert created["type"] == "agent.created" and created["channel"] == "agents"
        assert created["data"] == {"agent_id": "writer", "name": "Writer", "changes": {}}
        assert created["metadata"]["request_id"] == "ask-1"
        assert created["metadata"]["key_id"].startswith("key_")
        found = await client.get(f"/v1/events/{created['id']}")
        assert found.json() == created
        patched = await client.patch("/v1/agents/writer", json={"instructions": "x" * 2_000})
        assert patched.status_code == 200
        assert (await client.delete("/v1/agents/writer")).status_code == 204
        _, updated, deleted = await agent_events(client)
        assert updated["data"]["changes"] == {"instructions": "x" * 1_000}
        assert deleted["type"] == "agent.deleted"
        assert deleted["data"] == {"agent_id": "writer", "name": "Writer", "changes": {}}


async def test_a_change_succeeds_while_the_log_is_down_and_its_event_comes_at_the_next_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_parts(settings) as parts, client_of(parts) as client:
        _take_down(parts, monkeypatch)
        assert (await client.post("/v1/agents", json=NEW)).status_code == 201
        patched = await client.patch("/v1/agents/writer", json={"name": "New"})
        assert patched.status_code == 200
        assert await agent_events(client) == []
    for _ in range(2):
        async with open_parts(settings) as parts, client_of(parts) as client:
            kinds = [event["type"] for event in await agent_events(client)]
            assert kinds == ["agent.created", "agent.updated"]
    records = await Records.open(
        (settings.store or [""])[0] or f"sqlite:///{settings.data / 'records.db'}"
    )
    assert await records.outbox.pending() == []
    await records.close()


async def test_a_bad_setting_of_the_engine_is_refused(settings: Settings) -> None:
    async with open_parts(settings) as parts, client_of(parts) as client:
        for pace in (-1, 1_001):
            body = {**NEW, "defaults": {"words_per_second": pace}}
            refused = await client.post("/v1/agents", json=body)
            assert refused.status_code == 422, pace
            fields = refused.json()["error"]["details"]["fields"]
            assert fields.keys() == {"defaults.words_per_second"}
        made = await client.post("/v1/agents", json={**NEW, "defaults": {"words_per_second": 0}})
        assert made.json()["defaults"] == {"words_per_second": 0}
        refused = await client.patch(
            "/v1/agents/writer", json={"defaults": {"words_per_second": 2_000}}
        )
        assert refused.status_code == 422
        assert [event["type"] for event in await agent_events(client)] == ["agent.created"]


def _take_down(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def room() -> None:
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(parts.log, "room", room)
