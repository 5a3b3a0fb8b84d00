"""`/mcp`: streamable HTTP of the Model Context Protocol, in the versions up to 2025-11-25 with
`initialize`, and in 2026-07-28, where each request stands for itself.

Nothing is kept between two requests. The id of an MCP session only names the requests in it, and
says whether the client can ask a person; the id of an event says which turn it is of.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...codec.json import dumps, loads
from ...codec.sse import OPENING
from ...http.api.session_models import ExecuteBody, validated
from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.cors import Cors
from ...http.errors import method_not_allowed
from ...http.params import text_header
from ...http.routing import FastRoute, fast_route
from ...http.waiting import waiting
from ...model.errors import AgentNotFound, ApiError, Forbidden, NotFound
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
    is_rpc_id,
    message_of,
    rpc_refusal,
    rpc_result,
)
from ..streams import ClientStreams, answer_json, digest_key, turn_named
from .encode import CallFrames, ToolCallInfo, place_of, tool_result
from .tools import (
    ASK,
    EXECUTE,
    READ_TOOLS,
    READS,
    WRITES,
    AskArguments,
    ExecuteArguments,
    agent_tool,
    session_tools,
)

PATH = "/mcp"
_PROTOCOL = "mcp"
MODERN = "2026-07-28"
#: Versions with `initialize`, newest first.
_OLDER = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
#: Older clients take an event without data for a broken message.
_PRIMED = _OLDER[0]
_SESSION = b"mcp-session-id"
#: The prefix of the session of a client that can ask a person, and of one that cannot.
_ASKS, _ASKS_NOT = "mcpa", "mcp"
_META = "io.modelcontextprotocol/"
_KEY = "io.resonantgenesis/idempotencyKey"
_HEADER_MISMATCH, _UNSUPPORTED_VERSION = -32020, -32022
_AGENTS = 100
#: Milliseconds after which a client may read a list again without asking.
_FRESH = 0
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_CAPABILITIES: Json = {"tools": {"listChanged": False}}
_INSTRUCTIONS = (
    "Each tool ask_NAME asks an agent and waits for its answer. Give the session_id of an answer to"
    " go on with its conversation. The other tools look at sessions."
)


class McpRoutes:
    """The routes of MCP."""

    def __init__(
        self, streams: ClientStreams, agents: AgentDirectory, origins: Collection[str]
    ) -> None:
        """`origins`: pages of these may call; of any other origin only those of this machine."""
        self._streams = streams
        self._service = streams.service
        self._agents = agents
        self._cors = Cors(origins)

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
            is_modern = _is_modern(scope, message)
            if message.rpc_id is None or not message.method:
                await self._hear(scope, message, is_modern=is_modern)
                await Response(status_code=202)(scope, receive, send)
                return
            if message.method == "tools/call":
                await self._call(scope, receive, send, message, is_modern=is_modern)
                return
            result = await self._answer(scope, message, is_modern=is_modern)
            await answer_json(scope, receive, send, rpc_result(message.id, result))
        except (ApiError, RpcError) as error:
            refusal = error if isinstance(error, RpcError) else as_rpc_error(error)
            body = rpc_refusal(message.rpc_id, refusal)
            await answer_json(scope, receive, send, body, status=refusal.status)

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET: the rest of a call whose answer broke off. We send nothing else unasked."""
        self._check_origin(scope)
        principal: Principal = scope["state"]["principal"]
        require(principal, WRITES)
        last = text_header(scope, b"last-event-id")
        if last is None:
            raise method_not_allowed({"POST"})
        place = place_of(last)
        if place is None:
            raise NotFound("no call has such an event")
        state = await self._service.authorize(principal, place.session_id)
        if state.turn(place.turn) is None:
            raise NotFound("no call has such an event")
        fold = CallFrames(place.session_id, place.turn, place.info)
        ref = TurnRef(place.session_id, place.turn)
        await self._write(scope, receive, send, ref, fold, place.info, place.count)

    async def leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        """DELETE: the end of an MCP session. Turns go on."""
        self._check_origin(scope)
        require(scope["state"]["principal"], WRITES)
        await Response(status_code=204)(scope, receive, send)

    def _check_origin(self, scope: Scope) -> None:
        """Raises Forbidden for a page that may have come here by a rebound name."""
        origin = text_header(scope, b"origin")
        if origin is None or self._cors.lists(origin) or urlsplit(origin).hostname in _LOCAL:
            return
        raise Forbidden("this origin is not in `cors_origins`")

    # -- requests --------------------------------------------------------------------------

    async def _answer(self, scope: Scope, message: RpcMessage, *, is_modern: bool) -> Json:
        principal: Principal = scope["state"]["principal"]
        match message.method:
            case "initialize" if not is_modern:
                return _initialized(scope, message.params)
            case "ping" if not is_modern:
                return {}
            case "server/discover" if is_modern:
                said = {"supportedVersions": [MODERN, *_OLDER], "capabilities": _CAPABILITIES}
                return _modern(said | {"instructions": _INSTRUCTIONS})
            case "tools/list":
                tools = await self._list(principal, message.params)
                return _modern(tools) if is_modern else tools
        # In 2026-07-28 the status says it as well.
        status = 404 if is_modern else 200
        raise RpcError(METHOD_NOT_FOUND, f"no method {message.method}", status=status)

    async def _list(self, principal: Principal, params: Mapping[str, Any]) -> Json:
        cursor = params.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise RpcError(INVALID_PARAMS, "a cursor is a string")
        tools = [] if cursor else session_tools(principal)
        if not (principal.allows(WRITES) and principal.allows("agents:read")):
            return {"tools": tools}
        page = await self._agents.list(principal.organization_id, limit=_AGENTS, cursor=cursor)
        tools += [
            agent_tool(agent) for agent in page.items if principal.agent_id in {None, agent.id}
        ]
        return {"tools": tools} | ({"nextCursor": page.next_cursor} if page.next_cursor else {})

    async def _call(
        self, scope: Scope, receive: Receive, send: Send, message: RpcMessage, *, is_modern: bool
    ) -> None:
        principal: Principal = scope["state"]["principal"]
        name, given = message.params.get("name"), message.params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise RpcError(INVALID_PARAMS, "a call has a `name`, and `arguments`")
        is_read = name in READ_TOOLS
        require(principal, READS if is_read else WRITES)
        try:
            if is_read:
                async with waiting(scope, receive, self._streams.watch) as caller:
                    found = await READ_TOOLS[name].call(self._service, principal, given, caller)
            elif name == EXECUTE:
                ref = await self._start(scope, message, None, given, is_modern=is_modern)
                found = {"session_id": ref.session_id, "turn": ref.turn}
            elif name.startswith(ASK):
                await self._ask(scope, receive, send, message, name, given, is_modern=is_modern)
                return
            else:
                raise RpcError(INVALID_PARAMS, f"no tool {name}")
            result = tool_result(dumps(found).decode(), found, is_modern=is_modern)
        except ApiError as error:
            # What a model can do better is a result.
            refusal = as_rpc_error(error)
            text = f"{refusal.message} {dumps(error.details).decode()}"
            result = tool_result(text, None, is_error=True, is_modern=is_modern)
        await answer_json(scope, receive, send, rpc_result(message.id, result))

    async def _ask(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        message: RpcMessage,
        name: str,
        given: Mapping[str, Any],
        *,
        is_modern: bool,
    ) -> None:
        """Run a turn of an agent, or go on with the one that asked."""
        info = _info(scope, message, is_modern=is_modern)
        state = message.params.get("requestState") if is_modern else None
        if state is not None:
            ref, skip = await self._go_on(scope, message.params, state, info)
        else:
            agent_id = name.removeprefix(ASK)
            try:
                await self._streams.check_agent(scope["state"]["principal"], agent_id)
            except AgentNotFound:
                raise RpcError(INVALID_PARAMS, f"no tool {name}") from None
            ref = await self._start(scope, message, agent_id, given, is_modern=is_modern)
            skip = 0
        fold = CallFrames(ref.session_id, ref.turn, info)
        await self._write(scope, receive, send, ref, fold, info, skip)

    async def _start(
        self,
        scope: Scope,
        message: RpcMessage,
        agent_id: str | None,
        given: Mapping[str, Any],
        *,
        is_modern: bool,
    ) -> TurnRef:
        """Start the turn of a call; the same call made again joins it."""
        kind = ExecuteArguments if agent_id is None else AskArguments
        fields = validated(kind, given).model_dump(exclude_none=True)
        if agent_id is not None:
            fields["agent_id"] = agent_id
        key = _key(scope, message, is_modern=is_modern)
        if is_modern and key is None and agent_id is not None:
            # In 2026-07-28 a client cancels a call by closing it.
            fields["on_disconnect"] = "cancel"
        request = validated(ExecuteBody, fields).request(self._streams.limits)
        return await self._streams.start(scope, request, None, key)

    async def _go_on(
        self, scope: Scope, params: Mapping[str, Any], state: object, info: ToolCallInfo
    ) -> tuple[TurnRef, int]:
        """Answer what the turn asked in an earlier call. Returns the turn, and how many of its
        messages came before the answer."""
        principal: Principal = scope["state"]["principal"]
        name, _, stop = str(state)[:200].partition("/")
        named = turn_named(name)
        if named is None or not (stop.isascii() and stop.isdigit()):
            raise RpcError(INVALID_PARAMS, "the requestState is not one of ours")
        ref = TurnRef(*named)
        session = await self._service.authorize(principal, ref.session_id)
        if session.turn(ref.turn) is None:
            raise NotFound("the turn of the requestState is gone")
        given = params.get("inputResponses")
        if isinstance(given, Mapping):
            for call_id, result in given.items():
                await self._input(scope, ref, call_id, result)
        fold, skip = CallFrames(ref.session_id, ref.turn, info), 0
        async for entry in self._streams.chunks(ref):
            skip += len(fold.frames(entry.kind, loads(entry.body)))
            if fold.stops == int(stop):
                break
        return ref, skip

    async def _write(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ref: TurnRef,
        fold: CallFrames,
        info: ToolCallInfo,
        skip: int,
    ) -> None:
        is_primed = not info.is_modern and _version(scope) == _PRIMED
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

    # -- what needs no answer --------------------------------------------------------------

    async def _hear(self, scope: Scope, message: RpcMessage, *, is_modern: bool) -> None:
        """A notification, or the answer to a request of ours."""
        principal: Principal = scope["state"]["principal"]
        if is_modern:
            return
        if message.method == "notifications/cancelled":
            key = _request_key(scope, message.params.get("requestId"))
            require(principal, WRITES)
            try:
                if key is not None:
                    await self._service.cancel_by_key(principal, key)
            except NotFound:
                pass  # it is over, or never came here
        elif not message.method:
            require(principal, WRITES)
            name, _, call_id = str(message.rpc_id).partition(":")
            named = turn_named(name)
            if named is not None:
                await self._input(scope, TurnRef(*named), call_id, message.result)

    async def _input(self, scope: Scope, ref: TurnRef, call_id: str, result: object) -> None:
        """Give the turn a person's answer, if it still asks for it."""
        principal: Principal = scope["state"]["principal"]
        session = await self._service.get(principal, ref.session_id)
        for ask in session.get("waiting", ()):
            if ask["call_id"] == call_id:
                answer = answer_of(ask, result if isinstance(result, Mapping) else None)
                await self._service.input(
                    principal, ref.session_id, answer, request_id=scope["state"]["request_id"]
                )


