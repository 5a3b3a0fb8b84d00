"""MCP's client for Python, unmodified, in both generations of the protocol; and bare requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp.client import Client, ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult
from support.credentials import make_key, sync_client
from support.proxy import EvilProxy
from support.server import KEY, ServerProcess, bearer

pytestmark = pytest.mark.anyio
ONE_EACH = httpx2.Limits(max_keepalive_connections=0)
LEGACY, MODERN = "legacy", "2026-07-28"
WHOLE = "n-000001 n-000002 n-000003 n-000004 "


@asynccontextmanager
async def connected(url: str, mode: Any, **more: Any) -> AsyncIterator[Client]:
    headers = bearer()
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20, limits=ONE_EACH) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, **more) as client,
    ):
        yield client


async def ask(client: Client, agent: str, **arguments: Any) -> tuple[CallToolResult, str]:
    said: list[str] = []

    async def progress(_progress: float, _total: float | None, message: str | None) -> None:
        said.append(message or "")

    result = await client.call_tool(f"ask_{agent}", arguments, progress_callback=progress)
    return result, "".join(said)


def text(result: CallToolResult) -> str:
    text: str = result.content[0].text  # type: ignore[union-attr]
    return text


@pytest.mark.parametrize("mode", [LEGACY, "auto"])
async def test_python(server: ServerProcess, tmp_path: Path, mode: str) -> None:
    paid = tmp_path / "paid"

    async def approve(_context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        assert params.message.startswith("Pay it back?")
        return ElicitResult(action="accept", content={"approved": True})

    async with connected(server.url, mode, elicitation_callback=approve) as client:
        assert "ask_guide" in {tool.name for tool in (await client.list_tools()).tools}
        whole, said = await ask(client, "guide", goal="What is 12% of 250?")
        assert "= 30" in text(whole) and said == text(whole)
        failed, _ = await ask(client, "refusing", goal="go")
        assert failed.is_error and text(failed) == "the shop is closed"
        approved, _ = await ask(client, "refunds", goal="o", context={"paid": str(paid)})
        assert text(approved) == "Looking. Paid." and paid.read_text().count("\n") == 1
        with anyio.move_on_after(0.3):
            await ask(client, "paced", goal="s", context={"count": 1000, "pace": 20})
    with sync_client(server, headers=bearer()) as http:
        newest = "/v1/sessions?agent_id=paced&limit=1"
        while http.get(newest).json()["data"][0]["status"] != "cancelled":
            await anyio.sleep(0.02)


async def test_an_answer_that_breaks_off_goes_on(server: ServerProcess) -> None:
    modes = ["pass"]
    proxy = EvilProxy(server.port, lambda: modes[-1], Random(1))
    proxy.budget = lambda: 1_300
    async with proxy.running(), connected(proxy.url, LEGACY) as client:
        await client.list_tools()
        modes.append("cut")
        result, said = await ask(client, "paced", goal="n", context={"count": 4})
        assert (text(result), said) == (WHOLE, WHOLE)
        modes.append("pass")


# -- bare requests -------------------------------------------------------------------------


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    with sync_client(server, headers=bearer()) as client:
        yield client


def call(rpc_id: int, **arguments: Any) -> dict[str, Any]:
    params = {"name": "ask_guide", "arguments": {"goal": "count to 3", **arguments}}
    return {"jsonrpc": "2.0", "id": rpc_id, "method": "tools/call", "params": params}


def modern(body: dict[str, Any], **meta: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The body and the headers of a request of 2026-07-28."""
    said = {"protocolVersion": MODERN, "clientCapabilities": {}}
    named = {f"io.modelcontextprotocol/{name}": value for name, value in said.items()}
    params = {**body["params"], "_meta": {**named, **meta}}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": body["method"]}
    return {**body, "params": params}, {**headers, "Mcp-Name": params.get("name", "")}


def session_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    session: str = answer.text.rpartition('"session_id":"')[2].partition('"')[0]
    return session


