"""MCP's client for Python, unmodified, in both generations of the protocol; and bare requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

import anyio
import httpx
import httpx2
import pytest
from mcp.client import Client, ClientRequestContext
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, Request, Result
from pydantic import ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel
from support.credentials import make_key, make_tenant, sync_client
from support.proxy import EvilProxy
from support.server import KEY, ServerProcess, bearer

pytestmark = pytest.mark.anyio
ONE_EACH = httpx2.Limits(max_keepalive_connections=0)
LEGACY, MODERN = "legacy", "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"
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


class TaskSeed(Result):
    model_config = ConfigDict(extra="allow", alias_generator=to_camel)
    result_type: Literal["task"] = "task"
    task_id: str


class TaskRequest(Request[dict[str, Any], str]):
    name_param: ClassVar[str | None] = "taskId"
    method: str
    params: dict[str, Any]


class TasksExtension(ClientExtension):
    """The extension as its specification has it: polls, and approves what is asked."""

    identifier = TASKS

    def __init__(self) -> None:
        self.seen: list[str] = []

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=TaskSeed, resolve=self.resolve)]

    async def resolve(self, seed: TaskSeed, context: ClaimContext) -> CallToolResult:
        async def ask(method: str, **more: Any) -> dict[str, Any]:
            request = TaskRequest(method=method, params={"taskId": seed.task_id, **more})
            found = await context.session.send_request(request, TypeAdapter(dict[str, Any]))
            assert found["resultType"] == "complete"
            return found

        while True:
            task = await ask("tasks/get")
            self.seen.append(task["status"])
            if task["status"] == "completed":
                return CallToolResult.model_validate(task["result"])
            yes = {"action": "accept", "content": {"approved": True}}
            for call_id in task.get("inputRequests", ()):
                assert await ask("tasks/update", inputResponses={call_id: yes})
            await anyio.sleep(0.02)


async def test_tasks_of_the_extension(server: ServerProcess, tmp_path: Path) -> None:
    paid, tasks = tmp_path / "paid", TasksExtension()

    async def never(_context: ClientRequestContext, _params: ElicitRequestParams) -> ElicitResult:
        raise AssertionError("a task asks in its own way")

    extended = {"extensions": [tasks], "elicitation_callback": never}
    async with connected(server.url, "auto", **extended) as client:
        whole, _ = await ask(client, "guide", goal="count to 3")
        assert text(whole) == "1 2 3" and tasks.seen[-1] == "completed"
        approved, _ = await ask(client, "refunds", goal="o", context={"paid": str(paid)})
        assert text(approved) == "Looking. Paid." and paid.read_text().count("\n") == 1
        assert "input_required" in tasks.seen
        failed, _ = await ask(client, "refusing", goal="go")
        assert failed.is_error and text(failed) == "the shop is closed"


async def test_sessions_are_watched(server: ServerProcess, http: httpx.Client) -> None:
    session = session_of(http.post("/mcp", json=call(1)))
    uri = f"resonantgenesis://sessions/{session}"
    async with connected(server.url, "auto") as client:
        messages = json.loads((await client.read_resource(uri)).contents[0].text)["messages"]  # type: ignore[union-attr]
        assert [each["role"] for each in messages] == ["user", "assistant"]
        async with client.listen(resource_subscriptions=[uri, uri + "0"]) as heard:
            assert heard.honored.resource_subscriptions == [uri]
            await ask(client, "guide", goal="count to 1", session_id=session)
            with anyio.fail_after(10):
                assert await anext(heard) == ResourceUpdated(uri)
    updated = anyio.Event()

    async def hear(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            assert str(message.params.uri) == uri
            updated.set()

    async with connected(server.url, LEGACY, message_handler=hear) as client:
        with pytest.warns(MCPDeprecationWarning):
            await client.session.subscribe_resource(uri)
        await ask(client, "guide", goal="count to 1", session_id=session)
        with anyio.fail_after(10):
            await updated.wait()


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


OLDER = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": "mcp_00000000000000000001"}


def ask_for(http: httpx.Client, method: str, **params: Any) -> dict[str, Any]:
    """The result of a request of 2025-11-25, or its error."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = http.post("/mcp", json=body, headers=OLDER).json()
    found: dict[str, Any] = answer.get("result", answer.get("error"))
    return found


def pushed(http: httpx.Client, count: int, **headers: str) -> list[tuple[str, dict[str, Any]]]:
    """The next messages of the MCP session's own stream, each with its place."""
    found: list[tuple[str, dict[str, Any]]] = []
    with http.stream("GET", "/mcp", headers={**OLDER, **headers}) as answer:
        assert answer.status_code == 200
        place = ""
        for line in answer.iter_lines():
            if line.startswith("id: "):
                place = line[4:]
            elif line.startswith("data:"):
                found.append((place, json.loads(line[5:] or "{}")))
                if len(found) == count:
                    return found
    raise AssertionError("the stream ended")


def test_updates_go_on_behind_the_last_one(http: httpx.Client) -> None:
    session = session_of(http.post("/mcp", json=call(1)))
    uri = f"resonantgenesis://sessions/{session}"
    assert ask_for(http, "resources/subscribe", uri=uri) == {}
    ((place, _),) = pushed(http, 1)  # before there is an update
    session_of(http.post("/mcp", json=call(2, session_id=session)))
    started, ended = pushed(http, 3, **{"Last-Event-ID": place})[1:]
    assert [each[1]["params"]["uri"] for each in (started, ended)] == [uri, uri]
    (again,) = pushed(http, 2, **{"Last-Event-ID": started[0]})[1:]
    assert again == ended
    assert ask_for(http, "resources/unsubscribe", uri=uri) == {}


