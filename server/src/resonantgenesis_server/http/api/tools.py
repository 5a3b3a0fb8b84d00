"""`/v1/tools`: the tools that agents can call."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from ...agents.tools.toolbox import ListedTool, Origin, Toolbox
from ...model.principal import Principal
from ..auth.authenticator import scoped
from ..errors import documented_errors
from ..routing import api_router
from ..schemas import PageBody
from ..waiting import waiting_for

PATH = "/v1/tools"


class ToolBody(BaseModel):
    name: str = Field(description="The name for `tools` of agents and executes.")
    description: str
    parameters: dict[str, Any] = Field(description="JSON Schema of the arguments.")
    source: Origin
    server: str | None = Field(description="The MCP server that has it.")
    timeout_seconds: float
    needs_approval: bool | None = Field(
        description="Whether a person has to approve each call; null: it depends on the arguments."
    )
    problem: str | None = Field(description="Why it cannot be used now; null if it can.")


class ServerProblem(BaseModel):
    server: str
    problem: str


class ToolPage(PageBody[ToolBody]):
    unavailable: list[ServerProblem] = Field(
        description="MCP servers whose tools are not known now, and why."
    )


def tools_router(toolbox: Toolbox) -> APIRouter:
    router = api_router(tag="tools")

    @router.get(PATH, responses=documented_errors(), operation_id="list_tools")
    async def list_tools(
        request: Request,
        _principal: Annotated[Principal, Depends(scoped("agents:read"))],
    ) -> ToolPage:
        """All tools on one page. Those of MCP servers come last; the request starts these."""
        async with waiting_for(request):
            listing = await toolbox.listing()
        return ToolPage(
            data=[_body(tool) for tool in listing.tools],
            next_cursor=None,
            has_more=False,
            unavailable=[
                ServerProblem(server=server, problem=problem)
                for server, problem in listing.unavailable.items()
            ],
        )

    return router


def _body(listed: ListedTool) -> ToolBody:
    return ToolBody(
        name=listed.tool.name,
        description=listed.tool.description,
        parameters=dict(listed.tool.parameters),
        source=listed.origin,
        server=listed.server,
        timeout_seconds=listed.timeout,
        needs_approval=listed.needs_approval,
        problem=listed.problem,
    )
