"""JSON Schema (2020-12) for values from clients, within bounds.

The only module that knows the library. A schema comes from an agent, a value from anybody: neither
may hold the event loop. So a schema is small, refers to nothing outside, and the number of its
references that one value follows is bounded. `pattern` is not checked, since a regular expression
can take for ever; nor is `format`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from .json import NotJson, dumps, has_more_values, nests_deeper

#: Bytes and depth of a schema, and values and names of a payload that a schema is for.
MAX_SCHEMA, MAX_DEPTH, MAX_VALUES = 16 * 1024, 16, 2_000
#: References that one value may follow: a schema of a few hundred bytes can ask for billions.
_MAX_REFERENCES = 2_000
#: Problems of one value that are named, and characters of each.
_MAX_PROBLEMS, _MAX_WORDS = 20, 200
_REFERENCES = ("$ref", "$dynamicRef")
_followed: ContextVar[int] = ContextVar("references followed", default=0)


class BadSchema(ValueError):
    """The schema cannot be used. The message says why, in one line."""


class _TooMuch(Exception):
    pass


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises BadSchema."""
    try:
        text = dumps(dict(schema))
    except NotJson as error:
        raise BadSchema(f"the schema has no JSON form: {error}") from error
    if len(text) > MAX_SCHEMA:
        raise BadSchema(f"the schema takes {len(text)} bytes; at most {MAX_SCHEMA} fit")
    if nests_deeper(text, MAX_DEPTH):
        raise BadSchema(f"the schema nests deeper than {MAX_DEPTH} levels")
    _validator(text)


def problems_of(schema: Mapping[str, Any], value: Any) -> dict[str, str]:
    """What is wrong with a value, by its place (`.a.0`, empty for the value itself); at most 20
    problems. The schema has passed `check_schema`."""
    if has_more_values(dumps(value), MAX_VALUES):
        return {"": f"has more than {MAX_VALUES} values and names"}
    validator = _validator(dumps(dict(schema)))
    _followed.set(0)
    found: dict[str, str] = {}
    try:
        for error in islice(validator.iter_errors(value), _MAX_PROBLEMS):
            place = "".join(f".{part}" for part in error.absolute_path)
            found.setdefault(place[:_MAX_WORDS], _words(error))
    except (_TooMuch, RecursionError, Unresolvable):
        return {"": "cannot be checked: the references of the schema lead too far"}
    return found


def _words(error: ValidationError) -> str:
    message = error.message
    return message if len(message) <= _MAX_WORDS else f"does not fit {error.validator}"


@lru_cache(256)
def _validator(text: bytes) -> Any:
    schema = orjson.loads(text)
    for name, value in _members(schema):
        if name in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
            raise BadSchema(f"{name}: {value[:_MAX_WORDS]!r} leads out of the schema")
        if name == "patternProperties":
            raise BadSchema("patternProperties are not supported; name the properties")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "".join(f".{part}" for part in error.absolute_path)
        raise BadSchema(f"schema{place}: {_words(error)}") from error
    # A registry of its own fetches nothing.
    return _Bounded(schema, registry=Registry())


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _members(each)


def _counted(name: str) -> Any:
    follow = Draft202012Validator.VALIDATORS[name]

    def counted(validator: Any, target: str, value: Any, schema: Any) -> Iterator[ValidationError]:
        count = _followed.get() + 1
        _followed.set(count)
        if count > _MAX_REFERENCES:
            raise _TooMuch
        yield from follow(validator, target, value, schema) or ()

    return counted


def _unchecked(*_args: Any) -> Iterator[ValidationError]:
    return iter(())


def _unique(_validator: Any, is_on: Any, value: Any, _schema: Any) -> Iterator[ValidationError]:
    """In linear time, where the library's own takes the square of the length."""
    if is_on and isinstance(value, list):
        seen = {orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in value}
        if len(seen) < len(value):
            yield ValidationError("has equal items")


_Bounded: Any = extend(
    Draft202012Validator,
    {
        **{name: _counted(name) for name in _REFERENCES},
        "pattern": _unchecked,
        "uniqueItems": _unique,
    },
)
