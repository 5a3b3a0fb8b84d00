"""Keys, tokens and Idempotency-Keys at two whole servers over one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from resonantgenesis_server.app import Parts, open_parts
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.log.postgres.log import PostgresLog
from support.postgres import PostgresServer

pytestmark = pytest.mark.anyio
BOOTSTRAP = "rg_test_many_nodes"
#: Seconds in which the end of a credential is known everywhere, and some for a busy machine.
SOON = 2.0 + 2.0


class Server:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._transport = httpx.ASGITransport(parts.app)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str = BOOTSTRAP,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://testserver"
        ) as client:
            named = {"Authorization": f"Bearer {key}", **(headers or {})}
            return await client.request(method, path, json=body, headers=named)

    async def post(self, path: str, body: object, **options: Any) -> Any:
        answer = await self.ask("POST", path, body, **options)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def status(self, key: str) -> int:
        return (await self.ask("GET", "/v1/sessions", key=key)).status_code

    async def until(self, key: str, status: int) -> None:
        async with asyncio.timeout(SOON):
            while await self.status(key) != status:
                await asyncio.sleep(0.02)


Two = tuple[Server, Server]


@pytest.fixture
async def servers(tmp_path: Path, postgres_server: PostgresServer) -> AsyncIterator[Two]:
    url = postgres_server.database()
    async with AsyncExitStack() as stack:
        opened: list[Server] = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            settings = Settings(
                data=tmp_path / name,
                store=url,
                secret="5e" * 32,
                bootstrap_key=BOOTSTRAP,
                words_per_second=0,
            )
            opened.append(Server(await stack.enter_async_context(open_parts(settings))))
        yield opened[0], opened[1]
    postgres_server.recycle(url)


async def test_a_new_key_is_good_and_a_revoked_one_is_not_at_every_node(servers: Two) -> None:
    one, other = servers
    made = await one.post("/v1/keys", {"name": "k", "scopes": ["*"]})
    assert [await each.status(made["key"]) for each in servers] == [200, 200]
    assert (await one.ask("DELETE", f"/v1/keys/{made['id']}")).status_code == 204
    assert await one.status(made["key"]) == 401
    await other.until(made["key"], 401)


async def test_a_disabled_organization_is_shut_out_of_every_node(servers: Two) -> None:
    one, other = servers
    made = await one.post("/v1/organizations", {"name": "second"})
    path = f"/v1/organizations/{made['id']}"
    key = (await one.post(f"{path}/keys", {"name": "k", "scopes": ["*"]}))["key"]
    assert [await each.status(key) for each in servers] == [200, 200]
    assert (await other.ask("PATCH", path, {"disabled": True})).status_code == 200
    await one.until(key, 401)


async def test_tokens_of_any_signing_key_are_good_everywhere_until_they_are_ended(
    servers: Two,
) -> None:
    one, other = servers
    token = (await one.post("/v1/tokens", {"scopes": ["sessions:read"]}))["token"]
    assert await other.status(token) == 200
    for each in servers:
        answer = await each.ask("POST", "/v1/tokens/rotate", {})
        assert answer.status_code in {200, 201}, answer.text
        newer = (await each.post("/v1/tokens", {"scopes": ["sessions:read"]}))["token"]
        assert [await there.status(newer) for there in servers] == [200, 200]
        assert [await there.status(token) for there in servers] == [200, 200]
    answer = await one.ask("POST", "/v1/tokens/rotate", {"end_tokens": True})
    assert answer.status_code in {200, 201}, answer.text
    await one.until(token, 401)
    await other.until(token, 401)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/agents", {"name": "a", "engine": "guide"}),
        ("/v1/sessions", {"agent_id": "guide"}),
    ],
)
async def test_one_idempotency_key_at_two_nodes_makes_one_thing(
    servers: Two, path: str, body: dict[str, Any]
) -> None:
    made: set[str] = set()
    for number in range(25):
        answers = await asyncio.gather(
            *(
                each.ask("POST", path, body, headers={"Idempotency-Key": f"k{number}"})
                for each in (*servers, *servers)
            )
        )
        won = [answer for answer in answers if answer.status_code == 201]
        # Within one process the second is told to come again.
        assert {answer.status_code for answer in answers} <= {201, 409}, answers
        assert won
        for answer in answers:
            if answer.status_code == 409:
                assert answer.json()["error"]["retry_after"]
        ids = {
            orjson.loads(answer.content).get("id") or answer.json()["session_id"] for answer in won
        }
        assert len(ids) == 1
        again = await servers[1].ask("POST", path, body, headers={"Idempotency-Key": f"k{number}"})
        assert again.status_code == 201
        made |= ids
    listed = (await servers[0].ask("GET", f"{path}?limit=100")).json()["data"]
    found = {item.get("id") or item["session_id"] for item in listed} - {"guide"}
    assert found == made
    assert len(made) == 25


def number_of(parts: Parts) -> int:
    assert isinstance(parts.log, PostgresLog)
    return parts.log.node


async def node_events(server: Server) -> list[tuple[str, str]]:
    answer = await server.ask("GET", "/v1/events?events=system.node.*")
    return [(each["type"], each["data"]["node_id"]) for each in answer.json()["events"]]


async def test_a_node_among_others_writes_its_events_to_those_it_serves_alone(
    servers: Two,
) -> None:
    one, other = servers
    first, second = (f"node_{number_of(each.parts)}" for each in servers)
    assert first != second
    assert await node_events(one) == [("system.node.started", first)]
    assert await other.parts.node_events.draining()
    assert len(await node_events(one)) == 1
    session = (await other.post("/v1/sessions", {"agent_id": "guide"}))["session_id"]
    async with other.parts.supervisor.session(session):
        assert await one.parts.node_events.draining()
        assert await other.parts.node_events.draining()
    assert (await node_events(one))[1:] == [("system.node.draining", second)]
