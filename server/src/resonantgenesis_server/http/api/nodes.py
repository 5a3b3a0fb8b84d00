"""`/v1/nodes`: the nodes of the store, for the server's bootstrap key alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from ...codec.times import rfc3339_or_none
from ...model.principal import Principal
from ...nodes import NodeDirectory, NodeStatus
from ..auth.authenticator import administrator
from ..errors import documented_errors
from ..routing import api_router
from ..schemas import PageBody

PATH = "/v1/nodes"

Administrator = Annotated[Principal, Depends(administrator)]


class NodeBody(BaseModel):
    """A node that lives. What only the node itself knows is null if it did not answer in time."""

    id: str
    name: str = Field(description="Of its machine.")
    version: str
    started_at: str | None = Field(description="By its own clock.")
    last_seen_seconds: float = Field(description="Seconds since it was last seen alive.")
    running_turns: int | None
    queued_turns: int | None
    open_streams: int | None = Field(description="SSE streams and sockets.")


def nodes_router(nodes: NodeDirectory) -> APIRouter:
    router = api_router(tag="nodes")

    @router.get(
        PATH,
        response_model=PageBody[NodeBody],
        responses=documented_errors(),
        operation_id="list_nodes",
    )
    async def list_nodes(_admin: Administrator) -> PageBody[NodeBody]:
        """The processes that serve this store, oldest first, all on one page."""
        data = [_body(node) for node in await nodes.list()]
        return PageBody(data=data, next_cursor=None, has_more=False)

    return router


def _body(node: NodeStatus) -> NodeBody:
    load = node.load
    return NodeBody(
        id=node.id,
        name=node.name,
        version=node.version,
        started_at=rfc3339_or_none(node.started_at),
        last_seen_seconds=round(node.last_seen, 3),
        running_turns=None if load is None else load.running_turns,
        queued_turns=None if load is None else load.queued_turns,
        open_streams=None if load is None else load.open_streams,
    )
