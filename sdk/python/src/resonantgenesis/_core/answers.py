"""From an HTTP answer or an `error` chunk to the exception that says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..errors import CODES, StreamError, Unavailable
from .messages import Answer, is_event_stream, seconds

#: Statuses that come from things on the way (proxies, balancers) without our JSON body.
_STATUS_CODES: Mapping[int, str] = {
    400: "INVALID_REQUEST",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    407: "UNAVAILABLE",
    408: "UNAVAILABLE",
    409: "CONFLICT",
    410: "POSITION_EXPIRED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    416: "RANGE_NOT_SATISFIABLE",
    425: "UNAVAILABLE",
    429: "RATE_LIMITED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}

#: An HTTP answer to which the same request is sent again without asking anybody.
REPEATED = frozenset({408, 425, 429, 502, 503, 504})


def error_from_answer(answer: Answer) -> StreamError:
    """The error of an answer that is not a success, or not what was asked for."""
    if 300 <= answer.status < 400:
        return _redirected(answer)
    body = answer.object().get("error")
    fields: Mapping[str, Any] = body if isinstance(body, dict) else {}
    code = fields.get("code")
    code = code if isinstance(code, str) and code else _code_of_status(answer.status)
    message = fields.get("message")
    details = fields.get("details")
    retry_after = seconds(fields.get("retry_after"))
    if retry_after is None:
        retry_after = seconds(answer.headers.get("retry-after"))
    return _make(
        code,
        message if isinstance(message, str) else _message(answer),
        retry_after=retry_after,
        request_id=_text(fields.get("request_id")) or answer.headers.get("x-request-id"),
        details=details if isinstance(details, dict) else None,
        status=answer.status,
    )


def error_from_chunk(
    raw: Mapping[str, Any], *, session_id: str | None, position: int | None
) -> StreamError:
    """The error an `error` chunk (or frame) tells of."""
    retryable, details = raw.get("retryable"), raw.get("details")
    return _make(
        _text(raw.get("code")) or "INTERNAL",
        _text(raw.get("message")) or "the turn failed",
        retryable=retryable if isinstance(retryable, bool) else None,
        retry_after=seconds(raw.get("retry_after")),
        request_id=_text(raw.get("request_id")),
        details=details if isinstance(details, dict) else None,
        session_id=_text(raw.get("session_id")) or session_id,
        position=position,
    )


def unexpected(answer: Answer) -> StreamError:
    """For a success without the body it should have: something on the way answered instead."""
    kind = "an event stream" if is_event_stream(answer.headers) else _kind(answer)
    return Unavailable(
        f"the answer ({answer.status}) is {kind}, not what the server would send",
        status=answer.status,
        request_id=answer.headers.get("x-request-id"),
    )


def _make(code: str, message: str, *, retryable: bool | None = None, **more: Any) -> StreamError:
    kind, usually = CODES.get(code, (StreamError, False))
    return kind(message, code=code, retryable=usually if retryable is None else retryable, **more)


def _code_of_status(status: int) -> str:
    known = _STATUS_CODES.get(status)
    if known is not None:
        return known
    return "INTERNAL" if status >= 500 else "INVALID_REQUEST"


def _redirected(answer: Answer) -> StreamError:
    """Nothing here follows a redirection: the credential would go along, to whoever it names."""
    return _make(
        "INVALID_REQUEST",
        f"the server redirects ({answer.status}) to {_target(answer)}, which is not followed; "
        "base_url must be the final address",
        request_id=answer.headers.get("x-request-id"),
        status=answer.status,
    )


def _target(answer: Answer) -> str:
    """Where it points, without what may be a credential there."""
    try:
        parts = urlsplit(answer.headers.get("location", "").strip())
    except ValueError:
        return "an address that is none"
    place = urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    )
    shown = "".join(sign for sign in place if sign.isprintable())[:200]
    return shown or "nowhere"


def _message(answer: Answer) -> str:
    return f"HTTP status {answer.status}, answered with {_kind(answer)}"


def _kind(answer: Answer) -> str:
    return answer.headers.get("content-type", "").split(";")[0].strip() or "no content type"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
