"""`GET /v1/metrics`: what each node does now, for one organization or for the whole server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from ...calls import Calls
from ...metrics import Histogram
from ...model.errors import Forbidden
from ...model.principal import METRICS, Principal
from ..auth.authenticator import require_administrator, scoped
from ..errors import documented_errors
from ..routing import api_router
from ..schemas import PageBody

PATH = "/v1/metrics"
_VERB = "live_metrics"

#: What this process does, of one organization; None: of all.
Here = Callable[[str | None], "NodeMetrics"]
#: The turns of the store that wait for answers, of one organization; None: of all.
Waiting = Callable[[str | None], Awaitable[int]]


class ViewersBody(BaseModel):
    live: int = Field(description="They are handed what comes.")
    behind: int = Field(description="They still read it from the log.")


class OpenTurnsBody(BaseModel):
    running: int
    queued: int


class HistogramBody(BaseModel):
    """Values by size; the counts only grow."""

    bounds: list[float] = Field(description="In seconds.")
    counts: list[int] = Field(
        description="Values up to each bound, those of smaller bounds included; last all values."
    )

    @classmethod
    def of(cls, histogram: Histogram) -> HistogramBody:
        return cls(bounds=list(histogram.bounds), counts=histogram.cumulative)


class NodeMetrics(BaseModel):
    """What one node does. All but the open things only grows, from the start of the node."""

    node: str
    uptime_seconds: float = Field(description="Of the node; rates are differences over it.")
    open_streams: int = Field(description="SSE streams, sockets, uploads, downloads and exports.")
    viewers: ViewersBody
    open_turns: OpenTurnsBody
    ended_turns: dict[str, int] = Field(description="Turns that ended, by how.")
    chunks: int = Field(description="Chunks stored.")
    first_chunk: HistogramBody = Field(
        description="From the start of a turn's agent until its first chunk is stored."
    )
    append_to_socket: HistogramBody = Field(
        description="From a batch's append to the log until its live viewers have it."
    )
    limits_hit: dict[str, int] = Field(description="How often a limit held back, by the limit.")


class LiveMetricsBody(PageBody[NodeMetrics]):
    waiting_turns: int = Field(description="Turns of the store that wait for answers.")


class LiveMetrics:
    """Asks this node and the others. `calls` is None for a process that is alone."""

    def __init__(self, here: Here, waiting: Waiting, calls: Calls | None) -> None:
        self.waiting = waiting
        self._here = here
        self._calls = calls
        if calls is not None:
            calls.handlers[_VERB] = self._answer

    async def of(self, organization_id: str | None) -> list[NodeMetrics]:
        """By node. Waits for other nodes for half a second at most."""
        found = [self._here(organization_id)]
        if self._calls is not None:
            for said in await self._calls.ask_all(_VERB, {"organization_id": organization_id}):
                found.append(NodeMetrics(**said))
        return sorted(found, key=lambda node: node.node)

    async def _answer(self, args: Mapping[str, Any]) -> dict[str, Any]:
        return self._here(args["organization_id"]).model_dump()


def live_metrics_router(metrics: LiveMetrics) -> APIRouter:
    router = api_router(tag="operations")

    @router.get(
        PATH,
        response_model=LiveMetricsBody,
        responses=documented_errors(),
        operation_id="get_live_metrics",
    )
    async def get_live_metrics(
        principal: Annotated[Principal, Depends(scoped(METRICS))],
        of: Annotated[
            Literal["organization", "server"],
            Query(description="`server` needs the server's bootstrap key."),
        ] = "organization",
    ) -> LiveMetricsBody:
        """What each node does now, for pages that ask every second. Counts only grow, so whoever
        misses a second loses nothing."""
        if principal.is_bound:
            raise Forbidden("a token bound to a subject, session or agent cannot see metrics")
        if of == "server":
            require_administrator(principal)
        whose = principal.organization_id if of == "organization" else None
        return LiveMetricsBody(
            data=await metrics.of(whose),
            next_cursor=None,
            has_more=False,
            waiting_turns=await metrics.waiting(whose),
        )

    return router
