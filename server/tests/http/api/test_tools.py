"""`GET /v1/tools`, and what agents and executes may name."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from resonantgenesis_server.agents.tools.settings import ToolSettings
from resonantgenesis_server.app import open_parts
from resonantgenesis_server.config.settings import Settings

pytestmark = pytest.mark.anyio

KEY = "rg_test_tools_key_0123456789"
TINY = Path(__file__).parents[4] / "tests" / "support" / "mcp_tiny.py"
BUILT_IN = ["calculator", "current_time", "docs_search", "fetch_url", "web_search"]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    tools = ToolSettings.model_validate(
        {
            "mcp": {
                "tiny": {"command": [sys.executable, str(TINY), "normal"]},
                "gone": {"command": ["/nowhere/at/all"]},
            },
            "functions": {"cwd": "os:getcwd"},
            "timeouts": {"cwd": 3},
            "approvals": ["fetch_url", "tiny__*"],
        }
    )
    settings = Settings(data=tmp_path, bootstrap_key=KEY, tools=tools)
    async with open_parts(settings) as parts:
        transport = httpx.ASGITransport(parts.app)
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://testserver",
            headers={"Authorization": f"Bearer {KEY}"},
        ) as made:
            yield made


async def make_agent(client: httpx.AsyncClient, tools: list[str]) -> httpx.Response:
    body = {"id": "a", "name": "A", "engine": "guide", "tools": tools}
    return await client.post("/v1/agents", json=body)


async def execute(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post(
        "/v1/sessions/execute", json={"agent_id": "guide", "goal": "1 + 1", **body}
    )


def refusal(answer: httpx.Response) -> str:
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "INVALID_REQUEST"
    return str(error["details"]["fields"]["tools"])


async def test_the_tools_there_are(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/tools")
    assert answer.status_code == 200
    page = answer.json()
    assert (page["next_cursor"], page["has_more"]) == (None, False)
    tools = {tool["name"]: tool for tool in page["data"]}
    assert list(tools) == [*BUILT_IN, "cwd", "tiny__say", "tiny__end"]
    asking = {name: tool["needs_approval"] for name, tool in tools.items()}
    assert (asking["fetch_url"], asking["tiny__say"], asking["cwd"]) == (True, True, False)
    assert tools["calculator"] == {
        "name": "calculator",
        "description": tools["calculator"]["description"],
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "maxLength": 500}},
            "required": ["expression"],
            "additionalProperties": False,
        },
        "source": "built-in",
        "server": None,
        "timeout_seconds": 30.0,
        "needs_approval": False,
        "problem": None,
    }
    assert "set tools.search.provider" in tools["web_search"]["problem"]
    assert (tools["cwd"]["source"], tools["cwd"]["timeout_seconds"]) == ("function", 3.0)
    assert (tools["tiny__say"]["source"], tools["tiny__say"]["server"]) == ("mcp", "tiny")
    assert tools["tiny__say"]["parameters"]["properties"] == {"text": {"type": "string"}}
    said = "MCP server gone is not available: it cannot be started or reached"
    assert page["unavailable"] == [{"server": "gone", "problem": said}]


async def test_who_may_see_them(client: httpx.AsyncClient) -> None:
    for scope, status in (("agents:read", 200), ("sessions:read", 403)):
        made = await client.post("/v1/keys", json={"name": "k", "scopes": [scope]})
        headers = {"Authorization": f"Bearer {made.json()['key']}"}
        assert (await client.get("/v1/tools", headers=headers)).status_code == status
    nobody = await client.get("/v1/tools", headers={"Authorization": "Bearer none"})
    assert nobody.status_code == 401


async def test_an_agent_may_name_them(client: httpx.AsyncClient) -> None:
    names = ["calculator", "cwd", "tiny__say", "tiny__*", "gone__whatever"]
    assert (await make_agent(client, names)).json()["tools"] == names
    changed = await client.patch("/v1/agents/a", json={"tools": ["docs_search"]})
    assert changed.json()["tools"] == ["docs_search"]
    cleared = await client.patch("/v1/agents/a", json={"tools": None})
    assert cleared.json()["tools"] is None


async def test_an_agent_may_not_name_others(client: httpx.AsyncClient) -> None:
    known = ", ".join([*BUILT_IN, "cwd", "tiny__*", "tiny__say", "tiny__end", "gone__*"])
    said = refusal(await make_agent(client, ["calculator", "nope", "tiny__nope"]))
    assert said == f"unknown: 'nope', 'tiny__nope'; there are: {known}"
    assert "set tools.search.provider" in refusal(await make_agent(client, ["web_search"]))
    assert (await client.get("/v1/agents/a")).status_code == 404
    assert (await make_agent(client, [])).status_code == 201
    assert "'nope'" in refusal(await client.patch("/v1/agents/a", json={"tools": ["nope"]}))
    assert (await client.get("/v1/agents/a")).json()["tools"] == []


async def test_an_execute_may_name_them_and_not_others(client: httpx.AsyncClient) -> None:
    answer = await execute(client, tools=["calculator", "tiny__*"])
    assert answer.json()["output"].endswith("1 + 1 = 2\n")
    assert "unknown: 'nope'" in refusal(await execute(client, tools=["nope"]))
    session = answer.json()["session_id"]
    assert "unknown: 'nope'" in refusal(
        await execute(client, session_id=session, tools=["nope", "calculator"])
    )
    headers = {"Idempotency-Key": "once"}
    body = {"agent_id": "guide", "goal": "1 + 1", "tools": ["nope"]}
    refused = await client.post("/v1/sessions/execute", json=body, headers=headers)
    assert refused.status_code == 422
    body["tools"] = ["calculator"]  # a refusal does not use the key up
    accepted = await client.post("/v1/sessions/execute", json=body, headers=headers)
    assert accepted.status_code == 200
