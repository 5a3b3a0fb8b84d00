"""`GET /v1/usage` of the whole server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from resonantgenesis_server.app import Parts, open_parts
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets
from resonantgenesis_server.sessions import chunks

pytestmark = pytest.mark.anyio

KEY = "rg_test_usage_key_0123456789"
BUDGET = 10_000
Json = dict[str, Any]


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    settings = Settings(
        data=tmp_path,
        bootstrap_key=KEY,
        agents={"spend": "usage_agents:spend", "other": "usage_agents:spend"},
        limits=Limits(monthly_tokens=BUDGET),
    )
    async with open_parts(settings) as opened:
        yield opened


def client_of(parts: Parts, credential: str = KEY) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(parts.app),
        base_url="http://testserver",
        headers={"Authorization": f"Bearer {credential}"},
    )


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(parts) as made:
        yield made


async def spend(client: httpx.AsyncClient, goal: str, agent: str = "spend", **more: Any) -> Json:
    body = {"agent_id": agent, "goal": goal, **more}
    answer = await client.post("/v1/sessions/execute", json=body)
    assert answer.status_code == 200, answer.text
    result: Json = answer.json()
    return result


async def usage(client: httpx.AsyncClient, **query: Any) -> Json:
    asked = {"from" if name == "since" else name: value for name, value in query.items()}
    answer = await client.get("/v1/usage", params=asked)
    assert answer.status_code == 200, answer.text
    result: Json = answer.json()
    return result


async def make_key(client: httpx.AsyncClient, *scopes: str) -> tuple[str, str]:
    made = await client.post("/v1/keys", json={"name": "k", "scopes": list(scopes)})
    return made.json()["id"], made.json()["key"]


async def make_token(client: httpx.AsyncClient, **bound: str) -> str:
    body = {"scopes": ["usage:read", "sessions:write"], "ttl_seconds": 600, **bound}
    return str((await client.post("/v1/tokens", json=body)).json()["token"])


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d")


async def test_a_day(client: httpx.AsyncClient) -> None:
    for tokens in (10, 20, 30):
        await spend(client, str(tokens))
    found = await usage(client)
    (day,) = found["data"]
    assert day["day"] in {days_ago(0), days_ago(1)}
    sums = {name: value for name, value in day.items() if name != "day"}
    assert sums == found["totals"]
    assert sums.items() >= {
        "turns": 3, "input_tokens": 57, "output_tokens": 3, "total_tokens": 60, "steps": 3,
    }.items()  # fmt: skip
    assert (found["group_by"], found["next_cursor"], found["has_more"]) == ("day", None, False)
    assert found["from"] == f"{days_ago(29)}T00:00:00.000000Z"
    budget = found["budget"]
    assert (budget["monthly_tokens"], budget["used_tokens"]) == (BUDGET, 60)
    assert budget["resets_at"] > found["to"]
    assert budget["month"] == found["to"][:7]


async def test_it_is_what_done_and_the_event_say(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at once, the turn is there; and its time is the same, though time goes on."""
    ticking = itertools.count(1)
    monkeypatch.setattr(chunks, "time", SimpleNamespace(monotonic=lambda: next(ticking) / 100))
    for number in range(1, 6):
        result = await spend(client, "10")
        found = await usage(client, group_by="turn", limit=1)
        (turn,) = found["data"]
        assert found["totals"]["turns"] == number
        assert {name: turn[name] for name in result["usage"]} == result["usage"]
        assert (turn["session_id"], turn["turn"]) == (result["session_id"], 1)
    events = await client.get("/v1/events", params={"events": "billing.usage.recorded"})
    event = events.json()["events"][-1]
    assert event["data"].items() >= {**result["usage"], "status": "success"}.items()
    assert event["metadata"]["key_id"] == turn["key_id"]
    assert event["created_at"] == turn["ended_at"]


async def test_every_ending_counts(client: httpx.AsyncClient, parts: Parts) -> None:
    await spend(client, "10")
    await spend(client, "20 fail")
    await spend(client, "30 wait", timeout_seconds=0.05)
    body = {"agent_id": "spend", "goal": "40 wait"}
    headers = {"Prefer": "respond-async"}
    running = (await client.post("/v1/sessions/execute", json=body, headers=headers)).json()
    path = f"/v1/sessions/{running['session_id']}"
    while not (await client.get(path)).json()["output"]:
        await asyncio.sleep(0.001)
    await client.post(f"{path}/cancel", json={})
    async with asyncio.timeout(10):
        while (await client.get(path)).json()["status"] == "running":
            await asyncio.sleep(0.001)
    found = await usage(client, group_by="turn")
    assert [(turn["status"], turn["total_tokens"]) for turn in found["data"]] == [
        ("cancelled", 40), ("timeout", 30), ("failed", 20), ("success", 10),
    ]  # fmt: skip
    # Deleting a session does not undo what it took.
    assert (await client.delete(path)).status_code == 204
    assert (await usage(client))["totals"]["total_tokens"] == 100


