"""`/mcp`: streamable HTTP of the Model Context Protocol, in the versions up to 2025-11-25 with
`initialize`, and in 2026-07-28, where each request stands for itself.

Nothing is kept between two requests but what clients up to 2025-11-25 watch. The id of an MCP
session names the requests in it, and says whether the client can ask a person; the id of an event
says which turn it is of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...calls import Calls
from ...codec.json import dumps, loads
from ...codec.sse import OPENING
from ...events.service import EventService
from ...http.api.session_models import ExecuteBody, validated
from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.cors import Cors
from ...http.errors import method_not_allowed
from ...http.params import text_header
from ...http.routing import FastRoute, fast_route
from ...http.waiting import waiting
from ...model.errors import ApiError, Forbidden, NotFound
from ...model.ids import new_id
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...sessions.request import TurnRef
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
)
from ..names import turn_named
from ..streams import ClientStreams, answer_json
from .encode import CallFrames, ToolCallInfo, place_of, tool_result
from .requests import (
    ASKS,
    ASKS_NOT,
    META,
    MODERN,
    OLDER,
    PRIMED,
    SESSION,
    TASKS,
    WITH_TASKS,
    McpRequest,
    call_info,
    call_key,
    check_session,
    fills_forms,
    request_key,
    speaks_modern,
    version_of,
)
from .resources import TEMPLATES, SessionResources
from .tasks import CAPABILITY, TaskReader, task_id_of
from .tools import (
    ASK,
    EXECUTE,
    READ_TOOLS,
    READS,
    WRITES,
    AskArguments,
    ExecuteArguments,
    agent_named,
    agent_tool,
    session_tools,
)
from .updates import Updates

PATH = "/mcp"
_AGENTS = 100
#: Milliseconds after which a client may read a list again without asking.
_FRESH = 0
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_CAPABILITIES: Json = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": False},
}
_MODERN_CAPABILITIES: Json = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "extensions": {TASKS: {}},
}
_INSTRUCTIONS = (
    "Each tool ask_NAME asks an agent and waits for its answer. Give the session_id of an answer to"
    " go on with its conversation. The other tools look at sessions."
)
#: Seconds that a turn may take to end after `tasks/cancel`.
_CANCEL_SECONDS = 5.0


class McpRoutes:
    """The routes of MCP."""

    def __init__(
        self,
        streams: ClientStreams,
        agents: AgentDirectory,
        origins: Collection[str],
        events: EventService,
        calls: Calls | None,
    ) -> None:
        """`origins`: pages of these may call; of any other origin only those of this machine.
        `calls` reaches the other nodes of a store that has some."""
        self._streams = streams
        self._service = streams.service
        self._agents = agents
        self._cors = Cors(origins)
        self._tasks = TaskReader(streams.service)
        self._resources = SessionResources(streams.service)
        self._updates = Updates(streams, events, self._tasks, self._resources, calls)

    def routes(self) -> list[FastRoute]:
        return [
            fast_route("POST", PATH, self.post),
            fast_route("GET", PATH, self.resume),
            fast_route("DELETE", PATH, self.leave),
        ]

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One message of a client."""
        self._check_origin(scope)
        message = RpcMessage(None, "")
        try:
            value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
            message = message_of(value)
            request = McpRequest(scope, receive, send, message, speaks_modern(scope, message))
            if not request.is_modern and message.method != "initialize":
                check_session(scope)
            if message.rpc_id is None or not message.method:
                await self._hear(request)
                await Response(status_code=202)(scope, receive, send)
            elif message.method == "tools/call":
                await self._call(request)
            elif message.method == "tasks/result" and not request.is_modern:
                await self._task_result(request)
            elif message.method == "subscriptions/listen" and request.is_modern:
                await self._updates.listen(request)
            else:
                await request.answer(await self._result(request))
        except (ApiError, RpcError) as error:
            refusal = error if isinstance(error, RpcError) else as_rpc_error(error)
            body = rpc_refusal(message.rpc_id, refusal)
            await answer_json(scope, receive, send, body, status=refusal.status)

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET: the rest of a call whose answer broke off, else what the MCP session watches."""
        self._check_origin(scope)
        check_session(scope)
        principal: Principal = scope["state"]["principal"]
        last, mcp_session = text_header(scope, b"last-event-id"), text_header(scope, SESSION)
        if mcp_session is not None and (last is None or last.startswith("c_")):
            await self._updates.push(scope, receive, send, mcp_session, last)
            return
        place = None if last is None else place_of(last)
        require(principal, READS if place is not None and place.info.is_task else WRITES)
        if last is None:
            raise method_not_allowed({"POST"})
        if place is None:
            raise NotFound("no call has such an event")
        state = await self._service.authorize(principal, place.session_id)
        if state.turn(place.turn) is None:
            raise NotFound("no call has such an event")
        ref = TurnRef(place.session_id, place.turn)
        await self._write(scope, receive, send, ref, place.info, place.count)

    async def leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        """DELETE: the end of an MCP session. Turns go on."""
        self._check_origin(scope)
        require(scope["state"]["principal"], WRITES)
        check_session(scope)
        await Response(status_code=204)(scope, receive, send)

    def _check_origin(self, scope: Scope) -> None:
        """Raises Forbidden for a page that may have come here by a rebound name."""
        origin = text_header(scope, b"origin")
        if origin is None or self._cors.lists(origin) or _is_local(origin):
            return
        raise Forbidden("this origin is not in `cors_origins`")

    # -- requests --------------------------------------------------------------------------

    async def _result(self, request: McpRequest) -> Json:
        """The result of every method that is answered at once."""
        params, method = request.message.params, request.message.method
        if request.is_modern:
            return await self._modern_result(request)
        match method:
            case "initialize":
                return _initialized(request.scope, params)
            case "ping":
                return {}
            case "resources/subscribe" | "resources/unsubscribe":
                return await self._updates.watch(request)
            case "tasks/get" | "tasks/cancel" | "tasks/list":
                return await self._task(request)
        return await self._list(request)

    async def _modern_result(self, request: McpRequest) -> Json:
        match request.message.method:
            case "server/discover":
                said = {"supportedVersions": [MODERN, *OLDER], "capabilities": _MODERN_CAPABILITIES}
                return _modern(said | {"instructions": _INSTRUCTIONS})
            case "tasks/get" | "tasks/cancel" | "tasks/update":
                return {"resultType": "complete", **await self._extension_task(request)}
        return _modern(await self._list(request))

    async def _list(self, request: McpRequest) -> Json:
        """What both generations of the protocol list and read."""
        principal, params = request.principal, request.message.params
        if request.message.method == "tools/list":
            return await self._tools(request, _cursor(params))
        if not request.message.method.startswith("resources/"):
            raise _no_method(request)
        require(principal, READS)
        match request.message.method:
            case "resources/list":
                return await self._resources.page(principal, _cursor(params))
            case "resources/templates/list":
                return TEMPLATES
            case "resources/read":
                uri = params.get("uri")
                return await self._resources.read(principal, uri, is_modern=request.is_modern)
        raise _no_method(request)

    async def _tools(self, request: McpRequest, cursor: str | None) -> Json:
        principal = request.principal
        tools = [] if cursor else session_tools(principal)
        if not (principal.allows(WRITES) and principal.allows("agents:read")):
            return {"tools": tools}
        page = await self._agents.list(principal.organization_id, limit=_AGENTS, cursor=cursor)
        tools += [
            agent_tool(agent, has_tasks=request.has_tasks)
            for agent in page.items
            if principal.agent_id in {None, agent.id}
        ]
        return {"tools": tools} | ({"nextCursor": page.next_cursor} if page.next_cursor else {})

    async def _call(self, request: McpRequest) -> None:
        """Call a tool. What a model can do better is a result, too."""
        params = request.message.params
        name, given = params.get("name"), params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise RpcError(INVALID_PARAMS, "a call has a `name`, and `arguments`")
        tool = READ_TOOLS.get(name)
        require(request.principal, READS if tool is not None else WRITES)
        try:
            if name.startswith(ASK):
                await self._ask(request, name, given)
                return
            if request.wants_task and not request.is_modern:
                raise RpcError(METHOD_NOT_FOUND, f"the tool {name} runs no task")
            if tool is not None:
                async with waiting(request.scope, request.receive, self._streams.watch) as caller:
                    found = await tool.call(self._service, request.principal, given, caller)
            elif name == EXECUTE:
                ref = await self._start(request, None, given)
                found = {"session_id": ref.session_id, "turn": ref.turn}
            else:
                raise RpcError(INVALID_PARAMS, f"no tool {name}")
            result = tool_result(dumps(found).decode(), found, is_modern=request.is_modern)
        except ApiError as error:
            text = f"{as_rpc_error(error).message} {dumps(error.details).decode()}"
            result = tool_result(text, None, is_error=True, is_modern=request.is_modern)
        await request.answer(result)

    async def _ask(self, request: McpRequest, name: str, given: Mapping[str, Any]) -> None:
        """Run a turn of an agent, or go on with the one that asked."""
        info = call_info(request)
        state = request.message.params.get("requestState") if request.is_modern else None
        if state is not None:
            ref, skip = await self._go_on(request, str(state), info)
        else:
            agent_id = await agent_named(self._agents, request.principal, name)
            if agent_id is None:
                raise RpcError(INVALID_PARAMS, f"no tool {name}")
            ref, skip = await self._start(request, agent_id, given), 0
            if request.wants_task:
                await request.answer(await self._new_task(request, ref))
                return
        await self._write(request.scope, request.receive, request.send, ref, info, skip)

    async def _start(
        self, request: McpRequest, agent_id: str | None, given: Mapping[str, Any]
    ) -> TurnRef:
        """Start the turn of a call; the same call made again joins it."""
        kind = ExecuteArguments if agent_id is None else AskArguments
        fields = validated(kind, given).model_dump(exclude_none=True)
        key = call_key(request)
        if agent_id is not None:
            fields["agent_id"] = agent_id
            if request.is_modern and key is None and not request.wants_task:
                # In 2026-07-28 a client cancels a call by closing it.
                fields["on_disconnect"] = "cancel"
        turn_request = validated(ExecuteBody, fields).request(self._streams.limits)
        return await self._streams.start(request.scope, turn_request, None, key)

    async def _go_on(
        self, request: McpRequest, state: str, info: ToolCallInfo
    ) -> tuple[TurnRef, int]:
        """Answer what the turn asked in an earlier call. Returns the turn, and how many of its
        messages came before the answer."""
        name, _, stop = state[:200].partition("/")
        named = turn_named(name)
        if named is None or not (stop.isascii() and stop.isdigit()):
            raise RpcError(INVALID_PARAMS, "the requestState is not one of ours")
        ref = TurnRef(*named)
        session = await self._service.authorize(request.principal, ref.session_id)
        if session.turn(ref.turn) is None:
            raise NotFound("the turn of the requestState is gone")
        await self._inputs(request, ref)
        fold = CallFrames(ref.session_id, ref.turn, info)
        count = asked = answered = 0
        async for entry in self._streams.chunks(ref):
            before = count
            count += len(fold.frames(entry.kind, loads(entry.body)))
            if fold.stops == int(stop) and not answered:
                asked, answered = before, count
        if not answered:
            raise RpcError(INVALID_PARAMS, "the requestState is not of what this turn asks")
        # Where the turn still waits for an answer to that, the question comes again.
        session = await self._service.authorize(request.principal, ref.session_id)
        turn = session.turn(ref.turn)
        is_open = fold.stops == int(stop) and turn is not None and bool(turn.asks)
        return ref, asked if is_open else answered

    async def _write(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ref: TurnRef,
        info: ToolCallInfo,
        skip: int,
    ) -> None:
        fold = CallFrames(ref.session_id, ref.turn, info)
        is_primed = not info.is_modern and version_of(scope) == PRIMED
        await self._streams.write(
            scope,
            receive,
            send,
            ref,
            fold,
            skip=skip,
            opening=fold.opening(skip) if is_primed else OPENING,
            # The client is asked in mid-call.
            waits=info.elicits and not info.is_modern,
        )

    # -- tasks -----------------------------------------------------------------------------

    async def _new_task(self, request: McpRequest, ref: TurnRef) -> Json:
        """The answer to a call that runs as a task."""
        task_id = task_id_of(ref)
        if request.is_modern:
            return {"resultType": "task", **await self._tasks.seed(request.principal, task_id)}
        await self._updates.watch_task(request, task_id)
        return {"task": await self._tasks.task(request.principal, task_id)}

    async def _task(self, request: McpRequest) -> Json:
        """Tasks as 2025-11-25 has them."""
        principal, params = request.principal, request.message.params
        task_id = params.get("taskId")
        if request.message.method == "tasks/cancel":
            require(principal, WRITES)
            ref = await self._tasks.open_ref(principal, task_id)
            await self._service.cancel(principal, ref.session_id, ref.turn)
            await self._service.result(ref, _CANCEL_SECONDS)
            return await self._tasks.task(principal, task_id)
        require(principal, READS)
        if request.message.method == "tasks/list":
            return await self._tasks.page(principal, _cursor(params))
        return await self._tasks.task(principal, task_id)

    async def _task_result(self, request: McpRequest) -> None:
        """The result of a task, once it has ended; meanwhile it asks what the turn asks."""
        require(request.principal, READS)
        ref = await self._tasks.ref(request.principal, request.message.params.get("taskId"))
        info = replace(call_info(request), is_task=True)
        await self._write(request.scope, request.receive, request.send, ref, info, 0)

    async def _extension_task(self, request: McpRequest) -> Json:
        """Tasks as the extension of 2026-07-28 has them."""
        request.check_has_tasks()
        principal, params = request.principal, request.message.params
        task_id = params.get("taskId")
        if request.message.method == "tasks/get":
            require(principal, READS)
            return await self._tasks.detailed(principal, task_id, elicits=request.elicits)
        require(principal, WRITES)
        ref = await self._tasks.ref(principal, task_id)
        if request.message.method == "tasks/cancel":
            await self._service.cancel(principal, ref.session_id, ref.turn)
        else:
            await self._inputs(request, ref)
        return {}

    async def _inputs(self, request: McpRequest, ref: TurnRef) -> None:
        """Give the turn the answers in the request."""
        given = request.message.params.get("inputResponses")
        if isinstance(given, Mapping):
            for call_id, result in given.items():
                await self._input(request, ref, call_id, result)

    # -- what needs no answer --------------------------------------------------------------

    async def _hear(self, request: McpRequest) -> None:
        """A notification, or the answer to a request of ours. In 2026-07-28 there are none."""
        message = request.message
        if request.is_modern:
            return
        if message.method == "notifications/cancelled":
            require(request.principal, WRITES)
            key = request_key(request.scope, message.params.get("requestId"))
            # A turn that is not found is over, or never came here.
            with contextlib.suppress(NotFound):
                if key is not None:
                    await self._service.cancel_by_key(request.principal, key)
        elif not message.method:
            require(request.principal, WRITES)
            name, _, call_id = str(message.rpc_id).partition(":")
            named = turn_named(name)
            if named is not None:
                await self._input(request, TurnRef(*named), call_id, message.result)

    async def _input(self, request: McpRequest, ref: TurnRef, call_id: str, result: object) -> None:
        """Give the turn a person's answer, if it still asks for it."""
        session = await self._service.get(request.principal, ref.session_id)
        for ask in session.get("waiting", ()):
            if ask["call_id"] == call_id:
                answer = answer_of(ask, result if isinstance(result, Mapping) else None)
                await self._service.input(
                    request.principal,
                    ref.session_id,
                    replace(answer, turn=ref.turn),
                    request_id=request.scope["state"]["request_id"],
                )


