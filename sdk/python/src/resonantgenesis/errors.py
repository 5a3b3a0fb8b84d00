"""Every error the SDK raises, one class per family of codes (PROTOCOL.md, section 3).

    StreamError
    ├── AuthenticationError   UNAUTHENTICATED
    ├── PermissionDenied      FORBIDDEN
    ├── NotFound              NOT_FOUND AGENT_NOT_FOUND SESSION_NOT_FOUND
    ├── InvalidRequest        INVALID_REQUEST INVALID_JSON METHOD_NOT_ALLOWED PAYLOAD_TOO_LARGE
    │                         UNSUPPORTED_MEDIA_TYPE RANGE_NOT_SATISFIABLE
    │   └── InvalidSettings   INVALID_REQUEST          said by the SDK; a ValueError too
    ├── Conflict              CONFLICT
    │   └── SessionBusy       SESSION_BUSY             retryable, once the running turn has ended
    ├── PositionExpired       POSITION_EXPIRED
    ├── RateLimited           RATE_LIMITED             retryable after `retry_after`
    ├── Unavailable           UNAVAILABLE              retryable after `retry_after`
    ├── InternalError         INTERNAL                 retryable
    ├── AgentFailed           AGENT_FAILED MAX_STEPS; retryable: MODEL_UNAVAILABLE RUNNER_LOST
    ├── TurnTimeout           TIMEOUT                  retryable; a TimeoutError too
    └── ConnectionLost        CONNECTION_LOST          retryable; a ConnectionError too

A code this version does not know becomes a plain StreamError that carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

#: The value of `retry_after`, in seconds, where the server asked to wait but named no time.
DEFAULT_RETRY_AFTER = 1.0


class StreamError(Exception):
    """A call or a stream failed.

    `code` is one of PROTOCOL.md's; `message` is meant for people; `retryable` says whether the
    same again may succeed; `retry_after` is in seconds, always a number for RATE_LIMITED;
    `request_id` finds the request in the server's log; `details` is the server's own object;
    `status` is the HTTP status, None for what came inside a stream. `session_id` and `position`
    name the place in the log where the stream stood, as far as it was known.
    """

    default_code: ClassVar[str] = "INTERNAL"
    default_retryable: ClassVar[bool] = False
    default_retry_after: ClassVar[float | None] = None

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        details: Mapping[str, Any] | None = None,
        status: int | None = None,
        session_id: str | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        self.request_id = request_id
        self.details: dict[str, Any] = dict(details or {})
        self.status = status
        self.session_id = session_id
        self.position = position

    def __str__(self) -> str:
        origin = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.message}{origin}"


class AuthenticationError(StreamError):
    """No valid credential came with the request, or it ended while a stream was open."""

    default_code = "UNAUTHENTICATED"


class PermissionDenied(StreamError):
    """The credential lacks the scope."""

    default_code = "FORBIDDEN"


class NotFound(StreamError):
    """The resource does not exist or is another organization's; the server does not say which."""

    default_code = "NOT_FOUND"


class InvalidRequest(StreamError):
    """The request is wrong as it stands; `details["fields"]` names each bad field."""

    default_code = "INVALID_REQUEST"


class InvalidSettings(InvalidRequest, ValueError):
    """An argument, or a variable of the environment, with which a client cannot work."""


class Conflict(StreamError):
    """The request contradicts the state: a reused Idempotency-Key, another goal for a join."""

    default_code = "CONFLICT"


class SessionBusy(Conflict):
    """A turn is running in the session; try again when it has ended, or use `if_busy`."""

    default_code = "SESSION_BUSY"
    default_retryable = True


class PositionExpired(StreamError):
    """The requested position was trimmed, or belongs to a history that the store no longer has."""

    default_code = "POSITION_EXPIRED"


class RateLimited(StreamError):
    """Too many requests at once; `retry_after` is always a number of seconds."""

    default_code = "RATE_LIMITED"
    default_retryable = True
    default_retry_after = DEFAULT_RETRY_AFTER
    retry_after: float


class Unavailable(StreamError):
    """The server, or something on the way to it, is starting, draining or full."""

    default_code = "UNAVAILABLE"
    default_retryable = True


class InternalError(StreamError):
    """The server failed; its log has the reason under `request_id`."""

    default_code = "INTERNAL"
    default_retryable = True


class AgentFailed(StreamError):
    """The turn failed: its agent, its model, its steps ran out, or its process died."""

    default_code = "AGENT_FAILED"


class TurnTimeout(StreamError, TimeoutError):
    """The turn outran its `timeout_seconds`."""

    default_code = "TIMEOUT"
    default_retryable = True


class ConnectionLost(StreamError, ConnectionError):
    """No connection within the retries, or it broke; a running turn goes on without us.

    `reached` is False where no connection could be made at all.
    """

    default_code = "CONNECTION_LOST"
    default_retryable = True

    def __init__(self, message: str = "", *, reached: bool = True, **more: Any) -> None:
        super().__init__(message, **more)
        self.reached = reached


#: code -> (class, retryable); `protocol/errors.yaml` holds the same table for every SDK.
CODES: Mapping[str, tuple[type[StreamError], bool]] = {
    "UNAUTHENTICATED": (AuthenticationError, False),
    "FORBIDDEN": (PermissionDenied, False),
    "NOT_FOUND": (NotFound, False),
    "AGENT_NOT_FOUND": (NotFound, False),
    "SESSION_NOT_FOUND": (NotFound, False),
    "METHOD_NOT_ALLOWED": (InvalidRequest, False),
    "UNSUPPORTED_MEDIA_TYPE": (InvalidRequest, False),
    "RANGE_NOT_SATISFIABLE": (InvalidRequest, False),
    "INVALID_JSON": (InvalidRequest, False),
    "INVALID_REQUEST": (InvalidRequest, False),
    "PAYLOAD_TOO_LARGE": (InvalidRequest, False),
    "CONFLICT": (Conflict, False),
    "SESSION_BUSY": (SessionBusy, True),
    "POSITION_EXPIRED": (PositionExpired, False),
    "RATE_LIMITED": (RateLimited, True),
    "UNAVAILABLE": (Unavailable, True),
    "INTERNAL": (InternalError, True),
    "TIMEOUT": (TurnTimeout, True),
    "AGENT_FAILED": (AgentFailed, False),
    "MODEL_UNAVAILABLE": (AgentFailed, True),
    "MAX_STEPS": (AgentFailed, False),
    "RUNNER_LOST": (AgentFailed, True),
    "CONNECTION_LOST": (ConnectionLost, True),
}
