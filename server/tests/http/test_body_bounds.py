"""Every list, object and text that a client sends has a bound in the model that reads it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from resonantgenesis_server.feed.shares import LARGE
from resonantgenesis_server.http import app, body
from resonantgenesis_server.http.schemas import Body
from resonantgenesis_server.http.websocket import messages as ws_messages
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.model.principal import Principal

Schema = dict[str, Any]
#: Imported for the models that they, and all they import, define.
_DEFINING = (app, ws_messages)


def bodies(kind: type[Body] = Body) -> Iterator[type[Body]]:
    for found in kind.__subclasses__():
        yield found
        yield from bodies(found)


def unbounded(schema: Schema, place: str = "") -> Iterator[str]:
    """Places in a JSON Schema that take values of any size."""
    kind = schema.get("type")
    if kind == "array" and "maxItems" not in schema:
        yield f"{place}: a list"
    if kind == "object" and "properties" not in schema and "maxProperties" not in schema:
        yield f"{place}: an object"
    if kind == "string" and not bounds_text(schema):
        yield f"{place}: a text"
    for name, inner in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
        yield from unbounded(inner, f"{place}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from unbounded(schema["items"], f"{place}[]")
    for inner in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        yield from unbounded(inner, place)


def bounds_text(schema: Schema) -> bool:
    pattern = schema.get("pattern")
    by_pattern = pattern is not None and re.search(r"[*+]|,\}", pattern) is None
    return by_pattern or bool({"maxLength", "enum", "const"} & schema.keys())


@pytest.mark.parametrize("kind", sorted(set(bodies()), key=lambda k: k.__name__))
def test_every_field_has_a_bound(kind: type[Body]) -> None:
    assert list(unbounded(kind.model_json_schema())) == []


def test_the_walk_sees_what_has_none() -> None:
    class Careless(Body):
        a: list[str]
        b: dict[str, Any] | None = None
        c: str | int = 0

    assert [found.strip(".") for found in unbounded(Careless.model_json_schema())] == [
        "a: a list",
        "a[]: a text",
        "b: an object",
        "c: a text",
    ]
    del Careless


@pytest.mark.anyio
async def test_a_large_body_is_charged_for_what_is_done_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = list[float]()
    monkeypatch.setattr(body.SHARED, "took", lambda _organization, seconds: taken.append(seconds))
    monkeypatch.setattr(body, "parse_json", lambda *_args: time.sleep(0.01))
    principal = Principal("org_charged", "key", frozenset({"*"}))
    scope: dict[str, Any] = {"state": {"principal": principal}}
    await body._parsed(scope, b" " * (LARGE - 1), Limits())
    assert taken == []
    await body._parsed(scope, b" " * LARGE, Limits())
    assert len(taken) == 1
    assert taken[0] >= 0.08
