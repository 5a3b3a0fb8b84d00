"""A client's message, in either generation of the protocol: what it says of itself and its call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from ...http.params import text_header
from ...model.errors import NotFound
from ...model.principal import Principal
from ..json_rpc import (
    INVALID_PARAMS,
    Json,
    RpcError,
    RpcMessage,
    is_rpc_id,
    rpc_result,
)
from ..names import digest_key
from ..streams import answer_json
from .encode import ToolCallInfo

MODERN = "2026-07-28"
#: Versions with `initialize`, newest first.
OLDER = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
#: Older clients take an event without data for a broken message.
PRIMED = OLDER[0]
SESSION = b"mcp-session-id"
#: The prefix of the session of a client that can ask a person, and of one that cannot.
ASKS, ASKS_NOT = "mcpa", "mcp"
_SESSION_ID = re.compile(rf"({ASKS}|{ASKS_NOT})_[0-9a-z]{{20}}")
META = "io.modelcontextprotocol/"
_CLIENT = META + "clientCapabilities"
_KEY = "io.resonantgenesis/idempotencyKey"
#: The version that has tasks, and the extension that has them after it.
WITH_TASKS = "2025-11-25"
TASKS = META + "tasks"
_HEADER_MISMATCH, _MISSING_CAPABILITY, _UNSUPPORTED_VERSION = -32020, -32021, -32022
#: The parameter that the header `Mcp-Name` repeats.
_NAMED = {
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}


@dataclass(frozen=True, slots=True)
class McpRequest:
    """One message of a client, with the parts of its connection."""

    scope: Scope
    receive: Receive
    send: Send
    message: RpcMessage
    is_modern: bool

    @property
    def principal(self) -> Principal:
        found: Principal = self.scope["state"]["principal"]
        return found

    @property
    def meta(self) -> Mapping[str, Any]:
        found = self.message.params.get("_meta")
        return found if isinstance(found, Mapping) else {}

    @property
    def mcp_session(self) -> str | None:
        """The id that `initialize` gave to a client up to 2025-11-25."""
        return text_header(self.scope, SESSION)

    @property
    def elicits(self) -> bool:
        """Whether the client can ask a person."""
        if self.is_modern:
            return fills_forms(self.meta.get(_CLIENT))
        return (self.mcp_session or "").startswith(ASKS + "_")

    @property
    def has_tasks(self) -> bool:
        """Whether the client knows tasks: as a part of 2025-11-25, or as the later extension."""
        if not self.is_modern:
            return version_of(self.scope) == WITH_TASKS
        capabilities = self.meta.get(_CLIENT)
        extensions = capabilities.get("extensions") if isinstance(capabilities, Mapping) else None
        return isinstance(extensions, Mapping) and TASKS in extensions

    @property
    def wants_task(self) -> bool:
        """Whether a call is to be a task. In 2026-07-28 the server decides: every client that
        knows tasks gets one."""
        is_asked = isinstance(self.message.params.get("task"), Mapping)
        return self.has_tasks and (self.is_modern or is_asked)

    def check_has_tasks(self) -> None:
        """Raises RpcError."""
        if not self.has_tasks:
            data: Json = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
            problem = "missing required client capability"
            raise RpcError(_MISSING_CAPABILITY, problem, status=400, data=data)

    async def answer(self, result: Json) -> None:
        body = rpc_result(self.message.id, result)
        await answer_json(self.scope, self.receive, self.send, body)


def check_session(scope: Scope) -> None:
    """Raises NotFound for the id of an MCP session that this server never gave. Its client then
    begins another, as the protocol says."""
    given = text_header(scope, SESSION)
    if given is not None and _SESSION_ID.fullmatch(given) is None:
        raise NotFound("there is no such MCP session; initialize another")


def version_of(scope: Scope) -> str | None:
    return text_header(scope, b"mcp-protocol-version")


def speaks_modern(scope: Scope, message: RpcMessage) -> bool:
    """Whether the message is one of 2026-07-28. Raises RpcError for a version that we do not speak,
    and where the headers contradict the body."""
    header, meta = version_of(scope), message.params.get("_meta")
    meta = meta if isinstance(meta, Mapping) else {}
    named = meta.get(META + "protocolVersion")
    if named is None and header in {None, *OLDER}:
        return False
    if message.rpc_id is None and header == MODERN:
        return True
    if header == MODERN and not {META + "protocolVersion", _CLIENT} <= meta.keys():
        problem = "params._meta lacks protocolVersion or clientCapabilities"
        raise RpcError(INVALID_PARAMS, problem, status=400)
    if named is not None:
        _check_headers(scope, message, named)
    if MODERN not in {header, named}:
        data = {"supported": [MODERN, *OLDER], "requested": header or named}
        raise RpcError(_UNSUPPORTED_VERSION, "unsupported protocol version", status=400, data=data)
    return True


def _check_headers(scope: Scope, message: RpcMessage, named: object) -> None:
    """Raises RpcError where a header, which proxies may go by, contradicts the body."""
    said = {b"mcp-protocol-version": named, b"mcp-method": message.method}
    if message.method == "tools/call":
        said[b"mcp-name"] = message.params.get("name")
    elif message.method in _NAMED and text_header(scope, b"mcp-name") is not None:
        said[b"mcp-name"] = message.params.get(_NAMED[message.method])
    for name, inside in said.items():
        if text_header(scope, name) != inside:
            problem = f"the header {name.decode()} does not match the body"
            raise RpcError(_HEADER_MISMATCH, problem, status=400)


def fills_forms(capabilities: object) -> bool:
    """Whether the client fills in forms; `{}` stands for forms alone."""
    found = capabilities.get("elicitation") if isinstance(capabilities, Mapping) else None
    return isinstance(found, Mapping) and (not found or "form" in found)


def call_info(request: McpRequest) -> ToolCallInfo:
    token = request.meta.get("progressToken")
    token = token if is_rpc_id(token) else None
    return ToolCallInfo(request.message.id, token, request.elicits, request.is_modern)


def call_key(request: McpRequest) -> str | None:
    """What makes a call made again the same call: the id of the request in its MCP session; in
    2026-07-28, which has no sessions, the key that the client gives."""
    if not request.is_modern:
        return request_key(request.scope, request.message.id)
    given = request.meta.get(_KEY)
    return given if isinstance(given, str) else text_header(request.scope, b"idempotency-key")


def request_key(scope: Scope, rpc_id: object) -> str | None:
    session_id = text_header(scope, SESSION)
    if session_id is None or not is_rpc_id(rpc_id):
        return None
    return digest_key("mcp", [session_id, json.dumps(rpc_id)])
