"""`GET /v1/agents/{id}/serve`, the socket of workers, and `GET /v1/workers`, the list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from ...agents.workers.directory import WorkerDirectory, WorkerStatus
from ...agents.workers.pool import WorkerPool
from ...codec.times import rfc3339
from ...model.errors import AgentNotFound, Conflict, Forbidden, Unauthenticated, Unavailable
from ...model.ids import is_agent_id
from ...model.limits import Limits
from ...model.principal import SERVE, Principal
from ...records.agents import AgentDirectory
from ..auth.authenticator import require, scoped
from ..errors import documented_errors
from ..routing import FastRoute, api_router, fast_route
from ..schemas import PageBody
from ..serving.websocket_protocol import handshake_error, not_taken, socket_of
from ..watchdog import StreamWatchdog
from ..websocket.writer import AsgiTransport, DirectTransport
from .connection import WorkerSocket
from .messages import PATH

LIST_PATH = "/v1/workers"
#: The engine of agents that workers may serve.
ENGINE = "worker"


class WorkerRoutes:
    """The sockets of workers of this process."""

    def __init__(
        self,
        pool: WorkerPool,
        directory: AgentDirectory,
        limits: Limits,
        watch: StreamWatchdog,
        now: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._directory = directory
        self._limits = limits
        self._watch = watch
        self._now = now
        self._sockets: set[WorkerSocket] = set()
        self._draining = False

    def routes(self) -> list[FastRoute]:
        return [
            fast_route("WEBSOCKET", PATH, self.connect, counted=False),
            fast_route("GET", PATH, self.refuse, counted=False),
        ]

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app of the socket; raises ApiError instead of accepting."""
        principal = await self._allowed(scope)
        request_id: str = scope["state"]["request_id"]
        agent_id = scope["path_params"]["agent_id"]
        connection = socket_of(scope)
        transport = AsgiTransport(send) if connection is None else DirectTransport(send, connection)
        socket = WorkerSocket(
            self._pool,
            self._watch,
            self._limits,
            transport,
            principal,
            (principal.organization_id, agent_id),
            self._now,
            request_id=request_id,
            lenient=scope["state"]["lenient"],
        )
        self._sockets.add(socket)
        try:
            with self._watch.opening(principal):
                await receive()
                headers = [(b"x-request-id", request_id.encode())]
                await send({"type": "websocket.accept", "headers": headers})
            await socket.run(receive)
        finally:
            self._sockets.discard(socket)

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app of a GET that opens no socket. It is refused for what refuses a socket,
        since many WebSocket clients do not say why, and else for not being one."""
        await self._allowed(scope)
        raise handshake_error(scope["headers"]) or not_taken(scope)

    def drain(self) -> None:
        """Take no new workers. Those that are there end their turns; the watch closes them."""
        self._draining = True
        for socket in self._sockets:
            socket.announce()

    async def _allowed(self, scope: Scope) -> Principal:
        """Who may serve the agent of the path. Raises ApiError."""
        principal: Principal | None = scope["state"]["principal"]
        agent_id: str = scope["path_params"]["agent_id"]
        if self._draining:
            raise Unavailable("the server is shutting down", retry_after=1)
        if principal is None:
            raise Unauthenticated("send Authorization: Bearer with an API key or a token")
        require(principal, SERVE)
        if principal.subject is not None or principal.session_id is not None:
            raise Forbidden("a token bound to a subject or session cannot serve an agent")
        if principal.agent_id not in {None, agent_id} or not is_agent_id(agent_id):
            raise AgentNotFound("there is no such agent")
        agent = await self._directory.get(principal.organization_id, agent_id)
        if agent.engine != ENGINE:
            raise Conflict(
                f"this agent has the engine {agent.engine!r}; workers serve agents of the engine"
                f" {ENGINE!r}"
            )
        return principal


class WorkerBody(BaseModel):
    """A worker that is connected."""

    id: str
    agent_id: str
    name: str = Field(description="What the worker calls itself.")
    node: str = Field(description="The node that has its socket.")
    capacity: int = Field(description="Turns that it takes at once.")
    running: int = Field(description="Turns that it has now.")
    draining: bool = Field(description="It takes no more turns.")
    connected_at: str


async def _sees_workers(
    principal: Annotated[Principal, Depends(scoped("agents:read"))],
) -> Principal:
    if principal.is_bound:
        raise Forbidden("a token bound to a subject, session or agent cannot see workers")
    return principal


def workers_router(workers: WorkerDirectory) -> APIRouter:
    router = api_router(tag="agents")

    @router.get(
        LIST_PATH,
        response_model=PageBody[WorkerBody],
        responses=documented_errors(),
        operation_id="list_workers",
    )
    async def list_workers(
        principal: Annotated[Principal, Depends(_sees_workers)],
    ) -> PageBody[WorkerBody]:
        """The workers of the organization's agents, over all nodes, by agent; on one page."""
        data = [_body(worker) for worker in await workers.all_of(principal.organization_id)]
        return PageBody(data=data, next_cursor=None, has_more=False)

    return router


def _body(worker: WorkerStatus) -> WorkerBody:
    return WorkerBody(
        id=worker.id,
        agent_id=worker.agent_id,
        name=worker.name,
        node=worker.node,
        capacity=worker.capacity,
        running=worker.running,
        draining=worker.draining,
        connected_at=rfc3339(worker.connected_at),
    )
