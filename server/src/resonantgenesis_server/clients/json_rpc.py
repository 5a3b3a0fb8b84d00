"""JSON-RPC 2.0, as MCP and A2A speak it over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.errors import ApiError

Json = dict[str, Any]
RpcId = str | int

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
#: A refusal for which the protocol has no code; `data.code` is ours.
SERVER_ERROR = -32000
#: Characters of an id that a client chooses.
_LONGEST_ID = 255


class RpcError(Exception):
    """A refusal in the protocol's own form, answered with this HTTP status."""

    def __init__(self, code: int, message: str, *, status: int = 200, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.data = data


@dataclass(frozen=True, slots=True)
class RpcMessage:
    """A request, a notification (`rpc_id` None), or the answer to a request of ours (`method` "",
    and `result`, which is None for an error)."""

    rpc_id: RpcId | None
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None

    @property
    def id(self) -> RpcId:
        """The id of a request."""
        if self.rpc_id is None:
            raise RpcError(INVALID_REQUEST, "the request has no id", status=400)
        return self.rpc_id


def message_of(value: object) -> RpcMessage:
    """The one message of a body. Raises RpcError for a batch or any other value."""
    if not isinstance(value, Mapping) or value.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, "the body must be one JSON-RPC 2.0 message", status=400)
    rpc_id, method, params = value.get("id"), value.get("method"), value.get("params") or {}
    if rpc_id is not None and not is_rpc_id(rpc_id):
        problem = f"an id is a whole number or at most {_LONGEST_ID} characters"
        raise RpcError(INVALID_REQUEST, problem, status=400)
    if "method" not in value and rpc_id is not None and ("result" in value or "error" in value):
        result = value.get("result")
        return RpcMessage(rpc_id, "", result=result if isinstance(result, Mapping) else None)
    if not isinstance(method, str) or not method or not isinstance(params, Mapping):
        raise RpcError(INVALID_REQUEST, "a request has a `method`, and `params`", status=400)
    return RpcMessage(rpc_id, method, params)


def is_rpc_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool)


def rpc_result(rpc_id: RpcId, result: object) -> Json:
    return {"jsonrpc": "2.0", "id": rpc_id, "result": result}


def rpc_refusal(rpc_id: RpcId | None, error: RpcError) -> Json:
    found: Json = {"code": error.code, "message": error.message}
    if error.data is not None:
        found["data"] = error.data
    return {"jsonrpc": "2.0", "id": rpc_id, "error": found}


def as_rpc_error(error: ApiError) -> RpcError:
    """What the client did wrong, in the protocol's form. Raises the error itself where HTTP says
    more: credentials, limits, and failures of the server."""
    if error.status in {401, 403, 429} or error.status >= 500:
        raise error
    code = INVALID_PARAMS if error.status in {413, 415, 422} else SERVER_ERROR
    if error.code == "INVALID_JSON":
        code = PARSE_ERROR
    data = {"code": error.code, **error.details}
    return RpcError(code, f"{error.code}: {error.message}", status=error.status, data=data)
