"""`/v1/agents/{agent}/ag-ui` for AG-UI's HttpAgent, and `/copilotkit` for CopilotKit's client.

A thread is a session, and a run is a turn or the part of one between two answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...codec.json import loads
from ...http.api.session_models import ExecuteBody, InputBody, validated
from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.params import text_header
from ...http.routing import FastRoute, fast_route
from ...http.schemas import Body, JsonObject, LongText, Word
from ...model.errors import Conflict
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...sessions.answers import InputRequest
from ...sessions.request import TurnRef
from ..names import SessionAlias, digest_key, json_or_text
from ..streams import ClientStreams, answer_json, visible_agents
from .encode import RunFrames, ThreadFrames

_PROTOCOL = "ag-ui"
_COPILOTKIT = "/copilotkit"
#: Runs that a page gets when it connects to a thread: those that it can show.
_RUNS = 200
Id = Annotated[str, Field(min_length=1, max_length=255)]


class ContentPart(BaseModel):
    type: Word = ""
    text: LongText | None = None


class ThreadMessage(BaseModel):
    """A message of a thread; only the user's and results of tools are read."""

    role: Word
    content: LongText | Annotated[list[ContentPart], Field(max_length=10_000)] | None = None
    call_id: Word | None = Field(default=None, alias="toolCallId")

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.content or () if part.type == "text")


class RunTool(BaseModel):
    name: Word
    description: LongText = ""
    parameters: JsonObject | None = None


class ContextItem(BaseModel):
    description: Word
    value: LongText


class Resumption(BaseModel):
    interrupt_id: Id = Field(alias="interruptId")
    status: Word
    payload: Any = None


class RunBody(Body):
    """AG-UI's RunAgentInput."""

    model_config = ConfigDict(strict=False)

    thread_id: Id = Field(alias="threadId")
    run_id: Id = Field(alias="runId")
    messages: list[ThreadMessage] = Field(default_factory=list, max_length=100_000)
    tools: list[RunTool] | None = Field(default=None, max_length=1_000)
    context: list[ContextItem] | None = Field(default=None, max_length=1_000)
    resume: list[Resumption] | None = Field(default=None, max_length=1_000)


