"""What the server answers to: all its routes, over the parts that they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter

from .agents.registry import Engines
from .agents.tools.toolbox import Toolbox
from .agents.workers.directory import WorkerDirectory
from .calls import Calls
from .clients.mounts import ClientParts, client_routes
from .clients.streams import ClientStreams
from .config.settings import Settings
from .erasure import Erasure
from .events.outbox import OutboxRelay
from .events.service import EventService
from .files.service import FileService
from .http.api.conversations import conversations_router
from .http.api.erasure import erasure_router
from .http.api.events import PublishRoute, events_router
from .http.api.executes import ExecuteRoutes
from .http.api.exports import ExportRoutes
from .http.api.files import FileRoutes, files_router
from .http.api.live_metrics import LiveMetrics, live_metrics_router
from .http.api.nodes import nodes_router
from .http.api.secret import secret_router
from .http.api.sessions import sessions_router
from .http.api.tools import tools_router
from .http.api.usage import usage_router
from .http.api.webhooks import webhooks_router
from .http.app import AppDeps, create_app
from .http.auth.authenticator import CredentialAuthenticator
from .http.idempotency import IdempotentPosts
from .http.limits import RequestLimit
from .http.middleware import Gateway
from .http.sse.routes import EventStreamRoutes, StreamRoutes
from .http.watchdog import StreamWatchdog
from .http.websocket.asyncapi import asyncapi_router
from .http.websocket.routes import SocketRoutes
from .http.workers.routes import WorkerRoutes, workers_router
from .model.limits import Limits
from .model.principal import Reached
from .nodes import NodeDirectory
from .records.agents import AgentDirectory
from .records.base import StoreError
from .records.store import Records
from .rotation import SecretRotation
from .sessions.service import SessionService
from .stores import AnyLog
from .usage import UsageService
from .webhooks.service import WebhookService


@dataclass(frozen=True, slots=True)
class Routes:
    """The parts that routes need."""

    sessions: SessionService
    events: EventService
    usage: UsageService
    limits: Limits
    watch: StreamWatchdog
    requests: RequestLimit
    sockets: SocketRoutes
    files: FileService
    once: IdempotentPosts
    tools: Toolbox
    nodes: NodeDirectory
    workers: WorkerRoutes
    worker_directory: WorkerDirectory
    webhooks: WebhookService
    metrics: APIRouter
    live_metrics: LiveMetrics
    now: Callable[[], float]
    reached: Reached
    erasure: Erasure
    calls: Calls | None
    rotation: SecretRotation

    def streams(self) -> list[APIRouter]:
        """The routers of routes that are answered before the framework."""
        streams = StreamRoutes(self.sessions, self.limits, self.watch)
        return [
            ExecuteRoutes(
                self.sessions, streams, self.limits, self.watch, self.requests, self.webhooks
            ).router(),
            streams.router(),
            EventStreamRoutes(self.events, self.limits, self.watch).router(),
            PublishRoute(self.events, self.limits, self.watch).router(),
            ExportRoutes(self.sessions, self.events, self.limits, self.watch).router(),
        ]

    def clients(self, agents: AgentDirectory, settings: Settings) -> ClientParts:
        """What the protocols of other people's clients are made of."""
        streams = ClientStreams(self.sessions, self.limits, self.watch, self.requests)
        return ClientParts(
            streams,
            agents,
            self.events,
            self.calls,
            self.webhooks,
            self.usage,
            settings.cors_origins,
            settings.public_url,
        )

    def files_router(self) -> APIRouter:
        return files_router(self.files, FileRoutes(self.files, self.limits, self.watch, self.once))


def open_gateway(
    settings: Settings,
    records: Records,
    log: AnyLog,
    authenticator: CredentialAuthenticator,
    directory: AgentDirectory,
    routes: Routes,
    relay: OutboxRelay,
    engines: Engines,
) -> Gateway:
    """The routes that the server has, and what stands before them."""

    async def ready() -> str | None:
        try:
            await records.ping()
        except StoreError as error:
            return str(error)
        return log.problem

    fast, routers = client_routes(settings.clients, routes.clients(directory, settings))
    return create_app(
        AppDeps(
            records=records,
            authenticator=authenticator,
            directory=directory,
            validate_engine=engines.check,
            endpoints=engines.endpoints,
            check_tools=routes.tools.check,
            check_session=routes.sessions.check,
            settle=relay.settle,
            limits=routes.limits,
            requests=routes.requests,
            reached=routes.reached,
            watch=routes.watch,
            cors_origins=settings.cors_origins,
            fast=[*routes.sockets.routes(), *routes.workers.routes(), *fast],
            routers=[
                *routes.streams(),
                *routers,
                sessions_router(routes.sessions, routes.limits, routes.once, routes.webhooks),
                conversations_router(routes.sessions, routes.limits, routes.once),
                routes.files_router(),
                events_router(routes.events, routes.limits),
                usage_router(routes.usage, routes.now),
                tools_router(routes.tools),
                nodes_router(routes.nodes),
                workers_router(routes.worker_directory),
                webhooks_router(routes.webhooks, routes.once),
                secret_router(routes.rotation),
                erasure_router(routes.erasure, authenticator.forget),
                asyncapi_router(),
                routes.metrics,
                live_metrics_router(routes.live_metrics),
            ],
            ready=ready,
            durability=lambda: log.durability,
        )
    )
