"""A POST whose stream broke off is sent again with `Last-Event-ID`, as common clients do by
themselves: the turn goes on, and never runs twice."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httpx
import pytest
from support.refusals import check_refusal
from support.server import ServerProcess
from support.wire import Frame, dense, streaming

EXECUTE = "/v1/sessions/execute"
STREAM = {"Accept": "text/event-stream"}


def body(goal: str) -> dict[str, Any]:
    return {"agent_id": "paced", "goal": goal, "context": {"count": 30, "pace": 60}}


async def turns_of(client: httpx.AsyncClient) -> int:
    """How many turns there ever were."""
    page = (await client.get("/v1/sessions?limit=500")).json()
    assert not page["has_more"]
    return sum(session["turns"] for session in page["data"])


async def cut(
    client: httpx.AsyncClient, path: str, said: dict[str, Any], headers: dict[str, str], after: int
) -> tuple[str, list[Frame]]:
    """The session, and what came of its stream before it was cut behind a position."""
    found: list[Frame] = []
    async with (
        asyncio.timeout(20),
        streaming(client, "POST", path, json=said, headers=STREAM | headers) as (head, frames),
    ):
        assert head.status_code == 200, head.text
        async for frame in frames:
            found.append(frame)
            if frame.position >= after:
                break
    return head.headers["x-session-id"], found


async def again(
    client: httpx.AsyncClient, path: str, said: dict[str, Any], headers: dict[str, str]
) -> list[Frame]:
    async with (
        asyncio.timeout(20),
        streaming(client, "POST", path, json=said, headers=STREAM | headers) as (head, frames),
    ):
        assert head.status_code in {200, 204}, head.text
        return [frame async for frame in frames]


@pytest.mark.parametrize("alias", ["", "/api"])
@pytest.mark.parametrize("names", ["key", "session in the body", "session in the path"])
async def test_the_turn_goes_on_where_the_stream_broke_off(
    server: ServerProcess, names: str, alias: str
) -> None:
    goal = secrets.token_hex(4)
    async with server.client() as client:
        before = await turns_of(client)
        path, said, headers = alias + EXECUTE, body(goal), {}
        if names == "key":
            headers = {"Idempotency-Key": goal}
        else:
            made = await client.post("/v1/sessions", json={"agent_id": "paced"})
            session = made.json()["session_id"]
            if names == "session in the body":
                said["session_id"] = session
            else:
                path = f"{alias}/v1/sessions/{session}/execute"
                del said["agent_id"]
        session, seen = await cut(client, path, said, headers, 7)
        last = headers | {"Last-Event-ID": str(seen[-1].position)}
        # The header wins over a place in the body, which is that of the first time.
        rest = await again(client, path, {**said, "resume_from": 1}, last)
        dense([*seen, *rest])
        assert rest[-1].body["status"] == "success"
        # From the start, at the end, and waiting for the answer instead.
        whole = await again(client, path, said, headers | {"Last-Event-ID": "0"})
        assert [f.data for f in whole] == [f.data for f in (*seen, *rest)]
        end = str(rest[-1].position)
        assert await again(client, path, said, headers | {"Last-Event-ID": end}) == []
        waited = await client.post(path, json=said, headers=last)
        assert (waited.status_code, waited.json()["session_id"]) == (200, session)
        assert waited.json()["output"] == rest[-1].body["output"]
        beyond = str(rest[-1].position + 1)
        check_refusal(
            await client.post(
                path, json=said, headers=STREAM | headers | {"Last-Event-ID": beyond}
            ),
            "INVALID_REQUEST",
        )
        assert await turns_of(client) == before + 1


@pytest.mark.parametrize("place", ["1", "7", "0", "x", "-1", "1.0", "99999999999", "c_abc.1"])
async def test_what_names_no_turn_and_what_is_no_position_is_refused(
    server: ServerProcess, place: str
) -> None:
    """And never a second turn, whatever else it says."""
    goal = secrets.token_hex(4)
    async with server.client() as client:
        session, _ = await cut(client, EXECUTE, body(goal), {}, 3)
        before = await turns_of(client)
        place_only = {"Last-Event-ID": place}
        unknown_key = place_only | {"Idempotency-Key": secrets.token_hex(8)}
        for headers in (place_only, unknown_key):
            for more in ({}, {"stream": True}, {"resume_from": 0}, {"if_busy": "enqueue"}):
                answer = await client.post(EXECUTE, json=body(goal) | more, headers=headers)
                check_refusal(answer, "INVALID_REQUEST")
                assert list(answer.json()["error"]["details"]["fields"]) == ["Last-Event-ID"]
        if not place.isdigit() or len(place) > 10:
            for path in (EXECUTE, f"/v1/sessions/{session}/execute"):
                said = body(goal) | {"session_id": session} if path == EXECUTE else {"goal": goal}
                check_refusal(
                    await client.post(path, json=said, headers=place_only), "INVALID_REQUEST"
                )
        else:
            other = {"goal": "another"}
            path = f"/v1/sessions/{session}/execute"
            check_refusal(await client.post(path, json=other, headers=place_only), "CONFLICT")
        assert await turns_of(client) == before


async def test_a_session_without_turns_has_none_to_join(server: ServerProcess) -> None:
    async with server.client() as client:
        made = await client.post("/v1/sessions", json={"agent_id": "paced"})
        path = f"/v1/sessions/{made.json()['session_id']}/execute"
        answer = await client.post(path, json={"goal": "x"}, headers={"Last-Event-ID": "0"})
        check_refusal(answer, "INVALID_REQUEST")
        # Empty is what an EventSource sends that has seen no id.
        answer = await client.post(
            path,
            json={"goal": "x", "context": {"count": 1}},
            headers={"Last-Event-ID": ""},
        )
        assert (answer.status_code, answer.json()["turn"]) == (200, 1)
