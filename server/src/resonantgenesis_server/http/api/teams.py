"""`/v1/teams`: agents whose turns are done by other agents of the organization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from ...agents.engines.team.engine import ENGINE, MAX_MEMBERS
from ...codec.times import rfc3339
from ...model.errors import AgentNotFound, Forbidden, InvalidRequest, NotFound
from ...model.ids import new_id
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...records.base import AgentChanges, AgentRecord, ListPage
from ..acting import actor_of
from ..auth.authenticator import scoped
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import NO_NUL, Body, Name, PageBody, PageCursor, PageLimit, page_body
from .agents import AgentId, Settle

PATH = "/v1/teams"

Strategy = Literal["sequential", "parallel", "hierarchical"]
OnFailure = Literal["fail", "continue"]
Description = Annotated[str, StringConstraints(max_length=4_000, pattern=NO_NUL)]
Role = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]
MemberInstructions = Annotated[str, StringConstraints(max_length=16_384, pattern=NO_NUL)]


class MemberBody(Body):
    """An agent of the team."""

    agent_id: AgentId
    role: Role | None = Field(default=None, description="What it is in the team, e.g. `editor`.")
    instructions: MemberInstructions | None = Field(
        default=None, description="What it is told beside the instructions of the agent."
    )


Members = Annotated[list[MemberBody], Field(min_length=1, max_length=MAX_MEMBERS)]


class TeamDefaults(Body):
    """Values for turns of the team whose request has none."""

    max_steps: int = Field(
        default=100, ge=1, le=1_000, description="Of all members together, with one for each task."
    )
    timeout_seconds: float = Field(default=600, gt=0, le=86_400)
    concurrency: int | None = Field(
        default=None, ge=1, le=10_000, description="Turns at once, at each node; others wait."
    )

    def kept(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class NewTeam(Body):
    id: AgentId | None = Field(default=None, description="Chosen by the server if left out.")
    name: Name
    description: Description | None = None
    strategy: Strategy = Field(
        description="`sequential`: each member gets the answer of the one before; `parallel`: all"
        " get the goal at once; `hierarchical`: the lead gives tasks to the others."
    )
    members: Members = Field(description="Agents of the organization, each at most once.")
    lead: AgentId | None = Field(
        default=None, description="The member that leads; `hierarchical` needs one."
    )
    on_failure: OnFailure = Field(
        default="fail",
        description="A member fails: `fail` ends the turn; `continue` tells the others of it.",
    )
    defaults: TeamDefaults = Field(default_factory=TeamDefaults)


class TeamPatch(Body):
    """Only the fields that are sent change."""

    name: Name = Field(default_factory=str)
    description: Description | None = None
    strategy: Strategy = Field(default="sequential")
    members: Members = Field(default_factory=list)
    lead: AgentId | None = None
    on_failure: OnFailure = Field(default="fail")
    defaults: TeamDefaults = Field(default_factory=TeamDefaults)


class TeamBody(BaseModel):
    id: str
    name: str
    description: str | None
    strategy: Strategy
    members: list[MemberBody]
    lead: str | None
    on_failure: OnFailure
    defaults: dict[str, Any]
    created_at: str
    updated_at: str


Reader = Annotated[Principal, Depends(scoped("teams:read"))]


async def _changes_teams(
    principal: Annotated[Principal, Depends(scoped("teams:write"))],
) -> Principal:
    if principal.is_bound:
        raise Forbidden("a token bound to a subject, session or agent cannot change teams")
    return principal


Writer = Annotated[Principal, Depends(_changes_teams)]
#: The fields that the records keep as the team's own.
_TEAM_FIELDS = ("description", "strategy", "members", "lead", "on_failure")


def teams_router(directory: AgentDirectory, once: IdempotentPosts, settle: Settle) -> APIRouter:
    router = api_router(tag="teams")

    @router.post(
        PATH,
        status_code=201,
        response_model=TeamBody,
        responses=documented_errors(409, body=True),
        operation_id="create_team",
    )
    async def create(
        request: Request, body: NewTeam, principal: Writer, key: IdempotencyKey = None
    ) -> Response:
        """Create a team. Its id must be free among the agents and teams of the organization."""
        team = _team_fields(body, _TEAM_FIELDS)
        await _check(directory, principal.organization_id, team)
        record = AgentRecord(
            id=body.id or new_id("team"),
            organization_id=principal.organization_id,
            name=body.name,
            engine=ENGINE,
            defaults=body.defaults.kept(),
            team=team,
        )

        async def make(making: Making) -> BaseModel:
            actor = actor_of(request)
            made = await directory.create(record, actor=actor, once=making.answering(_body))
            await settle()
            return _body(made)

        return await once.run(principal, PATH, key, body, make)

    @router.get(PATH, responses=documented_errors(), operation_id="list_teams")
    async def list_teams(
        principal: Reader, limit: PageLimit = 50, cursor: PageCursor = None
    ) -> PageBody[TeamBody]:
        """The organization's teams, by id."""
        if principal.agent_id is None:
            page = await directory.teams(principal.organization_id, limit=limit, cursor=cursor)
        else:
            page = await _only(directory, principal.organization_id, principal.agent_id)
        return page_body(page, _body)

    @router.get(PATH + "/{team_id}", responses=documented_errors(404), operation_id="get_team")
    async def get(team_id: str, principal: Reader) -> TeamBody:
        """One team."""
        if principal.agent_id not in {None, team_id}:
            raise NotFound("there is no such team")
        return _body(await directory.team(principal.organization_id, team_id))

    @router.patch(
        PATH + "/{team_id}", responses=documented_errors(404, body=True), operation_id="update_team"
    )
    async def update(
        request: Request, team_id: str, body: TeamPatch, principal: Writer
    ) -> TeamBody:
        """Change the fields that are sent."""
        owner = principal.organization_id
        existing = await directory.team(owner, team_id)
        sent = body.model_fields_set
        team = _team_fields(body, [name for name in _TEAM_FIELDS if name in sent])
        await _check(directory, owner, {**(existing.team or {}), **team})
        fields: dict[str, Any] = {"name": body.name} if "name" in sent else {}
        if "defaults" in sent:
            fields["defaults"] = body.defaults.kept()
        changes = AgentChanges(**fields, team=team)
        changed = await directory.update_team(owner, team_id, changes, actor=actor_of(request))
        await settle()
        return _body(changed)

    @router.delete(
        PATH + "/{team_id}",
        status_code=204,
        responses=documented_errors(404),
        operation_id="delete_team",
    )
    async def delete(request: Request, team_id: str, principal: Writer) -> None:
        """Delete a team. Its members stay, and so do its sessions with their logs."""
        await directory.delete_team(principal.organization_id, team_id, actor=actor_of(request))
        await settle()

    return router


