"""Exports: every line there is, once, in order, as of the moment they began."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from files_harness import World, opened

pytestmark = pytest.mark.anyio
Json = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path / "data") as made:
        yield made


async def run(world: World, goal: str, **fields: Any) -> Json:
    body = {"agent_id": "guide", "goal": goal, "context": {"words_per_second": 0}, **fields}
    answer = await world.client.post("/v1/sessions/execute", json=body)
    assert answer.status_code == 200, answer.text
    ended: Json = answer.json()
    return ended


async def lines(world: World, path: str, **headers: str) -> list[Json]:
    answer = await world.client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert answer.headers["x-log-epoch"]
    assert not answer.content or answer.content.endswith(b"\n")
    # Line readers of every kind find the same lines.
    assert answer.text.splitlines() == answer.text.split("\n")[:-1]
    return [json.loads(line) for line in answer.content.splitlines()]


async def test_a_session_is_itself_then_each_turn_before_its_chunks(world: World) -> None:
    first = await run(world, "count to 3", metadata={"a": 1})
    session_id = first["session_id"]
    await run(world, "count to 5 \u2028", session_id=session_id)
    found = await lines(world, f"/v1/sessions/{session_id}/export")
    shown = (await world.client.get(f"/v1/sessions/{session_id}")).json()
    head = found[0]
    assert (head["type"], head["session_id"], head["turns"]) == ("session", session_id, 2)
    assert (head["position"], head["earliest"]) == (shown["position"], 1)
    assert head["context"] == {"words_per_second": 0}
    turns = [line for line in found if line["type"] == "turn"]
    assert [(t["turn"], t["goal"], t["status"]) for t in turns] == [
        (1, "count to 3", "success"),
        (2, "count to 5 \u2028", "success"),
    ]
    assert turns[0]["metadata"] == {"a": 1}
    chunks = [line for line in found[1:] if line["type"] != "turn"]
    polled = await world.client.get(f"/v1/sessions/{session_id}/events?limit=1000")
    assert chunks == polled.json()["events"]
    # A turn's line stands right before its first chunk.
    for number in (1, 2):
        place = next(
            i for i, line in enumerate(found) if line.get("goal") and line["turn"] == number
        )
        assert (found[place + 1]["type"], found[place + 1]["turn"]) == ("step", number)


async def test_sessions_that_have_said_nothing(world: World) -> None:
    made = await world.client.post("/v1/sessions", json={"agent_id": "guide", "context": {"a": 1}})
    session_id = made.json()["session_id"]
    [only] = await lines(world, f"/v1/sessions/{session_id}/export")
    assert (only["type"], only["status"], only["position"]) == ("session", "created", 0)


async def test_an_export_ends_though_the_turn_goes_on(world: World) -> None:
    body = {"agent_id": "guide", "goal": "count to 100000", "context": {"words_per_second": 50}}
    prefer = {"Prefer": "respond-async"}
    made = await world.client.post("/v1/sessions/execute", json=body, headers=prefer)
    session_id = made.json()["session_id"]
    waiting = {"goal": "count to 1", "session_id": session_id, "if_busy": "enqueue"}
    await world.client.post("/v1/sessions/execute", json={**body, **waiting}, headers=prefer)
    await world.client.get(f"/v1/sessions/{session_id}/events?after=2&wait=20")
    found = await lines(world, f"/v1/sessions/{session_id}/export")
    chunks = [line for line in found[1:] if line["type"] != "turn"]
    assert [c["position"] for c in chunks] == list(range(1, found[0]["position"] + 1))
    turns = [(t["turn"], t["status"]) for t in found if t["type"] == "turn"]
    assert turns == [(1, "running"), (2, "queued")]
    assert found[-1] == found[-1] | {"type": "turn", "turn": 2}
    await world.client.post(f"/v1/sessions/{session_id}/cancel")


async def test_events_with_everything_that_selects_them(world: World) -> None:
    for number in range(30):
        body = {"type": f"app.{'even' if number % 2 == 0 else 'odd'}", "data": {"n": number}}
        assert (await world.client.post("/v1/events", json=body)).status_code == 201
    everything = await lines(world, "/v1/events/export")
    listed = (await world.client.get("/v1/events?limit=1000")).json()["events"]
    assert everything == listed
    app = [event for event in everything if event["type"].startswith("app.")]
    assert [event["data"]["n"] for event in app] == list(range(30))
    path = "/v1/events/export?events=app.even"
    assert await lines(world, path) == [e for e in app if e["type"] == "app.even"]
    some = json.dumps({"n": [3, 4]})
    assert await lines(world, f"/v1/events/export?filters={some}") == app[3:5]
    since = f"since={app[9]['cursor']}"
    assert await lines(world, f"/v1/events/export?events=app.*&{since}") == app[10:]
    until = f"until={app[19]['cursor']}"
    assert await lines(world, f"/v1/events/export?events=app.*&{since}&{until}") == app[10:20]
    at = f"since={app[5]['created_at']}&until={app[8]['created_at']}"
    assert await lines(world, f"/v1/events/export?events=app.*&{at}") == app[5:8]
    assert await lines(world, "/v1/events/export?events=app.none") == []


async def test_bad_places(world: World) -> None:
    for query, status in (
        ("since=yesterday", 422),
        ("until=yesterday", 422),
        ("events=*.x.*.y.**", 422),
        ("filters=nonsense", 422),
        ("since=c_abc.5", 410),
        ("since=c_nonsense", 422),
    ):
        answer = await world.client.get(f"/v1/events/export?{query}")
        assert answer.status_code == status, query


async def test_who_may_export_what(world: World) -> None:
    anns = (await run(world, "count to 1", subject="ann"))["session_id"]
    nobodys = (await run(world, "count to 1"))["session_id"]
    ann, bob = await world.token(subject="ann"), await world.token(subject="bob")
    stranger = await world.stranger()
    for headers, seen in (
        (ann, {anns}),
        (bob, set()),
        (stranger, set()),
        (await world.token(session_id=anns), {anns}),
        (await world.token(agent_id="guide"), {anns, nobodys}),
        ({}, {anns, nobodys}),
    ):
        for session_id in (anns, nobodys):
            path = f"/v1/sessions/{session_id}/export"
            answer = await world.client.get(path, headers=headers)
            never = await world.client.get("/v1/sessions/sess_never/export", headers=headers)
            assert never.status_code == 404
            if session_id in seen:
                assert answer.status_code == 200
            else:
                told, said = never.json()["error"], answer.json()["error"]
                assert told | {"request_id": ""} == said | {"request_id": ""}
        exported = await lines(world, "/v1/events/export?events=session.*", **headers)
        assert {event["data"]["session_id"] for event in exported} == seen
    for path, scope in (
        (f"/v1/sessions/{anns}/export", "sessions:read"),
        ("/v1/events/export", "events:read"),
    ):
        allowed = await world.key(scope)
        refused = await world.key("sessions:write", "events:write", "files:read")
        assert (await world.client.get(path, headers=allowed)).status_code == 200
        assert (await world.client.get(path, headers=refused)).status_code == 403
