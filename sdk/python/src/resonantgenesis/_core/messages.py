"""Requests, answers and calls as values, and the errors of answers. No network library."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from ..errors import CODES, StreamError, Unavailable

T_co = TypeVar("T_co", covariant=True)

#: A time or a cursor, as the server takes it, or a datetime with a time zone.
Place = str | datetime | None
#: How long the server may hold a poll, in seconds: below the 60 at which proxies cut.
POLL_WAIT = 25
POLL_LIMIT = 500
#: Seconds between polls that find something: 240 a minute, well below the usual 600 per key.
POLL_PACE = 0.25
#: A proxy that compresses also collects; streams ask for neither.
SSE: dict[str, str] = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
#: Read no more of an answer that is not a stream: a poll of 500 chunks of 256 KiB, escaped.
MAX_ANSWER = 256 * 1024 * 1024


def new_key() -> str:
    """A fresh Idempotency-Key."""
    return uuid.uuid4().hex


def segment(text: str) -> str:
    """`text` as one segment of a path, whatever it contains. Raises ValueError where it cannot."""
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is not an id")
    return quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Request:
    """One request below the base URL, credential aside.

    `stream`: the answer is read as it comes. `patience` is added to the time the answer may take,
    for requests that ask the server to wait. `binary`: the answer, or the body, which is given
    apart, is a file.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    patience: float = 0.0
    binary: bool = False

    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.params)}" if self.params else self.path

    def content(self) -> bytes | None:
        """The body's bytes; NaN and infinity are refused with ValueError, JSON has none."""
        if self.body is None:
            return None
        return json.dumps(self.body, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body's value. Raises ValueError if it is not JSON."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def object(self) -> dict[str, Any]:
        """The body's object; empty for anything else, whatever a proxy put there."""
        try:
            value = self.json()
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """A request and the reader of its answer's object."""

    request: Request
    read: Callable[[dict[str, Any]], T_co]


def place_of(place: Place, name: str = "since") -> str | None:
    """A place as a string of the wire. Raises ValueError for a datetime without a time zone."""
    if not isinstance(place, datetime):
        return place
    if place.tzinfo is None:
        raise ValueError(f"{name}: a datetime needs a time zone, as in datetime.now(UTC)")
    return place.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def without_none(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def query(**fields: str | int | None) -> dict[str, str]:
    """Query parameters of the fields that are not None."""
    return {name: str(value) for name, value in fields.items() if value is not None}


def make(path: str, body: Mapping[str, Any], key: str | None = None) -> Request:
    """A POST that makes something, repeatable by its key."""
    return Request("POST", path, body=body, headers={"Idempotency-Key": key or new_key()})


def is_opened(request: Request, status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is the stream that `request` asked for."""
    if request.binary:
        return status in (200, 206)
    return status == 200 and is_event_stream(headers)


def is_event_stream(headers: Mapping[str, str]) -> bool:
    """Whether `headers` (lower case) announce server-sent events."""
    return headers.get("content-type", "").split(";")[0].strip().lower() == "text/event-stream"


def seconds(value: object, now: datetime | None = None) -> float | None:
    """`Retry-After` or `retry_after`: seconds as number or text, or an HTTP date."""
    number = _number(value)
    if number is None and isinstance(value, str):
        number = _until(value, now or datetime.now(UTC))
    if number is None or not math.isfinite(number):
        return None
    return max(0.0, number)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()


#: Codes of statuses that a proxy or balancer answers with, without our JSON body.
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

#: Statuses after which a request is repeated.
REPEATED = frozenset({408, 425, 429, 502, 503, 504})


def error_from_answer(answer: Answer) -> StreamError:
    """The error of an answer that is not a success."""
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
    """The error that an `error` chunk or frame describes."""
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
    """The error of a success with the wrong body: a proxy answered instead of the server."""
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
    """Redirections are never followed, because they would take the credential to another server."""
    location = _target(answer)
    return _make(
        "INVALID_REQUEST",
        f"the server redirects ({answer.status}) to {location}, which is not followed; "
        "base_url must be the final address",
        details={"location": location},
        request_id=answer.headers.get("x-request-id"),
        status=answer.status,
    )


def _target(answer: Answer) -> str:
    """The target of a redirection, without parts that may hold a credential."""
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
