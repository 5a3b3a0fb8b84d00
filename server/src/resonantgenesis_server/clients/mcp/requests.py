"""A client's message, in either generation of the protocol: what it says of itself and its call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from ...http.params import text_header
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
SESSION = b"mcp-session-id"
#: The prefix of the session of a client that can ask a person, and of one that cannot.
ASKS, ASKS_NOT = "mcpa", "mcp"
META = "io.modelcontextprotocol/"
_CLIENT = META + "clientCapabilities"
_KEY = "io.resonantgenesis/idempotencyKey"
_HEADER_MISMATCH, _UNSUPPORTED_VERSION = -32020, -32022


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

    async def answer(self, result: Json) -> None:
        body = rpc_result(self.message.id, result)
        await answer_json(self.scope, self.receive, self.send, body)


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
    if request.is_modern:
        elicits = fills_forms(request.meta.get(_CLIENT))
    else:
        elicits = (text_header(request.scope, SESSION) or "").startswith(ASKS + "_")
    token = token if is_rpc_id(token) else None
    return ToolCallInfo(request.message.id, token, elicits, request.is_modern)


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
