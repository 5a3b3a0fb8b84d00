"""The SDK's calls for operators against the real server: organizations, other endpoints."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis import (
    AuthenticationError,
    ConnectionLost,
    NotFound,
    ResonantGenesis,
    SyncResonantGenesis,
)
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio


async def test_an_organizations_life(server: ServerProcess) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as operator:
        made = await operator.organizations.create("Acme", key_name="main")
        assert made.name == "Acme" and made.disabled_at is None
        assert made.key is not None and made.key.name == "main" and made.key.key
        assert made.key.key not in repr(made)
        assert made.id in [one.id for one in await operator.organizations.list(limit=100)]
        renamed = await operator.organizations.update(made.id, name="Acme Ltd")
        assert renamed == await operator.organizations.get(made.id) and renamed.key is None
        key = await operator.organizations.create_key(made.id, "second", ["*"], expires_in=600)
        assert key.key and key.expires_at
        async with ResonantGenesis(api_key=key.key, base_url=server.url) as tenant:
            assert await tenant.sessions.list() is not None
            assert (await operator.organizations.update(made.id, disabled=True)).disabled_at
            with pytest.raises(AuthenticationError):
                await tenant.sessions.list()
        with pytest.raises(NotFound):
            await operator.organizations.get("org_none")


async def test_the_nodes(server: ServerProcess) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as operator:
        (node,) = await operator.nodes.list()
        assert node.id.startswith("node_") and node.name and node.version and node.started_at
        assert (node.running_turns, node.queued_turns, node.open_streams) == (0, 0, 0)
    with SyncResonantGenesis(api_key=KEY, base_url=server.url) as client:
        assert [one.id for one in client.nodes.list()] == [node.id]
        ready = client.request("GET", "/readyz")
        assert ready == {"status": "ok", "durability": "fsync per group commit"}


async def test_an_endpoint_without_a_method(server: ServerProcess) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        assert (await client.request("GET", "/readyz"))["status"] == "ok"
        tools = await client.request("get", "/v1/tools", params={"limit": None})
        assert {"name", "parameters"} <= tools["data"][0].keys()
        body = {"type": "app.raw", "data": {"n": 1}}
        first = await client.request("POST", "/v1/events", body=body, idempotency_key="raw-1")
        again = await client.request("POST", "/v1/events", body=body, idempotency_key="raw-1")
        assert first == again and first["type"] == "app.raw"
        with pytest.raises(NotFound):
            await client.request("GET", "/v1/nothing")
        with pytest.raises(ValueError, match="slash"):
            await client.request("GET", "v1/tools")

    def same() -> str:
        with SyncResonantGenesis(api_key=KEY, base_url=server.url) as sync:
            return str(sync.request("GET", "/healthz")["status"])

    assert await asyncio.to_thread(same) == "ok"


async def test_the_turns_that_a_cancel_ends(server: ServerProcess) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        stream = client.sessions.execute_stream("guide", "count to 10000")
        await anext(stream)
        assert stream.session_id is not None
        assert await client.sessions.cancel(stream.session_id) == [1]
        assert [chunk.status async for chunk in stream if chunk.type == "done"] == ["cancelled"]
        assert await client.sessions.cancel(stream.session_id) == []


async def test_whether_a_server_was_ever_reached() -> None:
    for client in (
        ResonantGenesis(api_key=KEY, base_url="http://127.0.0.1:9", max_retries=0),
        ResonantGenesis(api_key=KEY, base_url="http://127.0.0.1:9", max_retries=0, trust_env=False),
    ):
        async with client:
            with pytest.raises(ConnectionLost) as raised:
                await client.agents.list()
            assert not raised.value.reached
            with pytest.raises(ConnectionLost) as raised:
                await anext(client.sessions.join("sess_1"))
            assert not raised.value.reached
    assert ConnectionLost("broke").reached