def _version(scope: Scope) -> str | None:
    return text_header(scope, b"mcp-protocol-version")


def _is_modern(scope: Scope, message: RpcMessage) -> bool:
    """Whether the message is one of 2026-07-28. Raises RpcError for a version that we do not speak,
    and where the headers contradict the body."""
    meta = message.params.get("_meta")
    header = _version(scope)
    named = meta.get(_META + "protocolVersion") if isinstance(meta, Mapping) else None
    if named is None and header in {None, *_OLDER}:
        return False
    if message.rpc_id is None and header == MODERN:
        return True
    missing = [
        _META + name
        for name in ("protocolVersion", "clientCapabilities")
        if not isinstance(meta, Mapping) or _META + name not in meta
    ]
    if missing and header == MODERN:
        problem = f"params._meta lacks {', '.join(missing)}"
        raise RpcError(INVALID_PARAMS, problem, status=400)
    said = {"mcp-protocol-version": (header, named)}
    said["mcp-method"] = (text_header(scope, b"mcp-method"), message.method)
    if message.method == "tools/call":
        said["mcp-name"] = (text_header(scope, b"mcp-name"), message.params.get("name"))
    if named is not None:
        for name, (outside, inside) in said.items():
            if outside != inside:
                problem = f"the header {name} does not match the body"
                raise RpcError(_HEADER_MISMATCH, problem, status=400)
    if MODERN not in {header, named}:
        data = {"supported": [MODERN, *_OLDER], "requested": header or named}
        raise RpcError(_UNSUPPORTED_VERSION, "unsupported protocol version", status=400, data=data)
    return True


