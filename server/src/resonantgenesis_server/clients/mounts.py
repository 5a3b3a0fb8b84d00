"""The protocols of other people's clients by name, each with its routes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from ..calls import Calls
from ..config.settings import ClientName
from ..events.service import EventService
from ..http.routing import FastRoute
from ..records.agents import AgentDirectory
from ..usage import UsageService
from ..webhooks.service import WebhookService
from .a2a.routes import A2aRoutes
from .ag_ui.routes import AgUiRoutes
from .ai_sdk.routes import ChatRoutes
from .durable_streams.routes import DurableRoutes
from .langgraph.routes import LangGraphRoutes
from .langgraph.thread_protocol import ThreadProtocol
from .mcp.routes import McpRoutes
from .openai.routes import OpenAiRoutes
from .streams import ClientStreams


@dataclass(frozen=True, slots=True)
class ClientParts:
    """The parts of the server that these routes are made of."""

    streams: ClientStreams
    agents: AgentDirectory
    events: EventService
    calls: Calls | None
    webhooks: WebhookService
    usage: UsageService
    cors_origins: Collection[str] = ()
    public_url: str = ""


#: A router documents its routes in our OpenAPI; what is only fast is described by its protocol.
MOUNTS: Mapping[ClientName, Callable[[ClientParts], Sequence[FastRoute] | APIRouter]] = {
    "ai-sdk": lambda parts: ChatRoutes(parts.streams).router(),
    "openai": lambda parts: OpenAiRoutes(parts.streams, parts.agents).routes(),
    "ag-ui": lambda parts: AgUiRoutes(parts.streams, parts.agents).routes(),
    "mcp": lambda parts: McpRoutes(
        parts.streams, parts.agents, parts.cors_origins, parts.events, parts.calls
    ).routes(),
    "durable-streams": lambda parts: DurableRoutes(parts.streams).router(),
    "langgraph": lambda parts: [
        *LangGraphRoutes(parts.streams, parts.agents).routes(),
        *ThreadProtocol(parts.streams).routes(),
    ],
    "a2a": lambda parts: A2aRoutes(
        parts.streams, parts.agents, parts.webhooks, parts.usage, parts.public_url
    ).routes(),
}


def client_routes(
    names: Iterable[ClientName], parts: ClientParts
) -> tuple[list[FastRoute], list[APIRouter]]:
    """The routes of the named protocols."""
    fast: list[FastRoute] = []
    routers: list[APIRouter] = []
    for name in names:
        made = MOUNTS[name](parts)
        if isinstance(made, APIRouter):
            routers.append(made)
        else:
            fast += made
    return fast, routers
