"""Every error that a client can get: its code, its HTTP status, and whether a retry helps.

    ApiError
    ├── Unauthenticated      UNAUTHENTICATED        401
    ├── Forbidden            FORBIDDEN              403
    ├── NotFound             NOT_FOUND              404
    │   ├── AgentNotFound    AGENT_NOT_FOUND
    │   └── SessionNotFound  SESSION_NOT_FOUND
    ├── MethodNotAllowed     METHOD_NOT_ALLOWED     405
    ├── Conflict             CONFLICT               409
    │   └── SessionBusy      SESSION_BUSY           409  retryable
    ├── PositionExpired      POSITION_EXPIRED       410
    ├── PayloadTooLarge      PAYLOAD_TOO_LARGE      413
    ├── UnsupportedMediaType UNSUPPORTED_MEDIA_TYPE 415
    ├── RangeNotSatisfiable  RANGE_NOT_SATISFIABLE  416
    ├── InvalidJson          INVALID_JSON           400
    ├── InvalidRequest       INVALID_REQUEST        422
    │   └── UpgradeRequired                         426
    ├── RateLimited          RATE_LIMITED           429  retryable
    ├── Unavailable          UNAVAILABLE            503  retryable
    └── Internal             INTERNAL               500  retryable

The codes that only a stream has (TIMEOUT, AGENT_FAILED, MODEL_UNAVAILABLE,
MAX_STEPS, RUNNER_LOST) are in STREAM_CODES. The table is PROTOCOL.md, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ApiError(Exception):
    """An error with a code for clients. `message` is written for them."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after = retry_after


class Unauthenticated(ApiError):
    code, status, retryable = "UNAUTHENTICATED", 401, False


class Forbidden(ApiError):
    code, status, retryable = "FORBIDDEN", 403, False


class NotFound(ApiError):
    code, status, retryable = "NOT_FOUND", 404, False


class AgentNotFound(NotFound):
    code = "AGENT_NOT_FOUND"


class SessionNotFound(NotFound):
    code = "SESSION_NOT_FOUND"


class MethodNotAllowed(ApiError):
    code, status, retryable = "METHOD_NOT_ALLOWED", 405, False


class Conflict(ApiError):
    code, status, retryable = "CONFLICT", 409, False


class SessionBusy(Conflict):
    code, retryable = "SESSION_BUSY", True


class PositionExpired(ApiError):
    """The requested position was trimmed, or belongs to another epoch."""

    code, status, retryable = "POSITION_EXPIRED", 410, False


class PayloadTooLarge(ApiError):
    code, status, retryable = "PAYLOAD_TOO_LARGE", 413, False


class UnsupportedMediaType(ApiError):
    code, status, retryable = "UNSUPPORTED_MEDIA_TYPE", 415, False


class RangeNotSatisfiable(ApiError):
    code, status, retryable = "RANGE_NOT_SATISFIABLE", 416, False


class InvalidJson(ApiError):
    code, status, retryable = "INVALID_JSON", 400, False


class InvalidRequest(ApiError):
    """The request is JSON but not valid. `details["fields"]` names each bad field."""

    code, status, retryable = "INVALID_REQUEST", 422, False

    @classmethod
    def field(cls, name: str, problem: str) -> InvalidRequest:
        """The error for one bad field. The message names the field too."""
        return cls(f"{name}: {problem}", details={"fields": {name: problem}})


class UpgradeRequired(InvalidRequest):
    """A plain request at the path of a WebSocket."""

    status = 426


class RateLimited(ApiError):
    code, status = "RATE_LIMITED", 429


class Unavailable(ApiError):
    code, status = "UNAVAILABLE", 503


class Internal(ApiError):
    pass


#: Codes of `error` chunks that have no HTTP status, with their retryability.
STREAM_CODES: Mapping[str, bool] = {
    "TIMEOUT": True,
    "AGENT_FAILED": False,
    "MODEL_UNAVAILABLE": True,
    "MAX_STEPS": False,
    "RUNNER_LOST": True,
}


class AgentError(Exception):
    """Raised by an agent whose turn failed, with a message for the client.

    The text of any other exception of an agent goes to the server's log only. `code` is one of
    STREAM_CODES, RATE_LIMITED or PAYLOAD_TOO_LARGE. `retry_after` is in seconds.
    """

    def __init__(
        self,
        message: str,
        code: str = "AGENT_FAILED",
        *,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        known = {**STREAM_CODES, "RATE_LIMITED": True, "PAYLOAD_TOO_LARGE": False}
        if code not in known:
            raise ValueError(f"unknown error code {code!r}; one of {', '.join(known)}")
        self.retryable = known[code] if retryable is None else retryable
        self.retry_after = retry_after
