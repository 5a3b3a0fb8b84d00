"""A service for tests: records in a file, an authenticator, the app, a client, a socket server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import APIRouter
from resonantgenesis_server.http.api.agents import Settle
from resonantgenesis_server.http.api.health import Ready
from resonantgenesis_server.http.app import (
    AppDeps,
    always_ready,
    create_app,
    nothing_to_settle,
)
from resonantgenesis_server.http.auth.authenticator import CredentialAuthenticator
from resonantgenesis_server.http.auth.signing import SigningKeys
from resonantgenesis_server.http.cors import Cors
from resonantgenesis_server.http.middleware import Gateway, Lifespan
from resonantgenesis_server.http.routing import FastRoute
from resonantgenesis_server.model.errors import InvalidRequest
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.records.agents import AgentDirectory
from resonantgenesis_server.records.base import AgentRecord
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets
from resonantgenesis_server.records.store import Records

GUIDE = AgentRecord("guide", "", "Guide", "guide", created_at=1.0, updated_at=1.0)


class Clock:
    """The wall clock, plus what a test adds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


async def known_engines(engine: str, defaults: Mapping[str, Any]) -> None:
    if engine not in {"guide", "python"}:
        raise InvalidRequest.field("engine", "is not an engine of this server")
    pace = defaults.get("words_per_second")
    if engine == "guide" and pace is not None and pace > 1_000:
        raise InvalidRequest.field("defaults.words_per_second", "is too fast")


@dataclass
class Service:
    records: Records
    hasher: CredentialHasher
    signing: SigningKeys
    authenticator: CredentialAuthenticator
    app: Gateway
    clock: Clock
    organization_id: str
    key_id: str
    key: str
    client: httpx.AsyncClient

    async def close(self) -> None:
        await self.client.aclose()
        await self.records.close()

    async def make_key(self, *scopes: str, organization_id: str | None = None) -> str:
        """The credential of a new key with these scopes."""
        credential = f"rg_test_{'_'.join(scopes)}_{time.monotonic_ns()}"
        await self.records.keys.create(
            organization_id or self.organization_id,
            name="test",
            hash=self.hasher.hash(credential),
            scopes=frozenset(scopes),
        )
        return credential

    async def make_token(self, **body: Any) -> str:
        answer = await self.client.post("/v1/tokens", json={"scopes": ["*"], **body})
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return token


Serve = Callable[..., Awaitable[Service]]


async def open_service(
    folder: Path,
    *,
    cors_origins: Collection[str] = (),
    fast: Sequence[FastRoute] = (),
    routers: Sequence[APIRouter] = (),
    limits: Limits | None = None,
    lifespan: Lifespan | None = None,
    configured: Mapping[str, AgentRecord] | None = None,
    ready: Ready = always_ready,
    settle: Settle = nothing_to_settle,
) -> Service:
    clock = Clock()
    records = await Records.open(f"sqlite:///{folder / 'records.db'}", clock=clock)
    hasher = CredentialHasher(*load_secrets(folder / "secret"))
    signing = SigningKeys(records.secrets, hasher, clock.monotonic)
    authenticator = CredentialAuthenticator(
        records.keys,
        hasher,
        signing,
        cors=Cors(cors_origins),
        clock=clock,
        monotonic=clock.monotonic,
    )
    organization = await records.organizations.create("first")
    key = "rg_test_bootstrap_key"
    record = await records.keys.create(
        organization.id,
        name="bootstrap",
        hash=hasher.hash(key),
        scopes=frozenset({"*"}),
        is_bootstrap=True,
    )
    app = create_app(
        AppDeps(
            records=records,
            authenticator=authenticator,
            directory=AgentDirectory(records.agents, configured or {"guide": GUIDE}),
            validate_engine=known_engines,
            settle=settle,
            limits=limits or Limits(),
            cors_origins=cors_origins,
            fast=fast,
            routers=routers,
            lifespan=lifespan,
            ready=ready,
        )
    )
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://testserver",
        headers=bearer(key),
    )
    return Service(
        records, hasher, signing, authenticator, app, clock, organization.id, record.id, key, client
    )


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def status(service: Service, headers: dict[str, str], path: str = "/v1/agents") -> int:
    """What an otherwise bare client gets."""
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.get(path, headers=headers)
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "UNAUTHENTICATED"
    return answer.status_code


@asynccontextmanager
async def sockets(app: Gateway) -> AsyncIterator[int]:
    """The app under a real server on 127.0.0.1; its port."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on")
    )
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign,attr-defined]
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the server did not start")
            await asyncio.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)
