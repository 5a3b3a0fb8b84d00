"""Clients that go on from a frame: their place may be anywhere, also where nothing is yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.credentials import sync_client
from support.server import ServerProcess, bearer


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """On one connection, so that what is left of an answer would spoil the next."""
    limits = httpx.Limits(max_connections=1)
    with sync_client(server, headers=bearer(), limits=limits) as made:
        yield made


def frames(text: str) -> list[str]:
    return [each for each in text.split("\n\n") if "data: " in each]


def body(chat: str, **context: object) -> dict[str, Any]:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "word"}]}
    return {"id": chat, "messages": [message], "context": context}


def test_a_place_behind_the_end_of_an_answer(client: httpx.Client) -> None:
    whole = client.post("/v1/agents/paced/chat", json=body("ended", count=3))
    run, every = whole.headers["x-workflow-run-id"], frames(whole.text)
    chat, response = "/v1/agents/paced/chat/ended/stream", f"/openai/v1/responses/resp_{run}"
    events = frames(client.get(response, params={"stream": "true"}).text)
    for index in (len(every) - 1, len(every), len(every) + 1, 10_000):
        again = client.get(chat, params={"startIndex": index})
        assert frames(again.text) == every[index:]
        after = client.get(response, params={"stream": "true", "starting_after": index})
        assert frames(after.text) == events[index + 1 :]


def test_a_place_that_a_running_answer_reaches_later(server: ServerProcess) -> None:
    with (
        sync_client(server, headers=bearer()) as client,
        sync_client(server, headers=bearer()) as other,
        client.stream("POST", "/v1/agents/paced/chat", json=body("runs", count=40, pace=30)) as all,
    ):
        pieces = all.iter_text()
        text = next(pieces)
        while "word-000005" not in text:
            text += next(pieces)
        again = other.get("/v1/agents/paced/chat/runs/stream", params={"startIndex": 30})
        every = frames(text + "".join(pieces))
    assert len(every) > 40 and frames(again.text) == every[30:]


@pytest.mark.anyio
async def test_viewers_that_share_an_encoder_end_with_the_same_events(
    server: ServerProcess,
) -> None:
    """All but the first leave the group with a copy of its state: events are counted over it."""
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=60) as client:
        context = {"pace": 20, "count": 30}
        asked = {"agent_id": "paced", "goal": "go", "context": context}
        prefer = {"Prefer": "respond-async"}
        made = (await client.post("/v1/sessions/execute", json=asked, headers=prefer)).json()
        path = f"/openai/v1/responses/resp_{made['session_id']}.1?stream=true"

        async def events() -> list[str]:
            text = (await client.get(path)).text
            return [line for line in text.splitlines() if line.startswith("data: ")]

        live = await asyncio.gather(*(events() for _ in range(4)))
        after = await events()
    assert all(each == after for each in live)
    assert len(after) > 20
