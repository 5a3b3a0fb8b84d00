"""The model server behind real sockets, and told to misbehave."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .fake_wire import error
from .model_server import ModelServer, ModelSocket


class FakeSocketServer(ModelServer):
    """`refuse`: statuses (and headers) for the next handshakes. `deaf`: says nothing any more.

    `tokens`: the credentials that are taken; `expires_at` is told with each `auth`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = {"rg_test_key"}
        self.expires_at: str | None = None
        self.refuse: deque[tuple[int, dict[str, str]]] = deque()
        self.deaf = False
        self.forgets = False
        self.handshakes: list[str] = []
        self.sockets: list[ModelSocket] = []
        self.connections: list[ServerConnection] = []
        self.changed = asyncio.Condition()
        self.port = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._check, ping_interval=None
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def until(self, reached: Callable[[], object]) -> None:
        """Waits until something about the server is so; 20 s at most."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(reached)

    async def tell(self) -> None:
        """Sends what there is to whom it concerns."""
        for socket, connection in zip(self.sockets, self.connections, strict=True):
            while socket.pump():
                continue
            await self._flush(socket, connection)

    async def run_turns(self) -> None:
        """All turns to their ends."""
        for session_id, log in self.sessions.items():
            while log.dones() < len(log.goals):
                self.grow(session_id)
        await self.tell()

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """The messages of a type, of all sockets."""
        return [m for socket in self.sockets for m in socket.heard if m["type"] == kind]

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request.headers.get("Authorization", ""))
        if self.refuse:
            status, headers = self.refuse.popleft()
            code = "UNAUTHENTICATED" if status == 401 else "UNAVAILABLE"
            return _answer(connection, status, code, headers)
        if self.handshakes[-1].removeprefix("Bearer ") not in self.tokens:
            return _answer(connection, 401, "UNAUTHENTICATED", {})
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        socket = ModelSocket(self)
        self.sockets.append(socket)
        self.connections.append(connection)
        try:
            while True:
                await self._notify()
                await self._hear(socket, connection, str(await connection.recv()))
        except ConnectionClosed:
            index = self.sockets.index(socket)
            del self.sockets[index], self.connections[index]
            await self._notify()

    async def _hear(self, socket: ModelSocket, connection: ServerConnection, text: str) -> None:
        if self.deaf:
            return
        message = json.loads(text)
        socket.receive(text)
        if self.forgets:
            # The answer is on its way when the link breaks.
            self.forgets = False
            connection.transport.abort()
            return
        if message["type"] == "auth" and self.expires_at is not None:
            answer = json.loads(socket.out.pop()) | {"expires_at": self.expires_at}
            socket.out.append(json.dumps(answer))
        if message["type"] == "execute":
            for session_id in self.sessions:
                self.grow(session_id)
        while socket.pump():
            continue
        await self._flush(socket, connection)

    async def _flush(self, socket: ModelSocket, connection: ServerConnection) -> None:
        while socket.out:
            await connection.send(socket.out.popleft())

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def _answer(
    connection: ServerConnection, status: int, code: str, headers: dict[str, str]
) -> Response:
    response = connection.respond(HTTPStatus(status), json.dumps(error(code, "no")))
    for name, value in headers.items():
        response.headers[name] = value
    return response