def _no_method(request: McpRequest) -> RpcError:
    problem = f"no method {request.message.method}"
    # In 2026-07-28 the status says it as well.
    return RpcError(METHOD_NOT_FOUND, problem, status=404 if request.is_modern else 200)


def _is_local(origin: str) -> bool:
    try:
        return urlsplit(origin).hostname in _LOCAL
    except ValueError:  # no address at all
        return False


def _modern(result: Json) -> Json:
    """A list of 2026-07-28, which says how long and for whom it may be kept."""
    server = {META + "serverInfo": _server_info()}
    kept = {"ttlMs": _FRESH, "cacheScope": "private"}
    return {"resultType": "complete", **kept, **result, "_meta": server}


def _server_info() -> Json:
    return {"name": "resonantgenesis", "version": version("resonantgenesis-server")}


def _initialized(scope: Scope, params: Mapping[str, Any]) -> Json:
    asked = params.get("protocolVersion")
    spoken = asked if asked in OLDER else OLDER[0]
    session_id = new_id(ASKS if fills_forms(params.get("capabilities")) else ASKS_NOT)
    scope["state"]["headers"].append((SESSION, session_id.encode()))
    return {
        "protocolVersion": spoken,
        "capabilities": {**_CAPABILITIES, "tasks": CAPABILITY}
        if spoken == WITH_TASKS
        else _CAPABILITIES,
        "serverInfo": _server_info(),
        "instructions": _INSTRUCTIONS,
    }


def _cursor(params: Mapping[str, Any]) -> str | None:
    cursor = params.get("cursor")
    if cursor is not None and not isinstance(cursor, str):
        raise RpcError(INVALID_PARAMS, "a cursor is a string")
    return cursor
