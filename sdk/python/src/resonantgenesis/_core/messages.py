"""Requests and answers as values, without a network library: what is sent, what came back."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

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
