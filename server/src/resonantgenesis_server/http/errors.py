"""Errors as responses: the error body of PROTOCOL.md, section 3, on every path."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson
import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from .. import metrics
from ..log.base import LogError
from ..model.errors import (
    ApiError,
    Internal,
    InvalidJson,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RangeNotSatisfiable,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    UpgradeRequired,
)
from ..records.base import StoreError

log_ = structlog.get_logger("resonantgenesis.http")

#: `retry_after` of an error that must have one and was raised without.
DEFAULT_RETRY_AFTER = 1.0
#: Bad fields that one answer names, and characters of a field's name, which the client may choose.
MOST_ERRORS = 20
_LONGEST_NAME = 200


class ErrorDetail(BaseModel):
    code: str = Field(description="A code of the protocol's table; new ones may come.")
    message: str = Field(description="For people; its wording may change.")
    details: dict[str, Any] = Field(description="`fields` names each bad field of a 422.")
    request_id: str = Field(description="The same as the header X-Request-Id.")
    retry_after: float | None = Field(default=None, description="Seconds to wait.")


class ErrorBody(BaseModel):
    """Why a request was refused."""

    error: ErrorDetail


_RETRY_HEADER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
_DOCUMENTED: Mapping[int, dict[str, Any]] = {
    400: {"description": "The body is not JSON (INVALID_JSON)."},
    401: {
        "description": "No valid credential.",
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    },
    403: {"description": "The credential lacks the scope."},
    404: {"description": "Not found, or of another organization or subject."},
    405: {
        "description": "The path knows other methods.",
        "headers": {"Allow": {"schema": {"type": "string"}}},
    },
    409: {"description": "Conflicts with what is there."},
    410: {"description": "The place asked for was trimmed, or is of another epoch."},
    413: {"description": "Over a size limit."},
    415: {"description": "The body is not `application/json`."},
    416: {
        "description": "The range begins behind the end.",
        "headers": {"Content-Range": {"schema": {"type": "string"}}},
    },
    422: {"description": "Wrong fields; `error.details.fields` names them."},
    429: {"description": "Over a rate limit.", "headers": _RETRY_HEADER},
    500: {"description": "A defect of the server; its log has more under the request id."},
    503: {"description": "Starting, draining or overloaded.", "headers": _RETRY_HEADER},
}
#: `responses=` of a route.
Responses = dict[int | str, dict[str, Any]]
#: Statuses of every operation behind authentication, and of those with a JSON body.
_ALWAYS = (401, 403, 422, 429, 500, 503)
_WITH_BODY = (400, 413, 415)


def documented_errors(*statuses: int, body: bool = False) -> Responses:
    """The `responses=` of a route: its own statuses, and those of every route.

    `body`: those of a JSON body as well.
    """
    wanted = {*_ALWAYS, *(_WITH_BODY if body else ()), *statuses}
    return only_errors(*sorted(wanted))


def only_errors(*statuses: int) -> Responses:
    """The `responses=` of a route without authentication: exactly these statuses."""
    # Not `model=`: the framework would document it under the media type of the route's success.
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    return {status: {**_DOCUMENTED[status], "content": content} for status in statuses}


def add_error_schema(openapi: dict[str, Any]) -> dict[str, Any]:
    """Add the schema that `only_errors` refers to."""
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schema = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs"))
    schemas["ErrorBody"] = schema
    return openapi


def error_body(err: ApiError, request_id: str) -> bytes:
    """The JSON body. RATE_LIMITED and UNAVAILABLE always have a `retry_after`."""
    error: dict[str, Any] = {
        "code": err.code,
        "message": err.message,
        "details": err.details,
        "request_id": request_id,
    }
    retry_after = _retry_after(err)
    if retry_after is not None:
        error["retry_after"] = retry_after
    return orjson.dumps({"error": error}, default=str)


def error_headers(err: ApiError) -> dict[str, str]:
    """The headers that the status needs: WWW-Authenticate, Allow, Content-Range, Retry-After."""
    headers = {"Cache-Control": "no-store"}
    retry_after = _retry_after(err)
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    if isinstance(err, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(err, MethodNotAllowed):
        headers["Allow"] = ", ".join(err.details.get("allow", ()))
    if isinstance(err, UpgradeRequired):
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade"}
        headers["Sec-WebSocket-Version"] = "13"
    if isinstance(err, RangeNotSatisfiable) and "size" in err.details:
        headers["Content-Range"] = f"bytes */{err.details['size']}"
    return headers


def error_response(err: ApiError, request_id: str) -> Response:
    """The response to an error. It is an ASGI app, so routes and plain apps can send it."""
    metrics.refused(err.code)
    if err.status < 500:  # a failure of the server is logged where it happens
        log_.debug("request refused", request_id=request_id, code=err.code, status=err.status)
    return Response(
        error_body(err, request_id),
        status_code=err.status,
        headers=error_headers(err),
        media_type="application/json",
    )


def _retry_after(err: ApiError) -> float | None:
    if err.retry_after is None and isinstance(err, RateLimited | Unavailable):
        return DEFAULT_RETRY_AFTER
    return err.retry_after


def store_unusable(err: StoreError | LogError, request_id: str) -> Unavailable:
    """The error for clients. The reason goes to the log."""
    defect = err if isinstance(err, LogError) and err.is_defect else None
    log_.warning("store unusable", request_id=request_id, error=str(err), exc_info=defect)
    return Unavailable("the store cannot be used right now", retry_after=1.0)


def from_validation(err: RequestValidationError) -> InvalidRequest:
    """Name each bad field by its dotted name, without its place (body, query, path)."""
    return bad_fields(
        (_field_name(problem["loc"]), problem_text(problem)) for problem in err.errors()
    )


def bad_fields(problems: Iterable[tuple[str, str]]) -> InvalidRequest:
    """The error for bad fields and their problems; the first MOST_ERRORS of them."""
    fields: dict[str, str] = {}
    for name, text in problems:
        fields.setdefault(name[:_LONGEST_NAME], text)
        if len(fields) == MOST_ERRORS:
            break
    named = ", ".join(f"{name}: {text}" for name, text in list(fields.items())[:3])
    return InvalidRequest(named, details={"fields": fields})


def problem_text(problem: Mapping[str, Any]) -> str:
    """The text of one problem of a body, without the names of our classes."""
    if problem["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        return "must be a JSON object"
    return str(problem["msg"]).removeprefix("Value error, ")


def _field_name(loc: Sequence[int | str]) -> str:
    inner = loc[1:] if len(loc) > 1 else loc
    return ".".join(str(part) for part in inner)


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidJson,
    401: Unauthenticated,
    404: NotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
    503: Unavailable,
}


def method_not_allowed(known: Collection[str]) -> MethodNotAllowed:
    """The error of a path that has only these methods."""
    allow = sorted(known)
    return MethodNotAllowed(f"this path knows {', '.join(allow)}", details={"allow": allow})


def from_http_exception(err: HTTPException, allow: Collection[str] = ()) -> ApiError:
    """The framework's refusals with our codes; `allow` are the methods of the path."""
    kind = _BY_STATUS.get(err.status_code, Internal)
    if kind is NotFound:
        return NotFound("there is nothing at this path")
    if kind is MethodNotAllowed:
        return method_not_allowed(allow)
    if kind is Internal:
        return Internal("the server failed")
    return kind(str(err.detail))
