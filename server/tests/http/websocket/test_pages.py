"""Pages end after some bytes, whatever they are of; who pages on gets everything, once."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from resonantgenesis_server.model.limits import MIB, PAGE_BYTES
from ws_harness import Server

pytestmark = pytest.mark.anyio

#: Of one item; a page's last may be over the bound by one, and by what is around it.
LARGE = 200 * 1024
MOST = PAGE_BYTES + LARGE + 64 * 1024


async def all_of(server: Server, path: str, items: str = "data") -> tuple[list[Any], list[int]]:
    """Everything, page by page, and the bytes of each page."""
    found: list[Any] = []
    sizes: list[int] = []
    cursor = ""
    while True:
        answer = await server.http.get(path + cursor)
        assert answer.status_code == 200, answer.text
        sizes.append(len(answer.content))
        page = answer.json()
        found += page[items]
        assert page[items] or items == "events", "a page that makes no progress"
        if not page["has_more"]:
            return found, sizes
        cursor = f"&cursor={page['next_cursor']}"
        assert len(sizes) < 100


async def test_lists_of_what_is_large(server: Server) -> None:
    text = "é" * (LARGE // 2)
    for number in range(25):
        made = await server.http.post(
            "/v1/sessions", json={"agent_id": "many", "metadata": {"text": text, "n": number}}
        )
        assert made.status_code == 201, made.text
        agent = {"name": f"a{number}", "engine": "guide", "instructions": "i" * 60_000}
        assert (await server.http.post("/v1/agents", json=agent)).status_code == 201
    sessions, sizes = await all_of(server, "/v1/sessions?limit=500")
    assert [session["metadata"]["n"] for session in sessions] == list(reversed(range(25)))
    assert len(sizes) == 3 and max(sizes) <= MOST
    few, sizes = await all_of(server, "/v1/sessions?limit=7")
    assert few == sessions and len(sizes) == 4
    agents, sizes = await all_of(server, "/v1/agents?limit=500")
    assert {agent["name"] for agent in agents} >= {f"a{n}" for n in range(25)}
    assert len({agent["id"] for agent in agents}) == len(agents)
    assert max(sizes) <= MOST


async def test_events_that_are_large(server: Server) -> None:
    kinds = [(f"app.n{number}", {"text": "x" * LARGE, "n": number}) for number in range(40)]
    for start in range(0, 40, 4):
        await server.publish_many(kinds[start : start + 4])
    found, sizes = await all_of(server, "/v1/events?events=app.*&limit=1000", "events")
    assert [event["data"]["n"] for event in found] == list(range(40))
    assert len(sizes) == 4 and max(sizes) <= MOST
    body: dict[str, Any] = {"since": "2020-01-01", "events": ["app.*"], "limit": 1_000}
    replayed: list[Any] = []
    while True:
        answer = await server.http.post("/v1/events/replay", json=body)
        assert len(answer.content) <= MOST
        page = answer.json()
        replayed += page["events"]
        body["cursor"] = page["next_cursor"]
        if not page["has_more"]:
            break
    assert replayed == found
    # What is not wanted is not kept while it is looked through.
    tracemalloc.start()
    try:
        none, _ = await all_of(server, "/v1/events?events=app.none&limit=1000", "events")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert none == [] and peak < 16 * MIB


async def test_chunks_that_are_large(server: Server) -> None:
    ref = await server.execute("many", "30", context={"size": 200_000})
    await server.finished(ref["session_id"])
    path = f"/v1/sessions/{ref['session_id']}/events?limit=5000&after="
    found: list[Any] = []
    pages = 0
    while True:
        answer = await server.http.get(f"{path}{len(found)}")
        assert len(answer.content) <= PAGE_BYTES + MIB + 300 * 1024  # the last is the whole text
        page = answer.json()
        pages += 1
        found += page["events"]
        assert page["position"] == len(found)
        assert page["done"] is (found[-1]["type"] == "done")
        if page["done"]:
            break
    assert [chunk["position"] for chunk in found] == list(range(1, len(found) + 1))
    assert pages in {3, 4, 5} and found[-1]["status"] == "success"
