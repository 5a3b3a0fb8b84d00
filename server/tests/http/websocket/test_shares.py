"""Messages and large bodies of an organization that has taken more than its share wait."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.feed.shares import SHARED
from ws_harness import Server

pytestmark = pytest.mark.anyio


async def other_key(server: Server) -> str:
    answer = await server.http.post("/v1/organizations", json={"name": "other"})
    key: str = answer.json()["key"]["key"]
    return key


async def test_its_messages_wait_and_those_of_others_do_not(server: Server) -> None:
    other = await other_key(server)
    loop = asyncio.get_running_loop()
    async with server.connect() as client, server.connect(other) as neighbour:
        await client.ask("pong", "ping")
        SHARED.took(server.principal.organization_id, 0.3)
        began = loop.time()
        asked = asyncio.create_task(client.ask("pong", "ping"))
        for _ in range(20):
            await neighbour.ask("pong", "ping")
        assert not asked.done() or loop.time() - began > 1
        await asked
        assert loop.time() - began > 1


async def test_its_large_bodies_wait_and_small_ones_do_not(server: Server) -> None:
    loop = asyncio.get_running_loop()
    body = {"agent_id": "many", "context": {"text": "x" * 20_000}}
    assert (await server.http.post("/v1/sessions", json=body)).status_code == 201
    SHARED.took(server.principal.organization_id, 0.3)
    began = loop.time()
    large = asyncio.create_task(server.http.post("/v1/sessions", json=body))
    small = await server.http.post("/v1/sessions", json={"agent_id": "many"})
    assert small.status_code == 201
    assert not large.done() or loop.time() - began > 1
    assert (await large).status_code == 201
    assert loop.time() - began > 1


async def test_large_messages_are_charged(server: Server) -> None:
    account = SHARED._account(server.principal.organization_id)
    async with server.connect() as client:
        await client.ask("pong", "ping")
        before = account.paid
        await client.send_raw('{"type":"ping","more":[' + "{}," * 9_000 + "{}]}")
        assert (await client.receive())["type"] == "pong"
        assert account.paid > max(before, asyncio.get_running_loop().time() - 1)
