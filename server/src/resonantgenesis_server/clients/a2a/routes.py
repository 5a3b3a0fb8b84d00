"""`/a2a/{agent}`: an agent as a server of A2A, in the versions 1.0 and 0.3, over JSON-RPC.

A task is a turn, and a context is a session. The names of the methods say which version is meant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from ...codec.json import loads
from ...http.api.session_models import ExecuteBody, validated
from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.params import text_header
from ...http.routing import FastRoute, fast_route
from ...http.schemas import Body, JsonObject, LongText
from ...http.waiting import waiting
from ...model.errors import AgentNotFound, ApiError, SessionNotFound
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...sessions.request import TurnRef
from ...sessions.state import SessionState, TurnState
from ..forms import answer_of
from ..json_rpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Json,
    RpcError,
    RpcMessage,
    as_rpc_error,
    message_of,
    rpc_refusal,
    rpc_result,
)
from ..names import SessionAlias, digest_key, turn_named
from ..streams import ClientStreams, answer_json
from .card import VERSIONS, agent_card
from .encode import TaskFrames, TaskInfo

PATH = "/a2a/{agent_id}"
_PROTOCOL = "a2a"
#: The key under which a turn keeps the client's name of its session.
_CONTEXT = "a2a_context_id"
_NO_TASK, _NOT_CANCELABLE, _NO_PUSH, _UNSUPPORTED, _NO_TEXT = -32001, -32002, -32003, -32004, -32005
_NO_VERSION = -32009
#: Seconds that a client may wait for a whole answer, and that a cancelled turn has to end.
_ANSWER, _CANCELLED = 3600.0, 5.0
_MOST_TASKS = 100
Id = Annotated[str, Field(min_length=1, max_length=255)]


class TaskPart(BaseModel):
    text: LongText | None = None
    data: Any = None


class SentMessage(BaseModel):
    message_id: Id = Field(alias="messageId")
    context_id: str = Field(default="", alias="contextId", max_length=255)
    task_id: str = Field(default="", alias="taskId", max_length=255)
    parts: list[TaskPart] = Field(min_length=1, max_length=10_000)

    @property
    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts)


class SendConfiguration(BaseModel):
    model_config = ConfigDict(strict=True)

    blocking: bool | None = None
    return_immediately: bool | None = Field(default=None, alias="returnImmediately")
    history_length: int | None = Field(default=None, alias="historyLength", ge=0)


class SendBody(Body):
    """The parameters of SendMessage."""

    message: SentMessage
    configuration: SendConfiguration = Field(default_factory=SendConfiguration)
    metadata: JsonObject | None = None


class TaskBody(Body):
    """The parameters of what concerns one task."""

    id: Id
    history_length: int | None = Field(default=None, alias="historyLength", ge=0)


class ListBody(Body):
    """The parameters of ListTasks. Only the tasks of one context are listed."""

    context_id: Id = Field(alias="contextId")
    page_size: int | None = Field(default=None, alias="pageSize", ge=1, le=_MOST_TASKS)
    page_token: str | None = Field(default=None, alias="pageToken", max_length=20)


@dataclass(frozen=True, slots=True)
class A2aRequest:
    """One request, with the parts of its connection."""

    scope: Scope
    receive: Receive
    send: Send
    message: RpcMessage
    agent_id: str
    is_old: bool

    @property
    def principal(self) -> Principal:
        found: Principal = self.scope["state"]["principal"]
        return found

    async def answer(self, result: object) -> None:
        body = rpc_result(self.message.id, result)
        await answer_json(self.scope, self.receive, self.send, body)


class A2aRoutes:
    """The routes of A2A."""

    def __init__(self, streams: ClientStreams, agents: AgentDirectory, public_url: str) -> None:
        """`public_url`: where clients reach this server; "": where they ask for the card."""
        self._streams = streams
        self._service = streams.service
        self._agents = agents
        self._public_url = public_url.rstrip("/")
        self._methods: Mapping[str, tuple[str, Callable[[A2aRequest], Awaitable[None]]]] = {
            "SendMessage": ("sessions:write", self._send),
            "SendStreamingMessage": ("sessions:write", self._stream),
            "GetTask": ("sessions:read", self._get),
            "ListTasks": ("sessions:read", self._list),
            "CancelTask": ("sessions:write", self._cancel),
            "SubscribeToTask": ("sessions:read", self._subscribe),
            "GetExtendedAgentCard": ("agents:read", self._extended),
        }

    def routes(self) -> list[FastRoute]:
        card = PATH + "/.well-known/agent-card.json"
        return [
            fast_route("POST", PATH, self.post),
            fast_route("GET", card, self.card, public=True),
        ]

    async def card(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open to all, whether there is such an agent or not."""
        agent_id = scope["path_params"]["agent_id"]
        card = agent_card(self._address(scope, agent_id), agent_id, None)
        await answer_json(scope, receive, send, card)

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        principal: Principal = scope["state"]["principal"]
        agent_id = scope["path_params"]["agent_id"]
        message = RpcMessage(None, "")
        try:
            value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
            message = message_of(value)
            name = _OLD_METHODS.get(message.method, message.method)
            request = A2aRequest(scope, receive, send, message, agent_id, name != message.method)
            _check_version(scope)
            if name == _PUSH:
                raise RpcError(_NO_PUSH, "push notifications are not supported")
            if name not in self._methods:
                raise RpcError(METHOD_NOT_FOUND, f"no method {message.method}")
            needs, method = self._methods[name]
            require(principal, needs)
            await self._streams.check_agent(principal, agent_id)
            await method(request)
        except AgentNotFound:
            raise  # nothing is at this address
        except (ApiError, RpcError) as error:
            refusal = error if isinstance(error, RpcError) else as_rpc_error(error)
            await answer_json(scope, receive, send, rpc_refusal(message.rpc_id, refusal))

    # -- methods ---------------------------------------------------------------------------

    async def _send(self, request: A2aRequest) -> None:
        body = validated(SendBody, request.message.params, lenient=True)
        ref, _, _ = await self._begin(request, body)
        wanted = body.configuration
        if wanted.blocking is not False and not wanted.return_immediately:
            async with waiting(request.scope, request.receive, self._streams.watch) as caller:
                await self._service.result(ref, _ANSWER, caller)
        task, _ = await self._so_far(request, ref)
        await request.answer(task.result(wanted.history_length))

    async def _stream(self, request: A2aRequest) -> None:
        body = validated(SendBody, request.message.params, lenient=True)
        ref, task, skip = await self._begin(request, body)
        await self._write(request, ref, skip, task)

    async def _subscribe(self, request: A2aRequest) -> None:
        body = validated(TaskBody, request.message.params, lenient=True)
        ref, turn = await self._turn(request, body.id)
        if turn.last:
            raise RpcError(_UNSUPPORTED, "the task has ended; get it instead")
        task, skip = await self._so_far(request, ref)
        await self._write(request, ref, skip, task)

    async def _get(self, request: A2aRequest) -> None:
        body = validated(TaskBody, request.message.params, lenient=True)
        ref, _ = await self._turn(request, body.id)
        task, _ = await self._so_far(request, ref)
        await request.answer(task.result(body.history_length, is_bare=True))

    async def _cancel(self, request: A2aRequest) -> None:
        body = validated(TaskBody, request.message.params, lenient=True)
        ref, turn = await self._turn(request, body.id)
        if turn.last:
            raise RpcError(_NOT_CANCELABLE, "the task has ended")
        await self._service.cancel(request.principal, ref.session_id, ref.turn)
        await self._service.result(ref, _CANCELLED)
        task, _ = await self._so_far(request, ref)
        await request.answer(task.result(is_bare=True))

    async def _list(self, request: A2aRequest) -> None:
        """The tasks of a context, newest first."""
        body = validated(ListBody, request.message.params, lenient=True)
        found = await self._streams.find(request.principal, self._alias(request, body.context_id))
        turns = [] if found is None else list(reversed(found[1].turns))
        total, size = len(turns), body.page_size or 50
        if body.page_token and body.page_token.isascii() and body.page_token.isdigit():
            turns = [turn for turn in turns if turn.turn < int(body.page_token)]
        tasks = []
        for turn in turns[:size]:
            ref = TurnRef(found[0] if found else "", turn.turn)
            task, _ = await self._so_far(request, ref)
            tasks.append(task.task(0))
        more = str(turns[size - 1].turn) if len(turns) > size else ""
        page = {"tasks": tasks, "nextPageToken": more, "pageSize": size, "totalSize": total}
        await request.answer(page)

    async def _extended(self, request: A2aRequest) -> None:
        agent = await self._agents.get(request.principal.organization_id, request.agent_id)
        address = self._address(request.scope, agent.id)
        await request.answer(agent_card(address, agent.id, agent))

    # -- inside ----------------------------------------------------------------------------

    def _address(self, scope: Scope, agent_id: str) -> str:
        base = self._public_url
        if not base:
            base = f"{scope.get('scheme', 'http')}://{text_header(scope, b'host') or 'localhost'}"
        return f"{base}/a2a/{agent_id}"

    async def _begin(
        self, request: A2aRequest, body: SendBody
    ) -> tuple[TurnRef, TaskFrames | None, int]:
        """Start the task of a message, or answer the one that it names. Returns its turn; of one
        that was there before, the task so far and the number of its events before the message."""
        message = body.message
        if message.task_id:
            return await self._go_on(request, message)
        if not message.text:
            raise RpcError(_NO_TEXT, "a message needs text")
        fields: Json = {"agent_id": request.agent_id, "goal": message.text}
        if body.metadata:
            fields["context"] = body.metadata
        alias = None
        if message.context_id:
            alias = self._alias(request, message.context_id)
            fields["metadata"] = {_CONTEXT: message.context_id}
        turn_request = validated(ExecuteBody, fields).request(self._streams.limits)
        said = [request.agent_id, message.context_id, message.message_id, message.text]
        key = text_header(request.scope, b"idempotency-key") or digest_key(_PROTOCOL, said)
        ref = await self._streams.start(request.scope, turn_request, alias, key)
        return ref, None, 0

    async def _go_on(
        self, request: A2aRequest, message: SentMessage
    ) -> tuple[TurnRef, TaskFrames, int]:
        ref, turn = await self._turn(request, message.task_id)
        session = await self._service.get(request.principal, ref.session_id)
        asks = session.get("waiting", []) if turn.status == "waiting" else []
        if not asks:
            raise RpcError(_UNSUPPORTED, f"the task asks nothing: it is {turn.status}")
        task, skip = await self._so_far(request, ref)
        for ask, said in _answers(message, asks):
            await self._service.input(
                request.principal,
                ref.session_id,
                replace(answer_of(ask, said), turn=ref.turn),
                request_id=request.scope["state"]["request_id"],
            )
        task.go_on()
        return ref, task, skip

    async def _write(
        self, request: A2aRequest, ref: TurnRef, skip: int, task: TaskFrames | None
    ) -> None:
        """Write the events after the first `skip`; before them the task as it is, if given."""
        more: dict[str, Any] = {} if task is None else {"opening": task.snapshot()}
        fold = await self._fold(request, ref)
        await self._streams.write(
            request.scope, request.receive, request.send, ref, fold, skip=skip, **more
        )

    async def _turn(self, request: A2aRequest, task_id: str) -> tuple[TurnRef, TurnState]:
        """The turn of a task. Raises RpcError."""
        named = turn_named(task_id)
        try:
            session = await self._service.authorize(request.principal, named[0] if named else "")
        except SessionNotFound:
            session = None
        turn = _turn_of(session, request.agent_id, named)
        if named is None or turn is None:
            raise RpcError(_NO_TASK, "there is no such task")
        return TurnRef(*named), turn

    async def _fold(self, request: A2aRequest, ref: TurnRef) -> TaskFrames:
        state = await self._service.states.load(ref.session_id)
        turn = None if state is None else state.turn(ref.turn)
        if turn is None:
            raise RpcError(_NO_TASK, "the task was deleted")
        asked = await self._service.supervisor.history.request(ref.session_id, turn)
        context_id = asked.metadata.get(_CONTEXT, ref.session_id)
        info = TaskInfo(ref.session_id, ref.turn, context_id, asked.goal, request.is_old)
        return TaskFrames(info, request.message.id)

    async def _so_far(self, request: A2aRequest, ref: TurnRef) -> tuple[TaskFrames, int]:
        """The task as it is now, and the number of its events."""
        task, count = await self._fold(request, ref), 0
        async for entry in self._streams.chunks(ref):
            count += len(task.frames(entry.kind, loads(entry.body)))
        return task, count

    @staticmethod
    def _alias(request: A2aRequest, context_id: str) -> SessionAlias:
        return SessionAlias(_PROTOCOL, request.agent_id, context_id)


