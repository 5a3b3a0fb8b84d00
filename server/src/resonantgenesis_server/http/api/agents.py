"""`/v1/agents`: the agents of an organization."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from ...agents.base import CheckTools
from ...agents.engines.http.endpoint import MAX_URL, EndpointRecords
from ...codec.times import rfc3339
from ...model.errors import AgentNotFound, Forbidden, InvalidRequest
from ...model.ids import is_agent_id, new_id
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...records.base import UNSET, AgentChanges, AgentRecord, ListPage
from ..acting import actor_of
from ..auth.authenticator import scoped
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import NO_NUL, Body, Name, PageBody, PageCursor, PageLimit, page_body

PATH = "/v1/agents"

AgentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Instructions = Annotated[str, StringConstraints(max_length=65_536, pattern=NO_NUL)]
Tools = Annotated[list[Name], Field(max_length=128)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL, pattern=NO_NUL)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=200)]
#: The engine of agents that have an endpoint.
_HTTP = "http"

#: Raises an ApiError for an engine that the server does not have, and for defaults or a `model`
#: that the engine refuses. `model` is passed as one of the defaults.
ValidateEngine = Callable[[str, Mapping[str, Any]], Awaitable[None]]
#: Called after a change. Returns when the event of the change is in the log, or safe in the outbox.
Settle = Callable[[], Awaitable[None]]


class AgentDefaults(Body):
    """Values for turns of this agent whose request has none."""

    max_steps: int | None = Field(default=None, ge=1, le=1_000)
    timeout_seconds: float | None = Field(default=None, gt=0, le=86_400)
    concurrency: int | None = Field(
        default=None, ge=1, le=10_000, description="Turns at once, at each node; others wait."
    )
    words_per_second: float | None = Field(
        default=None, description="Engine `guide`: its pace, up to 1000; 0: as fast as possible."
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Engine `llm`.")
    max_output_tokens: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Engine `llm`: in one answer of the model."
    )
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = Field(
        default=None, description="Engine `llm`: how long the model thinks before it answers."
    )
    show_reasoning: bool | Literal["chunks"] | None = Field(
        default=None,
        description="Engine `llm`: the stream shows what the model thinks; true: as progress of its"
        " steps; `chunks`: as chunks of type `reasoning`.",
    )

    def kept(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class NewAgent(Body):
    id: AgentId | None = Field(default=None, description="Chosen by the server if left out.")
    name: Name
    engine: Name = Field(description="What runs it: `llm`, `http`, `worker`, `guide`.")
    instructions: Instructions | None = None
    model: Name | None = Field(
        default=None, description="Engine `llm`: PROVIDER:MODEL, e.g. `openai:gpt-5-mini`."
    )
    tools: Tools | None = Field(default=None, description="null: all that the engine has.")
    defaults: AgentDefaults = Field(default_factory=AgentDefaults)
    url: Url | None = Field(default=None, description="Engine `http`: where the agent is.")
    secret: Secret | None = Field(
        default=None,
        description="Engine `http`: what its requests are signed with; null: the server makes one.",
    )


class AgentPatch(Body):
    """Only the fields that are sent change."""

    name: Name = Field(default_factory=str)
    engine: Name = Field(default_factory=str)
    instructions: Instructions | None = None
    model: Name | None = None
    tools: Tools | None = None
    defaults: AgentDefaults = Field(default_factory=AgentDefaults)
    url: Url | None = None
    secret: Secret | None = Field(
        default=None, description="Another secret; null: the server makes one."
    )

    def changes(self) -> AgentChanges:
        """Those of the fields that the records keep as they are sent."""
        names = self.model_fields_set - {"url", "secret"}
        sent: dict[str, Any] = {name: getattr(self, name) for name in names}
        if sent.get("tools") is not None:
            sent["tools"] = tuple(sent["tools"])
        if "defaults" in sent:
            sent["defaults"] = sent["defaults"].kept()
        return AgentChanges(**sent)


class AgentBody(BaseModel):
    id: str
    name: str
    engine: str
    instructions: str | None
    model: str | None
    tools: list[str] | None
    defaults: dict[str, Any]
    description: str | None = Field(default=None, description="Declared by an agent in Python.")
    input_schema: dict[str, Any] | None = Field(
        default=None,
        description="JSON Schema of the `context` that an agent in Python reads, as it declares.",
    )
    source: Literal["api", "configuration"] = Field(
        description="Those of the configuration belong to every organization and are read-only."
    )
    created_at: str
    updated_at: str

    @model_serializer(mode="wrap")
    def _without_undeclared(self, serialize: SerializerFunctionWrapHandler) -> Any:
        """Only an agent that declares them has them."""
        body: dict[str, Any] = serialize(self)
        undeclared = ("description", "input_schema")
        return {k: v for k, v in body.items() if v is not None or k not in undeclared}


class HttpAgentBody(AgentBody):
    """An agent that is an HTTP endpoint."""

    url: str


class HttpAgentSecretBody(HttpAgentBody):
    """One whose secret is new. It is shown in this answer only."""

    secret: str


AnyAgent = HttpAgentSecretBody | HttpAgentBody | AgentBody


Reader = Annotated[Principal, Depends(scoped("agents:read"))]


async def _changes_agents(
    principal: Annotated[Principal, Depends(scoped("agents:write"))],
) -> Principal:
    """An agent belongs to its organization, so a caller that sees less must not change one."""
    if principal.is_bound:
        raise Forbidden("a token bound to a subject, session or agent cannot change agents")
    return principal


Writer = Annotated[Principal, Depends(_changes_agents)]


def agents_router(
    directory: AgentDirectory,
    validate_engine: ValidateEngine,
    check_tools: CheckTools,
    once: IdempotentPosts,
    settle: Settle,
    endpoints: EndpointRecords,
) -> APIRouter:
    router = api_router(tag="agents")
    bodies = _AgentBodies(directory)

    @router.post(
        PATH,
        status_code=201,
        response_model=AnyAgent,
        responses=documented_errors(409, body=True),
        operation_id="create_agent",
    )
    async def create(
        request: Request, body: NewAgent, principal: Writer, key: IdempotencyKey = None
    ) -> Response:
        """Create an agent. Its id must be free in the organization."""
        named = {"model": body.model, "url": body.url}
        await validate_engine(body.engine, {**body.defaults.kept(), **named})
        await check_tools(body.tools or ())
        endpoint, secret = _endpoint(endpoints, body)

        async def make(making: Making) -> BaseModel:
            made = await directory.create(
                _record(principal, body, endpoint),
                actor=actor_of(request),
                once=making.answering(bodies.body)
                if secret is None
                else making.showing_secret(lambda agent: agent.id),
            )
            await settle()
            return bodies.body(made, secret)

        return await once.run(principal, PATH, key, body, make)

    @router.get(PATH, responses=documented_errors(), operation_id="list_agents")
    async def list_agents(
        principal: Reader, limit: PageLimit = 50, cursor: PageCursor = None
    ) -> PageBody[HttpAgentBody | AgentBody]:
        """The organization's agents and those of the configuration, by id."""
        return await bodies.page(principal, limit, cursor)

    @router.get(PATH + "/{agent_id}", responses=documented_errors(404), operation_id="get_agent")
    async def get(agent_id: str, principal: Reader) -> HttpAgentBody | AgentBody:
        """One agent."""
        _check_visible(principal, agent_id)
        return bodies.body(await directory.get(principal.organization_id, agent_id))

    @router.patch(
        PATH + "/{agent_id}",
        response_model=AnyAgent,
        responses=documented_errors(404, 409, body=True),
        operation_id="update_agent",
    )
    async def update(
        request: Request, agent_id: str, body: AgentPatch, principal: Writer
    ) -> AgentBody:
        """Change the fields that are sent. null clears a field that may be empty."""
        _check_visible(principal, agent_id)
        owner, changes, secret = principal.organization_id, body.changes(), None
        if not directory.is_configured(agent_id):  # the update itself refuses those
            existing = await directory.get(owner, agent_id)
            await _check_outcome(validate_engine, existing, changes, body)
            changes, secret = _with_endpoint(endpoints, existing, changes, body)
        await check_tools(body.tools or ())
        actor = actor_of(request)
        changed = await directory.update(owner, agent_id, changes, actor=actor)
        await settle()
        return bodies.body(changed, secret)

    @router.delete(
        PATH + "/{agent_id}",
        status_code=204,
        responses=documented_errors(404, 409),
        operation_id="delete_agent",
    )
    async def delete(request: Request, agent_id: str, principal: Writer) -> None:
        """Delete an agent. Its sessions and their logs stay."""
        _check_visible(principal, agent_id)
        await directory.delete(principal.organization_id, agent_id, actor=actor_of(request))
        await settle()

    return router


