"""A credential that ends takes exactly its own streams and sockets with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from support.credentials import Tenant, make_key, make_tenant, make_token, sync_client
from support.server import PATIENCE, ServerProcess, bearer
from support.watchers import Watcher, follow, listen
from support.wire import execute


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Iterator[httpx.Client]:
    with sync_client(server, headers=bearer()) as made:
        yield made


@pytest.fixture(scope="module")
def tenant(admin: httpx.Client) -> Tenant:
    return make_tenant(admin, "watched")


@asynccontextmanager
async def running(server: ServerProcess, tenant: Tenant) -> AsyncIterator[tuple[str, Owner]]:
    """A session with a turn that goes on for as long as it is watched."""
    async with server.client(headers=tenant.headers) as client:
        context = {"count": 100_000, "pace": 5}
        session = (await execute(client, agent_id="paced", goal="x", context=context))["session_id"]
        try:
            yield session, Owner(client, session)
        finally:
            await client.post(f"/v1/sessions/{session}/cancel", json={})


class Owner:
    """Who the session belongs to."""

    def __init__(self, client: httpx.AsyncClient, session_id: str) -> None:
        self._client = client
        self._path = f"/v1/sessions/{session_id}"

    async def position(self) -> int:
        """How far its log has got."""
        return int((await self._client.get(self._path)).json()["position"])

    async def publish(self, kind: str) -> None:
        answer = await self._client.post("/v1/events", json={"type": kind, "data": {}})
        assert answer.status_code == 201, answer.text

    async def cancel(self) -> None:
        await self._client.post(f"{self._path}/cancel", json={})


class Crowd:
    """What some credentials hold open: streams of the session, of events, sockets of both."""

    def __init__(self, server: ServerProcess, session_id: str) -> None:
        self._server, self._session = server, session_id
        self._tasks: list[asyncio.Task[None]] = []
        self.chunks: list[Watcher] = []
        self.events: list[Watcher] = []
        self.sockets: list[Watcher] = []

    def all(self) -> list[Watcher]:
        return [*self.chunks, *self.events, *self.sockets]

    def add(self, client: httpx.AsyncClient, credential: str, streams: int) -> None:
        """So many streams of the session, and a few of the others."""
        for _ in range(streams):
            path = f"/v1/sessions/{self._session}/stream?resume_from=0"
            self._follow(client, path, self.chunks, credential)
        for _ in range(3):
            self._follow(client, "/v1/events/subscribe", self.events, credential)
        for by_message in (False, True):
            watcher = Watcher(credential)
            self.sockets.append(watcher)
            both = {"channels": [f"session:{self._session}"]}, {"channels": ["app"]}
            self._start(listen(self._server, watcher, *both, by_message=by_message))

    def _follow(
        self, client: httpx.AsyncClient, path: str, into: list[Watcher], credential: str
    ) -> None:
        watcher = Watcher(credential)
        into.append(watcher)
        self._start(follow(client, path, watcher))

    def _start(self, watching: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(watching))

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=10)

    async def alive(self, owner: Owner, kind: str) -> None:
        """Every one still gets what comes from now on."""
        position = await owner.position() + 1
        for watcher in (*self.chunks, *self.sockets):
            await watcher.until("chunks go on", position=position)
        await owner.publish(kind)
        for watcher in (*self.events, *self.sockets):
            await watcher.until("events go on", event=kind)


@asynccontextmanager
async def two_crowds(
    server: ServerProcess, tenant: Tenant, mine: list[str], others: list[str], streams: int
) -> AsyncIterator[Crowd]:
    """What `mine` hold open, so many streams each, all of it alive. Afterwards what `others` hold
    open must be alive still, and end as a turn does."""
    async with running(server, tenant) as (session, owner), server.client(headers={}) as client:
        crowds = Crowd(server, session), Crowd(server, session)
        try:
            for crowd, credentials in zip(crowds, (mine, others), strict=True):
                for credential in credentials:
                    crowd.add(client, credential, streams)
            for crowd in crowds:
                await _begun(crowd, owner)
            yield crowds[0]
            await crowds[1].alive(owner, "app.after")
            assert not any(watcher.is_over for watcher in crowds[1].all())
            await owner.cancel()
            assert {await watcher.until_over() for watcher in crowds[1].chunks} == {None}
        finally:
            for crowd in crowds:
                await crowd.leave()


async def _begun(crowd: Crowd, owner: Owner) -> None:
    """Every stream and subscription stands."""
    for watcher in (*crowd.chunks, *crowd.sockets):
        await watcher.until("it began", position=1)
    deadline = asyncio.get_running_loop().time() + PATIENCE
    for watcher in (*crowd.events, *crowd.sockets):
        while not await watcher.has("app.before", 0.05):
            assert asyncio.get_running_loop().time() < deadline, f"no event for {watcher}"
            await owner.publish("app.before")


async def check_ended(crowd: Crowd) -> None:
    """All of it, for the reason that it was."""
    for watcher in (*crowd.chunks, *crowd.events):
        assert await watcher.until_over() == "UNAUTHENTICATED"
    for watcher in crowd.sockets:
        assert await watcher.until_over() == 4401


async def test_revoking_a_key_ends_exactly_its_own_of_a_hundred_streams(
    server: ServerProcess, admin: httpx.Client, tenant: Tenant
) -> None:
    own = tenant.key.key
    victim, other = (make_key(admin, "*", credential=own) for _ in range(2))
    mine, others = (
        [key.key, make_token(admin, "sessions:read", "events:read", credential=key.key)]
        for key in (victim, other)
    )
    async with two_crowds(server, tenant, mine, others, 25) as crowd:
        answer = admin.delete(f"/v1/keys/{victim.id}", headers=tenant.headers)
        assert answer.status_code == 204
        await check_ended(crowd)


async def test_disabling_an_organization_ends_what_it_holds_open(
    server: ServerProcess, admin: httpx.Client, tenant: Tenant
) -> None:
    doomed = make_tenant(admin, "doomed")
    async with (
        running(server, doomed) as (session, owner),
        running(server, tenant) as (theirs, their_owner),
        server.client(headers={}) as client,
    ):
        crowd, others = Crowd(server, session), Crowd(server, theirs)
        try:
            crowd.add(client, doomed.key.key, 2)
            others.add(client, tenant.key.key, 2)
            await _begun(crowd, owner)
            await _begun(others, their_owner)
            answer = admin.patch(f"/v1/organizations/{doomed.id}", json={"disabled": True})
            assert answer.status_code == 200
            await check_ended(crowd)
            await others.alive(their_owner, "app.after")
            enabled = admin.patch(f"/v1/organizations/{doomed.id}", json={"disabled": False})
            assert enabled.json()["disabled_at"] is None
        finally:
            for one in (crowd, others):
                await one.leave()


async def test_ending_all_tokens_ends_what_they_hold_open_and_no_key(
    server: ServerProcess, admin: httpx.Client, tenant: Tenant
) -> None:
    own = tenant.key.key
    token = make_token(admin, "sessions:read", "events:read", credential=own)
    kept = make_key(admin, "sessions:read", "events:read", credential=own).key
    # A rotation alone ends nothing: this token opens streams below.
    assert admin.post("/v1/tokens/rotate", json={}).status_code == 200
    fresh = make_token(admin, "sessions:read", "events:read", credential=own)
    async with two_crowds(server, tenant, [token, fresh], [kept], 2) as crowd:
        assert admin.post("/v1/tokens/rotate", json={"end_tokens": True}).json()["former"] == 0
        await check_ended(crowd)
