"""Webhooks of two nodes: each is served by one of them, and by the other when that one dies."""

from __future__ import annotations

import signal

import httpx
import psutil
import pytest
from support.receiver import Receiver
from support.server import PATIENCE, Serve, ServerProcess, bearer

pytestmark = pytest.mark.anyio

WEBHOOKS, EVENTS = 8, 10


async def publish(client: httpx.AsyncClient, count: int) -> list[str]:
    ids: list[str] = []
    for number in range(count):
        body = {"type": "app.nodes", "data": {"number": number}}
        ids.append((await client.post("/v1/events", json=body)).json()["id"])
    return ids


def connected(server: ServerProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=PATIENCE)


def firsts(receiver: Receiver, path: str) -> list[str]:
    """The ids of the events that a webhook was sent, each where it came first."""
    return list(dict.fromkeys(each.id for each in receiver.of(path)))


async def test_the_webhooks_of_a_killed_node_go_on_at_the_other(
    serve: Serve, postgres: str
) -> None:
    server = serve(
        may_complain=True,
        store=postgres,
        secret="5e" * 32,
        workers=2,
        node_ttl=300,
        webhooks__allow_hosts="127.0.0.1",
        webhooks__first_retry=0.05,
    )
    paths = [f"/{number}" for number in range(WEBHOOKS)]
    async with Receiver().running() as receiver:
        async with connected(server) as client:
            for path in paths:
                body = {"url": receiver.url(path), "events": ["app.nodes"]}
                assert (await client.post("/v1/webhooks", json=body)).status_code == 201
            ids = await publish(client, EVENTS)
            await receiver.until(lambda: all(len(receiver.of(path)) >= 3 for path in paths))
            psutil.Process(server.process.pid).children()[0].send_signal(signal.SIGKILL)
        async with connected(server) as client:  # the other one's connection may be gone
            ids += await publish(client, EVENTS)
        await receiver.until(lambda: all(firsts(receiver, path) == ids for path in paths))
