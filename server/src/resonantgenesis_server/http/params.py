"""Query parameters and headers of the plain ASGI routes."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import Scope

from ..model.errors import InvalidRequest
from .api.session_models import MAX_POSITION
from .body import header

#: Query parameters of one request.
_MOST = 50
#: Headers that are no lists: a second one says something else, or nothing.
SINGLE_HEADERS = (
    b"authorization",
    b"access-control-request-method",
    b"content-digest",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"host",
    b"idempotency-key",
    b"if-modified-since",
    b"if-range",
    b"if-unmodified-since",
    b"last-event-id",
    b"origin",
    b"range",
    b"sec-websocket-key",
    b"sec-websocket-version",
    b"x-log-epoch",
    b"x-request-id",
)
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0", ""})


def reject_duplicate_headers(scope: Scope) -> None:
    """Raises InvalidRequest for a header that is given twice and is no list: which one counts
    would be a guess, and differ between the parts of a chain of servers."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    names = [name for name, _ in headers]
    if len(set(names)) < len(names):
        for name in SINGLE_HEADERS:
            if names.count(name) > 1:
                raise InvalidRequest.field(name.decode(), "is given more than once")


class QueryParams:
    """A stream's query parameters. Raises InvalidRequest for what they cannot be."""

    def __init__(self, scope: Scope) -> None:
        text = scope["query_string"].decode("latin-1")
        try:
            self._values = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST))
        except ValueError:
            raise InvalidRequest.field("query", "too many parameters") from None

    def text(self, name: str, most: int) -> str | None:
        """At most `most` characters."""
        value = self._values.get(name)
        if value is not None and len(value) > most:
            raise InvalidRequest.field(name, f"is longer than {most} characters")
        return value

    def last_event_id(self) -> str | None:
        """Where event-source-polyfill puts it: browsers ask before they send the header."""
        return self.text("lastEventId", 200) or None

    def number(self, name: str, least: int) -> int | None:
        value = self._values.get(name)
        return None if value is None else _integer(name, value, least)

    def position(self, name: str, last_event_id: str | None) -> int | None:
        """From the header Last-Event-ID, else from the query: an EventSource that comes back by
        itself asks with its first URL, and only the header says how far it got since."""
        last = position_of(last_event_id or self.last_event_id())
        return self.number(name, 0) if last is None else last

    def flag(self, name: str) -> bool:
        value = self._values.get(name, "").lower()
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise InvalidRequest.field(name, "must be true or false")


def position_of(last_event_id: str | None) -> int | None:
    """The position that the header names, if it does. Raises InvalidRequest."""
    return _integer("Last-Event-ID", last_event_id, 0) if last_event_id else None


def _integer(name: str, value: str, least: int) -> int:
    digits = value.isascii() and value.isdigit() and len(value) <= 10
    number = int(value) if digits else -1
    if not least <= number <= MAX_POSITION:
        raise InvalidRequest.field(name, f"must be a whole number from {least} to {MAX_POSITION}")
    return number


def text_header(scope: Scope, name: bytes) -> str | None:
    """The first header of this (lower-case) name, as text."""
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")
