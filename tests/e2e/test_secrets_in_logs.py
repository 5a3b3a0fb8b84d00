"""Servers are asked with every kind of credential, in every way; no log shows one. What belongs
to a request or a turn says so."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import websockets
from support.server import KEY, Serve, ServerProcess, bearer
from support.wire import raw_stream

pytestmark = pytest.mark.anyio

PROVIDER = "sk-proj-0123456789abcdefProvider"
CONFIGURED = "anthropic!key+in/the=configuration"
METRICS = "metrics-token-0123456789"
SEARCH = "searching-key-0123456789"
#: Nobody's: a client that is set up for another server.
FOREIGN = "sk-ant-0123456789abcdefForeign"


async def credentials(client: httpx.AsyncClient) -> dict[str, str]:
    """One of each kind that the server itself gives out."""
    made = await client.post("/v1/keys", json={"name": "k", "scopes": ["*"]})
    token = await client.post("/v1/tokens", json={"scopes": ["*"], "cookie": True})
    assert (made.status_code, token.status_code) == (201, 201), (made.text, token.text)
    return {"key": made.json()["key"], "token": token.json()["token"]}


async def turn(client: httpx.AsyncClient, agent: str, credential: str) -> dict[str, Any]:
    body = {"agent_id": agent, "goal": credential}
    answer = await client.post("/v1/sessions/execute", json=body, headers=bearer(credential))
    result: dict[str, Any] = answer.json()
    return result


async def ask_badly(server: ServerProcess, client: httpx.AsyncClient, credential: str) -> None:
    """Refused requests with the credential in each place where one was ever put."""
    for headers in (
        bearer(credential + "x"),
        {"Authorization": f"Basic {credential}"},
        {"Authorization": credential},
        {"Cookie": f"rg_token={credential}"},
    ):
        await client.get("/v1/agents", headers=headers)
    for path in (
        f"/v1/agents/{credential}",
        f"/v1/sessions/{credential}/stream?api_key={credential}",
        f"/nowhere/{credential}?token={credential}",
        f"/metrics?token={credential}",
    ):
        await client.get(path, headers=bearer(credential))
    bad_body = f'{{"agent_id": "guide", "goal": "{credential}", "x": '
    await client.post("/v1/sessions/execute", content=bad_body, headers=bearer(credential))
    line = f"GET /v1/agents?key={credential} HTTP/9.9\r\nAuthorization: Bearer {credential}\r\n\r\n"
    reader, writer = await raw_stream(server, line.encode())
    await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def over_a_socket(server: ServerProcess, credential: str) -> None:
    url = server.url.replace("http", "ws") + f"/v1/ws?token={credential}"
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"type": "auth", "token": credential}))
        await socket.send(json.dumps({"type": credential, "id": credential}))
        await asyncio.wait_for(socket.recv(), 10)


@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_log_shows_a_secret(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", PROVIDER)
    server = serve(
        may_complain=True,
        agents={"leaky": "support.leaky:leaky"},
        log_level="debug",
        log_format="json",
        metrics_token=METRICS,
        tools__search__provider="brave",
        tools__search__api_key=SEARCH,
        llm__api_keys=json.dumps({"anthropic": CONFIGURED}),
    )
    if form == "text":
        port = server.port
        server.stop()
        server._settings["log_format"] = "text"
        server.launch(port)
    async with server.client(headers={}) as client:
        await until_ready(client)
        async with server.client() as owner:
            secrets = {"bootstrap": KEY, **await credentials(owner)}
        for credential in secrets.values():
            done = await turn(client, "leaky", credential)
            assert done["status"] == "failed"
            assert PROVIDER not in json.dumps(done["error"])
        for credential in (*secrets.values(), METRICS, SEARCH, CONFIGURED, PROVIDER, FOREIGN):
            await ask_badly(server, client, credential)
            await over_a_socket(server, credential)
        allowed = await client.get("/metrics", headers=bearer(METRICS))
        assert allowed.status_code == 200
    server.stop()
    log = server.log_path.read_text(errors="replace")
    assert "agent failed" in log
    assert "Incorrect API key provided: ********" in log
    assert "request refused" in log
    for name, secret in {
        **secrets,
        "metrics": METRICS,
        "search": SEARCH,
        "configured": CONFIGURED,
        "provider": PROVIDER,
        "foreign": FOREIGN,
    }.items():
        assert secret not in log, name
        assert json.dumps(secret)[1:-1] not in log, name


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


async def test_lines_say_what_they_belong_to(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", PROVIDER)
    server = serve(may_complain=True, agents={"leaky": "support.leaky:leaky"}, log_level="debug")
    async with server.client() as client:
        keys = (await client.get("/v1/keys")).json()["data"]
        first = await client.post(
            "/v1/sessions/execute",
            json={"agent_id": "leaky", "goal": "one"},
            headers={"X-Request-Id": "first-request"},
        )
        session_id = first.json()["session_id"]
        body = {"agent_id": "leaky", "goal": "two", "session_id": session_id}
        await client.post(
            "/v1/sessions/execute", json=body, headers={"X-Request-Id": "second-request"}
        )
        refused = await client.get("/v1/agents/none")
    said = server.logged("request refused")  # the last line
    mine = [line for line in server.records() if line.get("session") == session_id]
    for event in ("agent failed", "turn ended"):
        found = [line for line in mine if line["event"] == event]
        assert [line["turn"] for line in found] == [1, 2], event
        assert [line["request_id"] for line in found] == ["first-request", "second-request"]
        assert {line["key_id"] for line in found} == {keys[0]["id"]}, event
    foreign = [line for line in server.records() if line["event"].startswith("refused: ")]
    assert [line["request_id"] for line in foreign] == ["first-request", "second-request"]
    assert {line["logger"] for line in foreign} == {"provider"}
    assert said[-1]["request_id"] == refused.headers["x-request-id"]
    assert (said[-1]["code"], said[-1]["key_id"]) == ("AGENT_NOT_FOUND", keys[0]["id"])