def _modern(result: Json) -> Json:
    """A list of 2026-07-28, which says how long and for whom it may be kept."""
    server = {_META + "serverInfo": _server_info()}
    kept = {"ttlMs": _FRESH, "cacheScope": "private"}
    return {"resultType": "complete", **kept, **result, "_meta": server}


def _server_info() -> Json:
    return {"name": "resonantgenesis", "version": version("resonantgenesis-server")}


def _initialized(scope: Scope, params: Mapping[str, Any]) -> Json:
    asked = params.get("protocolVersion")
    session_id = new_id(_ASKS if _elicits(params.get("capabilities")) else _ASKS_NOT)
    scope["state"]["headers"].append((_SESSION, session_id.encode()))
    return {
        "protocolVersion": asked if asked in _OLDER else _OLDER[0],
        "capabilities": _CAPABILITIES,
        "serverInfo": _server_info(),
        "instructions": _INSTRUCTIONS,
    }


def _elicits(capabilities: object) -> bool:
    """Whether the client fills in forms; `{}` stands for forms alone."""
    found = capabilities.get("elicitation") if isinstance(capabilities, Mapping) else None
    return isinstance(found, Mapping) and (not found or "form" in found)


def _info(scope: Scope, message: RpcMessage, *, is_modern: bool) -> ToolCallInfo:
    meta = message.params.get("_meta")
    meta = meta if isinstance(meta, Mapping) else {}
    token = meta.get("progressToken")
    if is_modern:
        elicits = _elicits(meta.get(_META + "clientCapabilities"))
    else:
        elicits = (text_header(scope, _SESSION) or "").startswith(_ASKS + "_")
    return ToolCallInfo(message.id, token if is_rpc_id(token) else None, elicits, is_modern)


def _key(scope: Scope, message: RpcMessage, *, is_modern: bool) -> str | None:
    """What makes a call made again the same call: the id of the request in its MCP session; in
    2026-07-28, which has no sessions, the key that the client gives."""
    if not is_modern:
        return _request_key(scope, message.id)
    given = message.params.get("_meta", {}).get(_KEY)
    return given if isinstance(given, str) else text_header(scope, b"idempotency-key")


def _request_key(scope: Scope, rpc_id: object) -> str | None:
    session_id = text_header(scope, _SESSION)
    if session_id is None or not is_rpc_id(rpc_id):
        return None
    return digest_key(_PROTOCOL, [session_id, json.dumps(rpc_id)])