class AgUiRoutes:
    """The routes of AG-UI and of CopilotKit's runtime."""

    def __init__(self, streams: ClientStreams, agents: AgentDirectory) -> None:
        self._streams = streams
        self._service = streams.service
        self._agents = agents

    def routes(self) -> list[FastRoute]:
        agent = _COPILOTKIT + "/agent/{agent_id}"
        table: list[tuple[str, str, ASGIApp, bool]] = [
            ("POST", "/v1/agents/{agent_id}/ag-ui", self.run, False),
            ("GET", _COPILOTKIT + "/info", self.info, True),
            ("POST", agent + "/run", self.run, False),
            ("POST", agent + "/connect", self.connect, True),
            ("POST", agent + "/stop/{thread_id}", self.stop, True),
        ]
        return [
            fast_route(method, path, app, counted=counted) for method, path, app, counted in table
        ]

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start a run, or go on with the turn that waits."""
        principal, body, alias = await self._read(scope, receive, "sessions:write")
        found = await self._streams.find(principal, alias)
        if found is not None and found[1].waiting is not None:
            session_id, state = found
            asks = (await self._service.get(principal, session_id)).get("waiting", [])
            answers = _answers(body, asks)
            if answers and state.waiting is not None:
                ref = TurnRef(session_id, state.waiting.turn)
                await self._go_on(scope, receive, send, principal, body, ref, answers)
                return
        if body.resume:
            raise Conflict("the thread asks nothing that this run answers")
        goal = next((each.text for each in reversed(body.messages) if each.role == "user"), "")
        context = {each.description: each.value for each in body.context or ()}
        tools = [_client_tool(tool) for tool in body.tools or ()]
        fields: dict[str, Any] = {"agent_id": alias.agent_id, "goal": goal, "context": context}
        if tools:
            fields["client_tools"] = tools
        request = validated(ExecuteBody, fields).request(self._streams.limits)
        key = text_header(scope, b"idempotency-key")
        key = key or digest_key(_PROTOCOL, [str(alias.agent_id), body.thread_id, body.run_id])
        ref = await self._streams.start(scope, request, alias, key)
        fold = _fold(scope, ref, body)
        await self._streams.write(scope, receive, send, ref, fold)

    async def _go_on(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        principal: Principal,
        body: RunBody,
        ref: TurnRef,
        answers: list[InputRequest],
    ) -> None:
        await self._streams.take_for(scope)
        fold = _fold(scope, ref, body)
        skip = 0
        async for entry in self._streams.chunks(ref):
            skip += len(fold.frames(entry.kind, loads(entry.body)))
        request_id = scope["state"]["request_id"]
        for answer in answers:
            await self._service.input(principal, ref.session_id, answer, request_id=request_id)
        fold = _fold(scope, ref, body)
        await self._streams.write(scope, receive, send, ref, fold, skip=skip)

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The runs of the thread, oldest first, then the running one live."""
        principal, body, alias = await self._read(scope, receive, "sessions:read")
        found = await self._streams.find(principal, alias)
        if found is None or not found[1].turns:
            await Response(status_code=200, media_type="text/event-stream")(scope, receive, send)
            return
        session_id, state = found
        turns = state.turns[-_RUNS:]
        requests = await self._service.supervisor.history.requests(session_id, turns)
        goals = {turn: request.goal for turn, request in requests.items()}
        fold = ThreadFrames(session_id, body.thread_id, turns[0].turn, goals)
        ref = TurnRef(session_id, 0)
        after = next((turn.first for turn in turns if turn.first), 1) - 1
        await self._streams.write(scope, receive, send, ref, fold, after=after)

    async def stop(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal: Principal = scope["state"]["principal"]
        require(principal, "sessions:write")
        place = scope["path_params"]
        await self._streams.check_agent(principal, place["agent_id"])
        alias = SessionAlias(_PROTOCOL, place["agent_id"], place["thread_id"])
        found = await self._streams.find(principal, alias)
        cancelled: list[int] = []
        if found is not None:
            cancelled = (await self._service.cancel(principal, found[0], None))["cancelled"]
        await answer_json(scope, receive, send, {"stopped": bool(cancelled)})

    async def info(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What CopilotKit asks of its runtime."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "agents:read")
        agents = {
            agent.id: {"name": agent.id, "description": agent.name, "className": agent.engine}
            for agent in await visible_agents(self._agents, principal)
        }
        answer = {
            "version": version("resonantgenesis-server"),
            "mode": "sse",
            "agents": agents,
            "audioFileTranscriptionEnabled": False,
            "a2uiEnabled": False,
        }
        await answer_json(scope, receive, send, answer)

    async def _read(
        self, scope: Scope, receive: Receive, needs: str
    ) -> tuple[Principal, RunBody, SessionAlias]:
        principal: Principal = scope["state"]["principal"]
        require(principal, needs)
        agent_id = scope["path_params"]["agent_id"]
        await self._streams.check_agent(principal, agent_id)
        value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
        body = validated(RunBody, value, lenient=True)
        return principal, body, SessionAlias(_PROTOCOL, agent_id, body.thread_id)


def _fold(scope: Scope, ref: TurnRef, body: RunBody) -> RunFrames:
    is_copilotkit = scope["path"].startswith(_COPILOTKIT)
    return RunFrames(
        ref.session_id, ref.turn, body.thread_id, body.run_id, is_copilotkit=is_copilotkit
    )


def _answers(body: RunBody, asks: list[Mapping[str, Any]]) -> list[InputRequest]:
    """What the run says to the open asks."""
    said = {each.interrupt_id: each for each in body.resume or ()}
    results = {each.call_id: each.text for each in body.messages if each.role == "tool"}
    found: list[InputRequest] = []
    for ask in asks:
        call_id, kind = ask["call_id"], ask["kind"]
        resumption = said.get(call_id)
        if kind == "tool" and call_id in results:
            found.append(
                InputRequest(call_id, payload=json_or_text(results[call_id]), has_payload=True)
            )
        elif resumption is not None and resumption.status == "cancelled":
            found.append(InputRequest(call_id, approved=False))
        elif resumption is not None and kind == "approval":
            found.append(_approval(call_id, resumption.payload))
        elif resumption is not None:
            found.append(InputRequest(call_id, payload=resumption.payload, has_payload=True))
    return found


def _approval(call_id: str, payload: object) -> InputRequest:
    """`true`, `{"approved": true, "reason"?}`, or nothing, which approves. Raises InvalidRequest
    where no boolean stands there: a text like "no" must not approve."""
    said = payload if isinstance(payload, Mapping) else {"approved": payload is None or payload}
    answer = {"approved": said.get("approved"), "reason": said.get("reason") or ""}
    return validated(InputBody, {"call_id": call_id, **answer}).request()


def _client_tool(tool: RunTool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters is not None:
        found["schema"] = tool.parameters
    return found
