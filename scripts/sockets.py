"""The reference page of the sockets, written from AsyncAPI; `site.py` puts it into the site."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from resonantgenesis_server.http.websocket.asyncapi import document

Schema = Mapping[str, Any]
_ARROWS = {"receive": "→", "send": "←"}
_WHO = {"receive": "From the client", "send": "From the server"}
#: Where PROTOCOL.md goes over to the socket of workers.
_WORKERS = "### GET /v1/agents/{id}/serve"
#: Types with more levels are named only.
_DEPTH = 3


def page(protocol: str) -> str:
    """Markdown: each message with its fields and an example, which `protocol` has."""
    described = orjson.loads(orjson.dumps(document()))
    first, _, second = protocol.partition(_WORKERS)
    text = (
        '# Socket API\n\nEvery message of the sockets, as <a href="../asyncapi.json">AsyncAPI</a>'
        " describes them. The [wire protocol](protocol.md) has the rules.\n"
    )
    for (name, channel), part in zip(described["channels"].items(), (first, second), strict=True):
        text += f"\n## {channel['address']}\n"
        for operation in described["operations"].values():
            if operation["channel"]["$ref"] == f"#/channels/{name}":
                text += f"\n### {_WHO[operation['action']]}: {channel['address']}\n"
                for reference in operation["messages"]:
                    message = _at(described, _at(described, reference["$ref"])["$ref"])
                    text += _message(described, message, operation["action"], part)
    return text


def _message(described: Schema, message: Schema, action: str, protocol: str) -> str:
    schema = _resolved(described, message["payload"])
    rows = [_row(described, schema, name) for name in schema.get("properties", {})]
    text = f"\n#### {message['name']}\n\n"
    if message.get("summary") or schema.get("description"):
        text += f"{message.get('summary') or schema['description']}\n\n"
    if rows:
        text += "| field | type | |\n|---|---|---|\n" + "".join(rows)
    kind = schema.get("properties", {}).get("type", {}).get("const", message["name"])
    pattern = rf'^{_ARROWS[action]} (\{{"type": "{kind}".*\}})$'
    example = re.search(pattern, protocol, re.MULTILINE)
    return text if example is None else f"{text}\n```json\n{example[1]}\n```\n"


def _row(described: Schema, schema: Schema, name: str) -> str:
    field = schema["properties"][name]
    need = "required" if name in schema.get("required", ()) else ""
    words = " ".join(each for each in (need, field.get("description", "")) if each)
    return f"| `{name}` | {_escaped(_type(described, field))} | {_escaped(words)} |\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _type(described: Schema, schema: Schema, depth: int = _DEPTH) -> str:
    """The type in words, such as `array of string` or `"a" | "b"`."""
    schema = _resolved(described, schema)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " | ".join(f"`{value}`" for value in schema["enum"])
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(_type(described, each, depth) for each in parts))
    if schema.get("type") == "array" and depth:
        return f"array of {_type(described, schema.get('items', {}), depth - 1)}"
    if schema.get("properties") and depth:
        return f"object {{{', '.join(schema['properties'])}}}"
    return " ".join([str(schema.get("type", "any")), *_bounds(schema)])


def _bounds(schema: Schema) -> Iterator[str]:
    lowest = schema.get("minimum", schema.get("minLength"))
    highest = schema.get("maximum", schema.get("maxLength"))
    if lowest is not None and highest is not None:
        yield f"({lowest} to {highest})"
    elif highest is not None:
        yield f"(at most {highest})"


def _resolved(described: Schema, schema: Schema) -> Schema:
    return _resolved(described, _at(described, schema["$ref"])) if "$ref" in schema else schema


def _at(described: Schema, reference: str) -> Any:
    """What `#/a/b` names."""
    found: Any = described
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found