def test_nobody_reads_or_watches_what_is_not_theirs(server: ServerProcess) -> None:
    with sync_client(server, headers=bearer()) as http:
        session = session_of(http.post("/mcp", json=call(1)))
        stranger = make_tenant(http, "strangers")
        reader = make_key(http, "sessions:read", credential=KEY)
    task, uri = f"{session}.1", f"resonantgenesis://sessions/{session}"
    with sync_client(server, headers=stranger.headers) as http:
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            for name in (task, f"{session}.2", "x" * 5_000, "\x00", 1, None, [task]):
                assert ask_for(http, method, taskId=name)["code"] == -32602
        for method in ("resources/read", "resources/subscribe"):
            for name in (uri, uri + "/x", "file:///etc/passwd", "x" * 5_000, 1, None, {}):
                assert ask_for(http, method, uri=name)["code"] == -32002
        assert ask_for(http, "tasks/list")["tasks"] == []
        assert ask_for(http, "resources/list")["resources"] == []
        wanted = {"taskIds": [task], "resourceSubscriptions": [uri, 1]}
        assert heeded(http, wanted) == {}
    with sync_client(server, headers=bearer(reader.key)) as http:
        assert ask_for(http, "tasks/get", taskId=task)["status"] == "completed"
        body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/cancel", "params": {"taskId": task}}
        assert http.post("/mcp", json=body, headers=OLDER).status_code == 403
        assert heeded(http, {"toolsListChanged": True, "taskIds": [task]}) == {"taskIds": [task]}


def listening(notifications: object) -> tuple[dict[str, Any], dict[str, str]]:
    able = {"extensions": {TASKS: {}}}
    body = {"jsonrpc": "2.0", "id": "l", "method": "subscriptions/listen"}
    said = {**body, "params": {"notifications": notifications}}
    return modern(said, **{"io.modelcontextprotocol/clientCapabilities": able})


def heeded(http: httpx.Client, notifications: object) -> dict[str, Any]:
    body, headers = listening(notifications)
    with http.stream("POST", "/mcp", json=body, headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                params = json.loads(line[6:])["params"]
                assert params["_meta"] == {"io.modelcontextprotocol/subscriptionId": "l"}
                found: dict[str, Any] = params["notifications"]
                return found
    raise AssertionError("the stream ended")


def test_floods_of_subscriptions_are_refused(http: httpx.Client) -> None:
    for wanted in ({"taskIds": ["x"] * 65}, {"resourceSubscriptions": "all"}, None, []):
        body, headers = listening(wanted)
        answer = http.post("/mcp", json=body, headers=headers)
        assert answer.json()["error"]["code"] == -32602
    bare = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {}}
    bare["params"] = {"notifications": {"taskIds": ["x"]}}
    body, headers = modern(bare)
    assert http.post("/mcp", json=body, headers=headers).json()["error"]["code"] == -32021
    made = [http.post("/v1/sessions", json={"agent_id": "guide"}).json() for _ in range(65)]
    uris = [f"resonantgenesis://sessions/{each['session_id']}" for each in made]
    answers = [ask_for(http, "resources/subscribe", uri=uri) for uri in uris]
    assert answers[:64] == [{}] * 64 and answers[64]["code"] == -32602
    # A session that is gone leaves its place.
    assert http.delete(f"/v1/sessions/{made[0]['session_id']}").status_code == 204
    for uri in (uris[0], "file:///etc/passwd", None):
        assert ask_for(http, "resources/unsubscribe", uri=uri) == {}
    assert ask_for(http, "resources/subscribe", uri=uris[64]) == {}


@pytest.mark.parametrize("given", ["mine", "mcp_mine", "mcp_" + "x" * 2_000, "0" * 24, "mcp_é"])
def test_mcp_sessions_that_never_were(http: httpx.Client, given: str) -> None:
    headers: list[tuple[str, bytes]] = [("Mcp-Session-Id", given.encode())]
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    posted = http.post("/mcp", json=body, headers=headers)
    assert (posted.status_code, posted.json()["id"]) == (404, 1)
    assert "initialize" in posted.json()["error"]["message"]
    for answer in (http.get("/mcp", headers=headers), http.delete("/mcp", headers=headers)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    # A client may begin another with the id that it had.
    opened = http.post("/mcp", json=body | {"method": "initialize"}, headers=headers)
    assert opened.status_code == 200
    mine = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
    assert http.post("/mcp", json=body, headers=mine).json()["result"] == {}
    assert http.delete("/mcp", headers=mine).status_code == 204


def test_tools_of_teams_have_names_to_read(http: httpx.Client) -> None:
    """The agent's name and the beginning of its id, which goes on to name it when it is renamed."""
    team = {"strategy": "sequential", "members": [{"agent_id": "guide"}]}
    names = ("Shop: front & back", "Shop: front & back", "店")
    made = [http.post("/v1/teams", json={"name": name, **team}).json()["id"] for name in names]
    listed = {tool["title"]: tool["name"] for tool in ask_for(http, "tools/list")["tools"][4:]}
    ids = [name.removeprefix("team_")[:8] for name in made]
    assert listed[names[0]] in {f"ask_shop_front_back_{name}" for name in ids[:2]}
    assert listed["店"] == f"ask_team_{ids[2]}"
    http.patch(f"/v1/teams/{made[0]}", json={"name": "Renamed"})
    body = call(1, goal="count to 2")
    for name in (f"ask_shop_front_back_{ids[0]}", f"ask_renamed_{ids[0]}", f"ask_{made[0]}"):
        body["params"]["name"] = name
        assert '"output":"1 2"' in http.post("/mcp", json=body).text
    for name in ("ask_renamed_00000000", "ask_", "ask_" + "x" * 5_000, "ask_\x00"):
        body["params"]["name"] = name
        assert http.post("/mcp", json=body).json()["error"]["code"] == -32602