async def _check_outcome(
    validate_engine: ValidateEngine, existing: AgentRecord, changes: AgentChanges, body: AgentPatch
) -> None:
    """Raise an ApiError if the changed agent could not run."""
    unset = all(change is UNSET for change in (changes.engine, changes.defaults, changes.model))
    if unset and "url" not in body.model_fields_set:
        return
    defaults = changes.defaults if isinstance(changes.defaults, Mapping) else existing.defaults
    model = existing.model if changes.model is UNSET else changes.model
    engine, url = _outcome(existing, changes, body)
    await validate_engine(engine, {**defaults, "model": model, "url": url})


def _outcome(
    existing: AgentRecord, changes: AgentChanges, body: AgentPatch
) -> tuple[str, str | None]:
    """The engine and the address after the change. With its engine an agent loses its address."""
    engine = changes.engine if isinstance(changes.engine, str) else existing.engine
    if "url" in body.model_fields_set:
        return engine, body.url
    return engine, existing.url if engine == _HTTP else None


def _endpoint(
    endpoints: EndpointRecords, body: NewAgent
) -> tuple[Mapping[str, Any] | None, str | None]:
    """The endpoint of a new agent, and its secret. Raises InvalidRequest."""
    if body.url is not None:
        return endpoints.make(body.url, body.secret)
    if body.secret is not None:
        raise _no_secret()
    return None, None


