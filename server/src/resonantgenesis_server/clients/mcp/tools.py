"""The tools that MCP's clients see: one for each agent, and those to look at sessions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from ...codec.json import loads
from ...feed.subscription import Caller
from ...http.api.session_models import LONGEST_TEXT, AgentId, Context, Position, validated
from ...http.schemas import NO_NUL, Body, Word
from ...model.errors import AgentNotFound
from ...model.ids import is_agent_id
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...records.base import AgentRecord
from ...records.paging import encode_cursor
from ...sessions.service import SessionService
from ..json_rpc import Json

ASK = "ask_"
EXECUTE = "execute"
#: Tools that start a turn need this scope, the others `sessions:read`.
WRITES = "sessions:write"
READS = "sessions:read"
_DESCRIPTION = 1_024
#: Characters of an agent's name in the name of its tool.
_NAME = 40
#: An id that the server chose, see `new_id`, and its beginning at the end of a tool's name.
_CHOSEN_ID = re.compile(r"(agent|team)_([0-9a-v]{8})[0-9a-v]{12}")
_BEGINNING = re.compile(r"_[0-9a-v]{8}\Z")
_NO_WORD = re.compile(r"[^a-z0-9]+")

_SESSION = {"type": "string", "description": "The session to go on with; a new one if left out."}
_ASK_INPUT: Json = {
    "type": "object",
    "properties": {
        "goal": {"type": "string", "description": "What the agent shall do."},
        "session_id": _SESSION,
    },
    "required": ["goal"],
}
_ANSWER: Json = {
    "type": "object",
    "properties": {
        "session_id": {"type": "string"},
        "turn": {"type": "integer"},
        "status": {"type": "string"},
        "output": {"type": "string"},
    },
    "required": ["session_id", "turn", "status"],
}


class AskArguments(Body):
    """What a turn is started with."""

    goal: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)] = Field(
        description="What the agent shall do."
    )
    session_id: Word | None = Field(default=None, description=_SESSION["description"])
    context: Context | None = Field(default=None, description="Data for the agent.")


class ExecuteArguments(AskArguments):
    agent_id: AgentId


class ListArguments(Body):
    agent_id: AgentId | None = None
    status: Word | None = Field(default=None, description="E.g. running, waiting, completed.")
    search: Annotated[str, Field(max_length=200, pattern=NO_NUL)] | None = Field(
        default=None, description="Words of the agent, the subject, the first goal or metadata."
    )
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


class ReadArguments(Body):
    session_id: Word
    limit: Annotated[int, Field(ge=1, le=100)] = Field(default=20, description="Messages.")
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before: older messages."
    )


class TailArguments(Body):
    session_id: Word
    after: Position = Field(default=0, description="`position` of the answer before.")
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        default=0, description="How long to wait for something new."
    )


async def _list(
    service: SessionService, principal: Principal, given: ListArguments, _caller: Caller
) -> Json:
    page = await service.list_sessions(
        principal,
        agent_id=given.agent_id,
        status=given.status,
        search=given.search,
        limit=given.limit,
        cursor=given.cursor,
    )
    return {"sessions": list(page.items), "next_cursor": page.next_cursor}


async def _read(
    service: SessionService, principal: Principal, given: ReadArguments, _caller: Caller
) -> Json:
    session = await service.get(principal, given.session_id)
    page = await service.conversations.messages(
        principal, given.session_id, limit=given.limit, cursor=given.cursor
    )
    return {"session": session, "messages": page.messages, "next_cursor": page.next_cursor}


async def _tail(
    service: SessionService, principal: Principal, given: TailArguments, caller: Caller
) -> Json:
    poll = await service.poll(
        principal,
        given.session_id,
        after=given.after,
        limit=given.limit,
        wait=given.wait_seconds,
        compacted=True,
        epoch=None,
        caller=caller,
    )
    events = [loads(event) for event in poll.events]
    return {
        "events": events, "position": poll.position, "status": poll.status, "done": poll.done
    }  # fmt: skip


ArgumentsT = TypeVar("ArgumentsT", bound=Body)


@dataclass(frozen=True, slots=True)
class ReadTool(Generic[ArgumentsT]):
    """A tool that changes nothing."""

    description: str
    arguments: type[ArgumentsT]
    answer: Callable[[SessionService, Principal, ArgumentsT, Caller], Awaitable[Json]]

    async def call(
        self, service: SessionService, principal: Principal, given: object, caller: Caller
    ) -> Json:
        """Raises ApiError."""
        return await self.answer(service, principal, validated(self.arguments, given), caller)


READ_TOOLS: Mapping[str, ReadTool[Any]] = {
    "list_sessions": ReadTool("The sessions, newest first.", ListArguments, _list),
    "read_session": ReadTool("A session, its state and its newest messages.", ReadArguments, _read),
    "tail_events": ReadTool(
        "What happens in a session after a position: text, steps and calls of tools.",
        TailArguments,
        _tail,
    ),
}


def session_tools(principal: Principal) -> list[Json]:
    """The tools that are no agents, as far as the caller may use them."""
    found: list[Json] = []
    if principal.allows(WRITES):
        about = "Start a turn of an agent, and do not wait for its answer. See tail_events."
        found.append(
            {
                "name": EXECUTE,
                "description": about,
                "inputSchema": _schema(ExecuteArguments),
                "annotations": {"readOnlyHint": False, "destructiveHint": False},
            }
        )
    if principal.allows(READS):
        found += [
            {
                "name": name,
                "description": tool.description,
                "inputSchema": _schema(tool.arguments),
                "annotations": {"readOnlyHint": True},
            }
            for name, tool in READ_TOOLS.items()
        ]
    return found


def agent_tool(agent: AgentRecord, *, has_tasks: bool) -> Json:
    """The tool that asks an agent, with what its code declares of its context. `has_tasks`: its
    client may run it as a task."""
    schema = _ASK_INPUT
    if agent.input_schema is not None:
        properties = {**schema["properties"], "context": dict(agent.input_schema)}
        schema = {**schema, "properties": properties}
    about = agent.description or f"Ask the agent {agent.name}, and wait for its answer."
    tool: Json = {
        "name": tool_name(agent),
        "title": agent.name,
        "description": about[:_DESCRIPTION],
        "inputSchema": schema,
        "outputSchema": _ANSWER,
        "annotations": {"readOnlyHint": False},
    }
    return tool | {"execution": {"taskSupport": "optional"}} if has_tasks else tool


def tool_name(agent: AgentRecord) -> str:
    """The name of the tool that asks the agent: with its id, or where the server chose the id, with
    the agent's name and the beginning of the id."""
    chosen = _CHOSEN_ID.fullmatch(agent.id)
    if chosen is None:
        return ASK + agent.id
    words = _NO_WORD.sub("_", agent.name.lower()).strip("_")[:_NAME].strip("_")
    return f"{ASK}{words or chosen[1]}_{chosen[2]}"


async def agent_named(agents: AgentDirectory, principal: Principal, name: str) -> str | None:
    """The agent that the tool of this name asks, also after the agent was renamed; None for no
    agent, and for more than one."""
    agent_id, organization_id = name.removeprefix(ASK), principal.organization_id
    if is_agent_id(agent_id):
        with contextlib.suppress(AgentNotFound):
            return (await agents.get(organization_id, agent_id)).id
    found: list[str] = []
    begins = _BEGINNING.search(agent_id)
    for prefix in [] if begins is None else [f"agent{begins[0]}", f"team{begins[0]}"]:
        page = await agents.list(organization_id, limit=2, cursor=encode_cursor(prefix))
        found += [each.id for each in page.items if each.id.startswith(prefix)]
    return found[0] if len(found) == 1 else None


def _schema(arguments: type[Body]) -> Json:
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    return schema
