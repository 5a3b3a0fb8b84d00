"""Limits that an agent carries itself."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.server import Serve, ServerProcess

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


async def execute(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post("/v1/sessions/execute", json=body, timeout=20)
    return dict(answer.json())


async def test_the_server_keeps_to_it_and_shows_it(serve: Serve) -> None:
    server = serve(
        agents={"bounded": "support.agents:bounded", "configured": "support.agents:bounded"},
        agent_limits='{"configured": {"timeout_seconds": 0.1, "concurrency": 3}}',
    )
    async with server.client() as http:
        shown = (await http.get("/v1/agents/bounded")).json()
        assert shown["defaults"] == {"timeout_seconds": 0.2, "max_steps": 2, "concurrency": 1}
        assert (shown["description"], shown["input_schema"]) == ("waits", SCHEMA)
        other = (await http.get("/v1/agents/configured")).json()
        assert other["defaults"] == {"timeout_seconds": 0.1, "max_steps": 2, "concurrency": 3}
        soon = await execute(http, agent_id="configured", goal="wait")
        assert "longer than 0.1 s" in soon["error"]["message"]
        refused = await http.patch("/v1/agents/bounded", json={"defaults": {"max_steps": 9}})
        assert refused.status_code == 409
        assert "decorator" in refused.json()["error"]["message"]
        late = await execute(http, agent_id="bounded", goal="wait")
        assert late["error"]["code"] == "TIMEOUT"
        assert late["error"]["message"].endswith("raise timeout_seconds")
        steps = await execute(http, agent_id="bounded", goal="step")
        assert steps["error"]["code"] == "MAX_STEPS"
        assert steps["error"]["message"].endswith("raise max_steps")


async def test_an_agent_of_the_api_has_its_number_too(
    server: ServerProcess,
) -> None:
    async with server.client() as http:
        agent = {"id": "few", "name": "Few", "engine": "guide", "defaults": {"concurrency": 1}}
        made = await http.post("/v1/agents", json=agent)
        assert made.json()["defaults"] == {"concurrency": 1}
        answers = [await execute(http, agent_id="few", goal="count to 3") for _ in range(2)]
    assert [answer["output"] for answer in answers] == ["1 2 3"] * 2