_PUSH = "push"
#: The methods of 0.3, by those of 1.0.
_OLD_METHODS: Mapping[str, str] = {
    "message/send": "SendMessage",
    "message/stream": "SendStreamingMessage",
    "tasks/get": "GetTask",
    "tasks/cancel": "CancelTask",
    "tasks/resubscribe": "SubscribeToTask",
    "agent/getAuthenticatedExtendedCard": "GetExtendedAgentCard",
    **{f"tasks/pushNotificationConfig/{verb}": _PUSH for verb in ("set", "get", "list", "delete")},
    "CreateTaskPushNotificationConfig": _PUSH,
    "GetTaskPushNotificationConfig": _PUSH,
    "ListTaskPushNotificationConfigs": _PUSH,
    "DeleteTaskPushNotificationConfig": _PUSH,
}


def _check_version(scope: Scope) -> None:
    given = text_header(scope, b"a2a-version")
    if given and ".".join(given.split(".")[:2]) not in VERSIONS:
        supported = ", ".join(VERSIONS)
        raise RpcError(_NO_VERSION, f"this server speaks the versions {supported}")


def _turn_of(
    session: SessionState | None, agent_id: str, named: tuple[str, int] | None
) -> TurnState | None:
    if session is None or named is None or session.info is None:
        return None
    return session.turn(named[1]) if session.info.agent_id == agent_id else None


def _answers(
    message: SentMessage, asks: list[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Json]]:
    """What the message says to the open asks, each as a filled form. Data may name its ask by
    `call_id`, and otherwise answers the first; so does a text. Raises RpcError."""
    found: list[tuple[Mapping[str, Any], Json]] = []
    by_id = {ask["call_id"]: ask for ask in asks}
    for part in message.parts:
        if isinstance(part.data, Mapping):
            content = dict(part.data)
            call_id = content.pop("call_id", None) or asks[0]["call_id"]
            ask = by_id.get(call_id) if isinstance(call_id, str) else None
            if ask is None:
                raise RpcError(INVALID_PARAMS, "the task asks nothing under this call_id")
            found.append((ask, {"action": "accept", "content": content}))
    if not found and message.text:
        if asks[0]["kind"] == "approval":
            raise RpcError(INVALID_PARAMS, 'an approval is data: {"approved": true or false}')
        found.append((asks[0], {"action": "accept", "content": {"value": message.text}}))
    return found
