"""One request of A2A, over JSON-RPC or over HTTP+JSON, and the errors of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from ...codec.json import dumps
from ...model.principal import Principal
from ..json_rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    Json,
    RpcError,
    RpcId,
    rpc_refusal,
    rpc_result,
)
from ..streams import answer_json

#: The media type of 1.0.
A2A_JSON = "application/a2a+json"
NO_TASK, NOT_CANCELABLE, UNSUPPORTED, NO_TEXT, NO_VERSION = -32001, -32002, -32004, -32005, -32009
_DOMAIN = "a2a-protocol.org"
#: By code of JSON-RPC: the HTTP status, its name in gRPC, and the reason.
_OF_CODE: Mapping[int, tuple[int, str, str]] = {
    NO_TASK: (404, "NOT_FOUND", "TASK_NOT_FOUND"),
    NOT_CANCELABLE: (400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE"),
    UNSUPPORTED: (400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION"),
    NO_TEXT: (400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED"),
    NO_VERSION: (400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED"),
    INVALID_PARAMS: (400, "INVALID_ARGUMENT", "INVALID_PARAMS"),
    INVALID_REQUEST: (400, "INVALID_ARGUMENT", "INVALID_REQUEST"),
    PARSE_ERROR: (400, "INVALID_ARGUMENT", "INVALID_REQUEST"),
}


@dataclass(frozen=True, slots=True)
class A2aCall:
    """One request, with the parts of its connection. `rpc_id` None: over HTTP+JSON. `is_old`: the
    client speaks 0.3."""

    scope: Scope
    receive: Receive
    send: Send
    agent_id: str
    params: Mapping[str, Any]
    rpc_id: RpcId | None = None
    is_old: bool = False

    @property
    def principal(self) -> Principal:
        found: Principal = self.scope["state"]["principal"]
        return found

    @property
    def request_id(self) -> str:
        return str(self.scope["state"]["request_id"])

    async def answer(self, result: object) -> None:
        if self.rpc_id is None:
            value, media_type = result, A2A_JSON
        else:
            value, media_type = rpc_result(self.rpc_id, result), "application/json"
        await answer_json(self.scope, self.receive, self.send, value, media_type=media_type)


def rpc_error_body(rpc_id: RpcId | None, error: RpcError) -> Json:
    """A refusal over JSON-RPC. Those that A2A has codes for say their reason."""
    body = rpc_refusal(rpc_id, error)
    if error.code in _OF_CODE and error.data is None:
        body["error"]["data"] = [_reason(error)]
    return body


def rest_error(error: RpcError) -> tuple[int, Json]:
    """A refusal over HTTP+JSON, as `google.rpc.Status`, and its HTTP status."""
    status, name, _ = _OF_CODE.get(error.code, (error.status, "FAILED_PRECONDITION", ""))
    details = [_reason(error)]
    said = {"code": status, "status": name, "message": error.message, "details": details}
    return status, {"error": said}


def _reason(error: RpcError) -> Json:
    more = error.data if isinstance(error.data, Mapping) else {}
    _, _, reason = _OF_CODE.get(error.code, (0, "", str(more.get("code", "INTERNAL_ERROR"))))
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": _DOMAIN,
        "metadata": {name: _text(value) for name, value in more.items()},
    }


def _text(value: object) -> str:
    """A value of `metadata`, where the protocol has texts alone."""
    return value if isinstance(value, str) else dumps(value).decode()
