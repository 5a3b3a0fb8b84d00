"""Names that nobody knows: a mistyped `sesion_id` must be told, not read as none (PROTOCOL.md,
section 3). `Prefer: handling=lenient` lets them pass (RFC 7240)."""

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

APPLIED = (b"preference-applied", b"handling=lenient")
_LENIENT = re.compile(
    rb'(?:^|,)[ \t]*handling[ \t]*=[ \t]*"?lenient"?[ \t]*(?:[;,]|$)', re.IGNORECASE
)
#: Query parameters that are looked at.
_MOST_PARAMETERS = 50
#: What browsers' libraries, caches and trackers put behind any address: cache-busters, tags; and
#: what clients add to every GET because lists take it.
_PASSING = re.compile(r"_.*|utm_.*|t|ts|cb|nocache|lastEventId|after|cursor|limit|wait", re.DOTALL)
#: Characters of a name that are compared with those we know, and names that are told.
_COMPARED, _TOLD = 64, 20


def is_lenient(scope: Scope) -> bool:
    """Whether the client wants names that nobody knows to be ignored."""
    return any(name == b"prefer" and _LENIENT.search(value) for name, value in scope["headers"])


def check_known(kind: type[BaseModel], value: object) -> None:
    """Raises InvalidRequest for fields of a JSON value that the model, or one within it, lacks."""
    problems = _unknown_fields(kind, value, "")
    first = next(problems, None)
    if first is not None:
        raise bad_fields([first, *_at_most(problems)])


def check_query(scope: Scope, known: frozenset[str] | None) -> None:
    """Raises InvalidRequest for a query parameter that is given twice (which one counts would be
    a guess, and differ between the parts of a chain of servers), and for one that is not in
    `known`; None: whatever comes is let pass."""
    query: bytes = scope.get("query_string", b"")
    if not query or (known is None and b"&" not in query):
        return
    seen: set[str] = set()
    pairs = query.split(b"&", _MOST_PARAMETERS)
    if len(pairs) > _MOST_PARAMETERS:
        raise InvalidRequest.field("query", "too many parameters")
    for pair in pairs:
        name = unquote_plus(pair.partition(b"=")[0].decode("latin-1"))
        if name in seen:
            raise InvalidRequest.field(name[:80], "is given more than once")
        if pair:
            seen.add(name)
    unknown = [] if known is None else [name for name in seen if name and name not in known]
    if unknown and not scope["state"].get("lenient"):
        problems = ((n, _problem(n, known or ())) for n in unknown if not _PASSING.fullmatch(n))
        found = list(_at_most(problems))
        if found:
            raise bad_fields(found)


def _unknown_fields(kind: type[BaseModel], value: object, within: str) -> Iterator[tuple[str, str]]:
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
    """The names of a model's fields, each with the model of its value, if it is one."""
    return MappingProxyType(
        {
            field.alias or name: model_in(field.annotation)
            for name, field in kind.model_fields.items()
        }
    )


def model_in(annotation: object) -> type[BaseModel] | None:
    """The model that a value of this type is checked by, as in `Model | None`."""
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
    return f"is not known here; known are {', '.join(names[:_TOLD])}"


def _plain(name: str) -> str:
    """`sessionId`, `Session-Id` as we would write it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name[:_COMPARED]).lower()


def _at_most(problems: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return (problem for problem, _ in zip(problems, range(MOST_ERRORS), strict=False))