def _with_endpoint(
    endpoints: EndpointRecords, existing: AgentRecord, changes: AgentChanges, body: AgentPatch
) -> tuple[AgentChanges, str | None]:
    """The changes with those of the endpoint, and the secret if it is new. Raises
    InvalidRequest."""
    engine, url = _outcome(existing, changes, body)
    rotates = "secret" in body.model_fields_set
    if engine != _HTTP or url is None:
        if rotates:
            raise _no_secret()
        gone = None if existing.endpoint is not None else UNSET
        return replace(changes, endpoint=gone), None
    if existing.endpoint is None:
        made, secret = endpoints.make(url, body.secret)
        return replace(changes, endpoint=made), secret
    moved = {**existing.endpoint, "url": url}
    if not rotates:
        return (changes if url == existing.url else replace(changes, endpoint=moved)), None
    made, secret = endpoints.rotate(moved, body.secret)
    return replace(changes, endpoint=made), secret


def _no_secret() -> InvalidRequest:
    return InvalidRequest.field("secret", "is for agents of the engine 'http'")


def _check_visible(principal: Principal, agent_id: str) -> None:
    bound_to_another = principal.agent_id not in {None, agent_id}
    if bound_to_another or not is_agent_id(agent_id):
        raise AgentNotFound("there is no such agent")


def _record(
    principal: Principal, body: NewAgent, endpoint: Mapping[str, Any] | None
) -> AgentRecord:
    return AgentRecord(
        id=body.id or new_id("agent"),
        organization_id=principal.organization_id,
        name=body.name,
        engine=body.engine,
        instructions=body.instructions,
        model=body.model,
        tools=None if body.tools is None else tuple(body.tools),
        defaults=body.defaults.kept(),
        endpoint=endpoint,
    )


class _AgentBodies:
    """Agents as bodies of answers."""

    def __init__(self, directory: AgentDirectory) -> None:
        self._directory = directory

    async def page(
        self, principal: Principal, limit: int, cursor: str | None
    ) -> PageBody[HttpAgentBody | AgentBody]:
        if principal.agent_id is None:
            page = await self._directory.list(principal.organization_id, limit=limit, cursor=cursor)
        else:
            page = await self._only(principal.organization_id, principal.agent_id)
        return page_body(page, self.body)

    async def _only(self, organization_id: str, agent_id: str) -> ListPage[AgentRecord]:
        try:
            return ListPage([await self._directory.get(organization_id, agent_id)])
        except AgentNotFound:
            return ListPage([])

    def body(self, agent: AgentRecord, secret: str | None = None) -> AgentBody:
        """`secret`: one that is new, to be shown once."""
        configured = self._directory.is_configured(agent.id)
        body = AgentBody(
            id=agent.id,
            name=agent.name,
            engine=agent.engine,
            instructions=agent.instructions,
            model=agent.model,
            tools=None if agent.tools is None else list(agent.tools),
            defaults=dict(agent.defaults),
            description=agent.description,
            input_schema=None if agent.input_schema is None else dict(agent.input_schema),
            source="configuration" if configured else "api",
            created_at=rfc3339(agent.created_at),
            updated_at=rfc3339(agent.updated_at),
        )
        if agent.url is None:
            return body
        shown = HttpAgentBody(**body.model_dump(), url=agent.url)
        return shown if secret is None else HttpAgentSecretBody(**dict(shown), secret=secret)