def _team_fields(body: NewTeam | TeamPatch, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in body.model_dump().items() if name in names}


async def _check(directory: AgentDirectory, owner: str, team: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a team that could not run."""
    ids = [member["agent_id"] for member in team["members"]]
    if len(set(ids)) < len(ids):
        raise InvalidRequest.field("members", "names an agent twice")
    if team["strategy"] != "hierarchical":
        if team["lead"] is not None:
            raise InvalidRequest.field("lead", "is for the strategy 'hierarchical'")
    elif team["lead"] not in ids:
        raise InvalidRequest.field("lead", "must be one of the members")
    elif len(ids) == 1:
        raise InvalidRequest.field("members", "needs one more than the lead")
    for index, agent_id in enumerate(ids):
        field = f"members.{index}.agent_id"
        try:
            member = await directory.get(owner, agent_id)
        except AgentNotFound:
            raise InvalidRequest.field(field, "there is no such agent") from None
        if member.team is not None:
            raise InvalidRequest.field(field, "is a team; the members of a team are agents")


async def _only(directory: AgentDirectory, owner: str, team_id: str) -> ListPage[AgentRecord]:
    try:
        return ListPage([await directory.team(owner, team_id)])
    except NotFound:
        return ListPage([])


def _body(record: AgentRecord) -> TeamBody:
    return TeamBody(
        id=record.id,
        name=record.name,
        **(record.team or {}),
        defaults=dict(record.defaults),
        created_at=rfc3339(record.created_at),
        updated_at=rfc3339(record.updated_at),
    )
