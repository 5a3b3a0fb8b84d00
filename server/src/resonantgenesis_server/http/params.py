"""Headers, query parameters and names of fields, read strictly.

A mistyped `sesion_id` must be refused, not ignored (PROTOCOL.md, section 3). The header
`Prefer: handling=lenient` lets unknown names pass (RFC 7240).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import get_args
from urllib.parse import unquote_plus

from pydantic import BaseModel
from starlette.types import Scope

from ..model.errors import InvalidRequest
from .errors import MOST_ERRORS, bad_fields
from .schemas import MAX_POSITION

#: Query parameters of one request.
MAX_PARAMETERS = 50
#: Headers that are no lists. A second one would contradict the first, or add nothing.
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


def reject_duplicate_headers(headers: list[tuple[bytes, bytes]], distinct: int) -> None:
    """Raise InvalidRequest for a repeated header that is no list. `distinct`: the number of names.

    The choice of one would be a guess, and differ between the servers of a chain.
    """
    if distinct == len(headers):
        return
    names = [name for name, _ in headers]
    for name in SINGLE_HEADERS:
        if names.count(name) > 1:
            raise InvalidRequest.field(name.decode(), "is given more than once")


class QueryParams:
    """The query parameters of a plain ASGI app's request, in `scope["state"]["query"]`.

    Every method may raise InvalidRequest.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def all(self) -> Mapping[str, str]:
        return self._values

    def text(self, name: str, most: int) -> str | None:
        """At most `most` characters."""
        value = self._values.get(name)
        if value is not None and len(value) > most:
            raise InvalidRequest.field(name, f"is longer than {most} characters")
        return value

    def last_event_id(self) -> str | None:
        """The parameter of event-source-polyfill, since the header would need a preflight."""
        return self.text("lastEventId", 200) or None

    def number(self, name: str, least: int) -> int | None:
        value = self._values.get(name)
        return None if value is None else _integer(name, value, least)

    def position(self, name: str, last_event_id: str | None) -> int | None:
        """The position of the header Last-Event-ID, else of the query parameter.

        An EventSource reconnects with its first URL. Only the header says how far it has read.
        """
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
    """The position in the header Last-Event-ID, if it has one. Raises InvalidRequest."""
    return _integer("Last-Event-ID", last_event_id, 0) if last_event_id else None


def _integer(name: str, value: str, least: int) -> int:
    digits = value.isascii() and value.isdigit() and len(value) <= 10
    number = int(value) if digits else -1
    if not least <= number <= MAX_POSITION:
        raise InvalidRequest.field(name, f"must be a whole number from {least} to {MAX_POSITION}")
    return number


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def text_header(scope: Scope, name: bytes) -> str | None:
    """The first header of this (lower-case) name, as text."""
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")


def _unquoted(text: str) -> str:
    """A name or value of a query; most have nothing to unquote."""
    return unquote_plus(text) if "%" in text or "+" in text else text


APPLIED = (b"preference-applied", b"handling=lenient")
_LENIENT = re.compile(
    rb'(?:^|,)[ \t]*handling[ \t]*=[ \t]*"?lenient"?[ \t]*(?:[;,]|$)', re.IGNORECASE
)
#: Parameters that libraries of browsers, caches and trackers add to any address, and parameters of
#: lists that clients add to every GET. They are never refused.
_PASSING = re.compile(r"_.*|utm_.*|t|ts|cb|nocache|lastEventId|after|cursor|limit|wait", re.DOTALL)
#: Characters of an unknown name that are compared with known ones, and known names in an error.
_COMPARED, _LISTED = 64, 20


def announces_body(scope: Scope) -> bool:
    """Whether the request's headers announce a body."""
    if header(scope, b"transfer-encoding") is not None:
        return True
    return (header(scope, b"content-length") or b"0").strip() != b"0"


def is_lenient(scope: Scope) -> bool:
    """Whether the client wants unknown names to be ignored."""
    return any(name == b"prefer" and _LENIENT.search(value) for name, value in scope["headers"])


def check_known(kind: type[BaseModel], value: object) -> None:
    """Raise InvalidRequest for fields of a JSON value that the model, or an inner model, lacks."""
    problems = _unknown_fields(kind, value, "")
    first = next(problems, None)
    if first is not None:
        raise bad_fields([first, *_at_most(problems)])


def parse_query(
    scope: Scope, known: frozenset[str] | None, lists: frozenset[str] = frozenset()
) -> QueryParams:
    """The query parameters of a request.

    Raises InvalidRequest for a repeated parameter, since the choice of one of two values would be a
    guess, and differ between the servers of a chain. So it does for a parameter that is not in
    `known`; with `known` None every name passes. The values of a parameter in `lists` are joined by
    commas.
    """
    values: dict[str, str] = {}
    text = scope.get("query_string", b"").decode("latin-1")
    pairs = text.split("&", MAX_PARAMETERS) if text else ()
    if len(pairs) > MAX_PARAMETERS:
        raise InvalidRequest.field("query", "too many parameters")
    for pair in pairs:
        if pair:
            quoted, _, value = pair.partition("=")
            name = _unquoted(quoted)
            if name in values and name in lists:
                value = f"{values[name]},{value}"
            elif name in values:
                raise InvalidRequest.field(name[:80], "is given more than once")
            values[name] = _unquoted(value)
    if known is not None and not values.keys() <= known and not scope["state"].get("lenient"):
        unknown = (n for n in values if n and n not in known and not _PASSING.fullmatch(n))
        problems = list(_at_most((name, _problem(name, known)) for name in unknown))
        if problems:
            raise bad_fields(problems)
    return QueryParams(values)


def _unknown_fields(kind: type[BaseModel], value: object, within: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for each in value:
            yield from _unknown_fields(kind, each, within)
    if not isinstance(value, dict):
        return
    fields = _fields_of(kind)
    for name, inner in value.items():
        if name not in fields:
            yield within + name, _problem(name, fields)
        elif (model := fields[name]) is not None:
            yield from _unknown_fields(model, inner, f"{within}{name}.")


@cache
def _fields_of(kind: type[BaseModel]) -> Mapping[str, type[BaseModel] | None]:
    """The names of a model's fields, each with the model of its value, if it has one."""
    return MappingProxyType(
        {
            field.alias or name: model_in(field.annotation)
            for name, field in kind.model_fields.items()
        }
    )


def model_in(annotation: object) -> type[BaseModel] | None:
    """The model in the type of a value, as in `Model | None`."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _problem(name: str, known: Iterable[str]) -> str:
    if not (names := sorted(known)):
        return "is not known here, where nothing can be named; leave it out"
    near = get_close_matches(_plain(name), names, n=1)
    if near:
        return f"is not known here; did you mean {near[0]}?"
    return f"is not known here; known are {', '.join(names[:_LISTED])}"


def _plain(name: str) -> str:
    """`sessionId` or `Session-Id` in our spelling: `session_id`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name[:_COMPARED]).lower()


def _at_most(problems: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return (problem for problem, _ in zip(problems, range(MOST_ERRORS), strict=False))