async def test_by_agent_key_subject_and_session(client: httpx.AsyncClient, parts: Parts) -> None:
    key_id, key = await make_key(client, "sessions:write", "usage:read")
    first = await spend(client, "1", subject="bob")
    async with client_of(parts, key) as other:
        await spend(other, "2", agent="other")
        await spend(other, "4", session_id=first["session_id"])
    token = await make_token(client, subject="ann")
    async with client_of(parts, token) as ann:
        await spend(ann, "8")
    mine = (await usage(client, group_by="turn", session_id=first["session_id"]))["data"][1]

    async def by(name: str, **query: Any) -> dict[str | None, int]:
        field = "session_id" if name == "session" else name
        field = f"{name}_id" if name in {"agent", "key"} else field
        rows = (await usage(client, group_by=name, **query))["data"]
        return {row[field]: row["total_tokens"] for row in rows}

    assert await by("agent") == {"spend": 13, "other": 2}
    # The key that started each turn; of a token it is the key that made it.
    assert await by("key") == {mine["key_id"]: 9, key_id: 6}
    assert await by("subject") == {None: 2, "ann": 8, "bob": 5}
    assert (await by("session"))[first["session_id"]] == 5
    assert await by("agent", key_id=key_id) == {"spend": 4, "other": 2}
    assert await by("key", agent_id="other") == {key_id: 2}
    assert await by("session", subject="bob") == {first["session_id"]: 5}
    assert await by("agent", subject="nobody") == {}


async def test_pages(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await spend(client, str(number + 1))
    seen: list[int] = []
    query: Json = {"group_by": "turn", "limit": 2}
    while True:
        page = await usage(client, **query)
        assert page["totals"]["total_tokens"] == 15
        seen += [row["total_tokens"] for row in page["data"]]
        assert page["has_more"] is (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [5, 4, 3, 2, 1]


async def test_times(client: httpx.AsyncClient) -> None:
    await spend(client, "10")
    (turn,) = (await usage(client, group_by="turn"))["data"]
    ended = turn["ended_at"]
    assert (await usage(client, since=ended))["totals"]["turns"] == 1
    assert (await usage(client, since=days_ago(1), to=ended))["totals"]["turns"] == 0
    assert (await usage(client, since="2020-01-01", to="2020-02-01"))["data"] == []
    found = await usage(client, to="2020-02-01T12:00:00Z")
    assert (found["from"], found["to"]) == (
        "2020-01-03T00:00:00.000000Z", "2020-02-01T12:00:00.000000Z",
    )  # fmt: skip
    assert (await usage(client, since=days_ago(3), to=days_ago(-2)))["totals"]["turns"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": ""}, "from"),
        ({"to": "1900-01-01"}, "to"),
        ({"to": "9999-12-31T23:59:59Z"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-02"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "to"),
        ({"group_by": "colour"}, "group_by"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"agent_id": ""}, "agent_id"),
        ({"subject": "a\x00b"}, "subject"),
        ({"key_id": "k" * 201}, "key_id"),
    ],
)
async def test_what_is_wrong_is_named(client: httpx.AsyncClient, query: Json, field: str) -> None:
    answer = await client.get("/v1/usage", params=query)
    assert answer.status_code == 422
    assert list(answer.json()["error"]["details"]["fields"]) == [field]


async def test_who_may_see_it(client: httpx.AsyncClient, parts: Parts) -> None:
    _, without = await make_key(client, "sessions:read", "events:read")
    async with client_of(parts, without) as other:
        answer = await other.get("/v1/usage")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    async with client_of(parts, "rg_live_of_nobody") as nobody:
        assert (await nobody.get("/v1/usage")).status_code == 401
    assert (await client.get("/api/v1/usage")).status_code == 200


async def test_a_bound_token_sees_its_own(client: httpx.AsyncClient, parts: Parts) -> None:
    mine = await spend(client, "1", subject="ann")
    await spend(client, "2", subject="bob")
    await spend(client, "4", agent="other")
    for bound, seen in (
        ({"subject": "ann"}, 1),
        ({"session_id": mine["session_id"]}, 1),
        ({"agent_id": "other"}, 4),
        ({"subject": "nobody"}, 0),
    ):
        async with client_of(parts, await make_token(client, **bound)) as other:
            for group_by in ("day", "agent", "key", "subject", "session", "turn"):
                found = await usage(other, group_by=group_by)
                assert found["totals"]["total_tokens"] == seen
                assert sum(row["total_tokens"] for row in found["data"]) == seen
                assert found["budget"] is None
            assert (await usage(other, subject="bob"))["totals"]["turns"] == 0
    async with client_of(parts, await make_token(client)) as unbound:
        assert (await usage(unbound))["budget"]["used_tokens"] == 7


async def test_organizations_stand_apart(
    client: httpx.AsyncClient, parts: Parts, tmp_path: Path
) -> None:
    mine = await spend(client, str(BUDGET))
    assert (await usage(client))["budget"]["used_tokens"] == BUDGET
    organization = await parts.records.organizations.create("second")
    await parts.records.keys.create(
        organization.id,
        name="theirs",
        hash=CredentialHasher(*load_secrets(tmp_path / "secret")).hash("rg_live_theirs"),
        scopes=frozenset({"*"}),
    )
    async with client_of(parts, "rg_live_theirs") as other:
        asked = await usage(other, session_id=mine["session_id"])
        assert (asked["data"], asked["totals"]["turns"]) == ([], 0)
        await spend(other, "3")
        found = await usage(other, group_by="turn")
        assert [row["total_tokens"] for row in found["data"]] == [3]
        assert found["budget"]["used_tokens"] == 3
    assert (await usage(client))["totals"]["total_tokens"] == BUDGET
