"""The errors of A2A, over JSON-RPC and over HTTP+JSON."""

from __future__ import annotations

from collections.abc import Mapping

from ...codec.json import dumps
from ..json_rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    Json,
    RpcError,
    RpcId,
    rpc_refusal,
)

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


def rpc_error_body(rpc_id: RpcId | None, error: RpcError) -> Json:
    """A refusal over JSON-RPC. Those that A2A has codes for say their reason."""
    body = rpc_refusal(rpc_id, error)
    if error.code in _OF_CODE and error.data is None:
        body["error"]["data"] = [_reason(error)]
    return body


def rest_error(error: RpcError, *, is_old: bool) -> tuple[int, Json]:
    """A refusal over HTTP+JSON, and its HTTP status: as `google.rpc.Status`, in 0.3 with the code
    of JSON-RPC and the name that the official SDKs have for it (`TaskNotFoundError`)."""
    status, name, _ = _OF_CODE.get(error.code, (error.status, "FAILED_PRECONDITION", ""))
    details = [_reason(error)]
    if is_old:
        kind = details[0]["reason"].title().replace("_", "") + "Error"
        return status, {"code": error.code, "type": kind, "message": error.message}
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
