"""A repeat under an Idempotency-Key, wherever the first request broke off: nothing twice, nobody
waits, and no secret is valid that belongs to a request which came to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from http_harness import Service
from resonantgenesis_server.records.base import StoreUnusable
from resonantgenesis_server.records.database import RecordsDatabase
from resonantgenesis_server.records.idempotency import IdempotencyRepository, use_key
from sqlalchemy.ext.asyncio import AsyncConnection

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "once-1"}
POSTS: dict[str, dict[str, Any]] = {
    "/v1/agents": {"name": "a", "engine": "guide"},
    "/v1/keys": {"name": "k", "scopes": ["agents:read"]},
    "/v1/tokens": {"scopes": ["agents:read"]},
    "/v1/organizations": {"name": "o"},
}


async def count(service: Service, path: str) -> int:
    return 0 if path == "/v1/tokens" else len((await service.client.get(path)).json()["data"])


def failing(monkeypatch: pytest.MonkeyPatch, when: str) -> Callable[[], None]:
    """The next transaction that uses a key up fails, before or after its commit; call the result
    to have it work again."""
    use = use_key
    places = ("access", "agents", "audit", "files", "idempotency")
    write = RecordsDatabase.write

    async def refuse(connection: AsyncConnection, once: Any, made: Any, now: int) -> None:
        await use(connection, once, made, now)
        raise StoreUnusable("the disk is full")

    @asynccontextmanager
    async def lose(database: RecordsDatabase) -> AsyncIterator[AsyncConnection]:
        async with write(database) as connection:
            yield connection
        raise StoreUnusable("the answer was lost")

    if when == "before":
        for place in places:
            name = f"resonantgenesis_server.records.{place}.use_key"
            monkeypatch.setattr(name, refuse)
    else:
        monkeypatch.setattr(RecordsDatabase, "write", lose)
    return monkeypatch.undo


@pytest.mark.parametrize("path", POSTS)
async def test_a_store_that_fails_holds_no_key(
    service: Service, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await count(service, path)
    heal = failing(monkeypatch, "before")
    assert (await service.client.post(path, json=POSTS[path], headers=KEY)).status_code == 503
    heal()
    assert await count(service, path) == before
    assert (await service.client.post(path, json=POSTS[path], headers=KEY)).status_code == 201
    assert await count(service, path) == before + (path != "/v1/tokens")


@pytest.mark.parametrize("path", POSTS)
async def test_what_was_made_and_not_answered_is_not_made_again(
    service: Service, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.make_token()  # the key that signs them is there
    before = await count(service, path)
    heal = failing(monkeypatch, "after")
    assert (await service.client.post(path, json=POSTS[path], headers=KEY)).status_code == 503
    heal()
    again = await service.client.post(path, json=POSTS[path], headers=KEY)
    if path == "/v1/agents":
        assert again.status_code == 201
        assert again.headers["idempotency-replayed"] == "true"
    else:
        assert again.status_code == 409
    if path in {"/v1/keys", "/v1/organizations"}:
        made = again.json()["error"]["details"]["id"]
        assert (await service.client.get(f"{path}/{made}")).status_code == 200
    assert await count(service, path) == before + (path != "/v1/tokens")


async def test_a_repeat_beside_the_first_must_wait(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    find = IdempotencyRepository.get

    async def slow(self: IdempotencyRepository, *asked: Any, **more: Any) -> Any:
        inside.set()
        await go_on.wait()
        return await find(self, *asked, **more)

    monkeypatch.setattr(IdempotencyRepository, "get", slow)
    body = POSTS["/v1/agents"]
    first = asyncio.create_task(service.client.post("/v1/agents", json=body, headers=KEY))
    await asyncio.wait_for(inside.wait(), 10)
    beside = await service.client.post("/v1/agents", json=body, headers=KEY)
    assert beside.status_code == 409
    assert beside.json()["error"]["retry_after"] == 1.0
    go_on.set()
    assert (await first).status_code == 201
    again = await service.client.post("/v1/agents", json=body, headers=KEY)
    assert again.json() == (await first).json()
