"""A server with sockets, and a client whose every received message is checked against
`/asyncapi.json`."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import uvicorn
import websockets
from resonantgenesis_server.app import Parts, open_parts
from resonantgenesis_server.codec.events import events_append
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.http.limits import SocketLimits
from resonantgenesis_server.http.serving.acceptor import ConnectionAcceptor
from resonantgenesis_server.http.serving.websocket_protocol import SOCKET_SETTINGS
from resonantgenesis_server.http.websocket.asyncapi import document
from resonantgenesis_server.model.events import NewEvent
from resonantgenesis_server.model.ids import new_id
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.model.principal import Principal
from websockets.asyncio.client import ClientConnection

KEY = "ws-tests-0123456789abcdef"
PATIENCE = 20.0
Message = dict[str, Any]


@cache
def _validator(names: frozenset[str]) -> jsonschema_rs.Validator:
    described = document()
    operation = described["operations"][next(iter(names))]
    messages = [described["components"]["messages"][m["$ref"].rsplit("/", 1)[1]]
                for m in operation["messages"]]  # fmt: skip
    schema = {
        "anyOf": [message["payload"] for message in messages],
        "components": described["components"],
    }
    return jsonschema_rs.validator_for(schema)


def check_from_server(message: Message) -> None:
    """Against what `/asyncapi.json` says that the server sends."""
    _validator(frozenset({"toClient"})).validate(message)


def check_from_client(message: Message) -> None:
    """Against what it says that clients send."""
    _validator(frozenset({"fromClient"})).validate(message)


class Client:
    """One socket. Events, chunks and control are told apart as PROTOCOL.md says."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.seen: list[Message] = []

    async def send(self, kind: str, **fields: Any) -> None:
        message = {"type": kind, **fields}
        check_from_client(message)
        await self.ws.send(json.dumps(message))

    async def send_raw(self, data: str | bytes) -> None:
        await self.ws.send(data)

    async def receive(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            data = await self.ws.recv()
        assert isinstance(data, str)
        message: Message = json.loads(data)
        check_from_server(message)
        self.seen.append(message)
        return message

    async def until(self, wanted: Callable[[Message], bool]) -> list[Message]:
        """What comes up to and with the first message that is wanted."""
        found: list[Message] = []
        while True:
            found.append(await self.receive())
            if wanted(found[-1]):
                return found

    async def answer(self, kind: str) -> Message:
        """The next message of this type."""
        return (await self.until(lambda m: m["type"] == kind))[-1]

    async def ask(self, answered_by: str, kind: str, **fields: Any) -> Message:
        """Send, and wait for the answer with the same id."""
        given = secrets.token_hex(4)
        await self.send(kind, id=given, **fields)
        answer = (await self.until(lambda m: m.get("id") == given))[-1]
        assert answer["type"] == answered_by, answer
        return answer

    async def events(self, count: int) -> list[Message]:
        """The next `count` events, whatever else comes between."""
        found: list[Message] = []
        while len(found) < count:
            message = await self.receive()
            if "channel" in message:
                found.append(message)
        return found

    async def done(self, session_id: str | None = None) -> list[Message]:
        """The chunks up to the next `done` (of this session)."""
        seen = await self.until(
            lambda m: m["type"] == "done" and session_id in {None, m["session_id"]}
        )
        return [m for m in seen if is_chunk(m) and session_id in {None, m["session_id"]}]

    async def closed(self) -> int:
        """The code that the server closes with; what comes before is in `seen`."""
        try:
            while True:
                await self.receive()
        except websockets.ConnectionClosed:
            return self.ws.close_code or 0

    async def quiet(self) -> list[Message]:
        """What had come before the answer to a ping."""
        given = secrets.token_hex(4)
        await self.send("ping", id=given)
        return (await self.until(lambda m: m.get("id") == given))[:-1]


def is_event(message: Message) -> bool:
    return "channel" in message


def is_chunk(message: Message) -> bool:
    return "position" in message and "session_id" in message and "channel" not in message


@dataclass
class Server:
    parts: Parts
    port: int
    http: httpx.AsyncClient
    principal: Principal
    uvicorn: uvicorn.Server
    clients: list[ClientConnection] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    @asynccontextmanager
    async def connect(self, credential: str | None = KEY, **options: Any) -> AsyncIterator[Client]:
        headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
        async with websockets.connect(
            self.url,
            additional_headers=headers | options.pop("headers", {}),
            proxy=None,
            **{"max_queue": None, "max_size": None, **options},
        ) as ws:
            yield Client(ws)

    async def publish(self, kind: str, **data: Any) -> Message:
        """Write an event of any type, as the server itself would."""
        event = NewEvent(new_id("evt"), kind, data, {"organization_id": "", "key_id": ""})
        await self.parts.log.append(*events_append(self.principal.organization_id, [event]))
        answer = await self.http.get(f"/v1/events/{event.id}")
        found: Message = answer.json()
        return found

    async def publish_many(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Write events in one append; their ids."""
        made = [NewEvent(new_id("evt"), kind, data, {}) for kind, data in events]
        await self.parts.log.append(*events_append(self.principal.organization_id, made))
        return [event.id for event in made]

    async def make_key(self, *scopes: str) -> tuple[str, str]:
        """A key with these scopes, and its id."""
        answer = await self.http.post("/v1/keys", json={"name": "t", "scopes": list(scopes)})
        assert answer.status_code == 201, answer.text
        return answer.json()["key"], answer.json()["id"]

    async def make_token(self, *scopes: str, **body: Any) -> str:
        answer = await self.http.post("/v1/tokens", json={"scopes": list(scopes), **body})
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return token

    async def execute(self, agent: str, goal: str, **body: Any) -> Message:
        """A turn, started over HTTP."""
        answer = await self.http.post(
            "/v1/sessions/execute",
            json={"agent_id": agent, "goal": goal, **body},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status_code in {200, 202}, answer.text
        found: Message = answer.json()
        return found

    async def finished(self, session_id: str) -> Message:
        """Wait for the session's turns to end."""
        answer = await self.http.get(
            f"/v1/sessions/{session_id}/stream?follow=false", timeout=PATIENCE
        )
        assert answer.status_code in {200, 204}
        found: Message = (await self.http.get(f"/v1/sessions/{session_id}")).json()
        return found

    async def settled(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)


Serve = Callable[..., Awaitable[Server]]


@asynccontextmanager
async def running(
    folder: Path,
    *,
    limits: Mapping[str, Any] | None = None,
    uvicorn_options: Mapping[str, Any] | None = None,
    **socket_limits: Any,
) -> AsyncIterator[Server]:
    """The server; keywords are limits of sockets."""
    settings = Settings(
        data=folder,
        bootstrap_key=KEY,  # type: ignore[arg-type]
        words_per_second=0,
        agents={name: f"ws_agents:{name}" for name in ("gated", "many", "failing", "saying")},
        limits=Limits(**(limits or {})),
        drain_seconds=2,
    )
    async with open_parts(settings) as parts:
        services = parts.sockets._services
        own = replace(SocketLimits.of(services.limits), **socket_limits)
        parts.sockets._services = replace(services, socket=own)
        async with listening(parts.app, **(uvicorn_options or {})) as (port, server):
            base = f"http://127.0.0.1:{port}"
            bearer = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(
                base_url=base, headers=bearer, trust_env=False, timeout=PATIENCE
            ) as http:
                principal = await parts.app._authenticator.verify(KEY)  # type: ignore[attr-defined]
                yield Server(parts, port, http, principal, server)


class _Server(uvicorn.Server):
    """Stops at once instead of at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stop.wait()


@asynccontextmanager
async def listening(app: Any, **options: Any) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    """The app under uvicorn with our protocol classes, as `serve` runs it."""
    config = uvicorn.Config(
        app,
        **{
            "host": "127.0.0.1",
            "port": 0,
            "log_config": None,
            "lifespan": "off",
            "access_log": False,
            "proxy_headers": False,
            "http": ConnectionAcceptor(),
            "timeout_graceful_shutdown": 5,
            "backlog": 2048,
            **SOCKET_SETTINGS,
            **options,
        },
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the server did not start")
            await asyncio.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1], server
    finally:
        server.stop.set()
        await asyncio.wait_for(task, 10)