def test_a_call_made_again_joins(http: httpx.Client) -> None:
    opened = http.post(
        "/mcp", json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
    )
    mine = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
    first, again, other = (http.post("/mcp", json=call(n), headers=mine) for n in (1, 1, 2))
    assert session_of(first) == session_of(again) != session_of(other)
    key = {"io.resonantgenesis/idempotencyKey": mine["Mcp-Session-Id"]}
    pair = [
        http.post("/mcp", json=body, headers=headers)
        for body, headers in (modern(call(n), **key) for n in (1, 2))
    ]
    assert session_of(pair[0]) == session_of(pair[1])


def test_a_question_without_its_answer_comes_again(http: httpx.Client) -> None:
    ask = call(1, goal="n")
    ask["params"]["name"] = "ask_questions"
    able = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
    body, headers = modern(ask, **able)

    def result(**more: Any) -> dict[str, Any]:
        asked = {**body, "params": {**body["params"], **more}}
        answer = http.post("/mcp", json=asked, headers=headers)
        found: dict[str, Any] = json.loads(answer.text.rpartition("data: ")[2])
        return found

    first = result()["result"]
    state = first["requestState"]
    assert (first["resultType"], len(first["inputRequests"])) == ("input_required", 3)
    again = result(requestState=state)["result"]
    assert again == first
    one, *others = first["inputRequests"]
    given = {one: {"action": "accept", "content": {"value": 7}}}
    assert result(requestState=state, inputResponses=given)["result"]["requestState"] == state
    given = {other: {"action": "accept", "content": {"value": 7}} for other in others}
    last = result(requestState=state, inputResponses=given)["result"]
    assert last["content"][0]["text"] == "7 7 7"
    refused = result(requestState=state.replace("/1", "/99"))
    assert refused["error"]["code"] == -32602


def test_versions(http: httpx.Client) -> None:
    body, headers = modern({"method": "server/discover", "jsonrpc": "2.0", "id": 1, "params": {}})
    found = http.post("/mcp", json=body, headers=headers).json()["result"]
    assert found["supportedVersions"][0] == MODERN and found["resultType"] == "complete"
    odd = http.post("/mcp", json=body, headers=headers | {"Mcp-Method": "ping"})
    assert (odd.status_code, odd.json()["error"]["code"]) == (400, -32020)
    late = http.post("/mcp", json=call(1), headers={"MCP-Protocol-Version": "2099-01-01"})
    assert (late.status_code, late.json()["error"]["code"]) == (400, -32022)
    gone, headers = modern({"method": "initialize", "jsonrpc": "2.0", "id": 1, "params": {}})
    assert http.post("/mcp", json=gone, headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("http://localhost:6274", 200), (None, 200)],
)
def test_pages_of_other_origins(http: httpx.Client, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": origin, "Host": origin.partition("://")[2]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert http.post("/mcp", json=body, headers=headers).status_code == status


def test_an_origin_that_is_no_address(http: httpx.Client) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert http.post("/mcp", json=body, headers={"Origin": "http://["}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [[], 1, {}, {"jsonrpc": "2.0", "id": [], "method": "ping"}, {"jsonrpc": "2.0", "id": 1}],
)
def test_what_is_no_message(http: httpx.Client, body: object) -> None:
    answer = http.post("/mcp", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)


@pytest.mark.parametrize("place", ["1", "sess_a.1/1/", "sess_00000000000000000000.1/1/WzEsMSwxXQ"])
def test_places_that_never_were(http: httpx.Client, place: str) -> None:
    assert http.get("/mcp", headers={"Last-Event-ID": place}).status_code == 404
    assert http.get("/mcp").status_code == 405


def test_a_key_that_ends_is_no_end_of_the_answer(http: httpx.Client) -> None:
    key = make_key(http, "*", credential=KEY)
    body = call(1, context={"count": 1000, "pace": 20})
    body["params"]["name"] = "ask_paced"
    with (
        http.stream("POST", "/mcp", json=body, headers=bearer(key.key)) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        for number, _ in enumerate(answer.iter_bytes()):
            if not number:
                assert http.delete(f"/v1/keys/{key.id}").status_code == 204
