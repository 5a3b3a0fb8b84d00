"""`/openapi.json`, and `/docs` made from it: a page without scripts or outside requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse

from ..errors import add_error_schema, only_errors
from ..routing import api_router

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;
color-scheme:light dark}
details{border:1px solid #8884;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}
summary{cursor:pointer} code,pre{font:14px/1.4 ui-monospace,monospace} pre{overflow:auto}
b.m{display:inline-block;min-width:4.5rem} table{border-collapse:collapse}
td,th{padding:.1rem .8rem .1rem 0;text-align:left;vertical-align:top}
"""


def docs_router(app: FastAPI) -> APIRouter:
    router = api_router(tag="operations")

    @cache
    def document() -> bytes:
        return orjson.dumps(add_error_schema(app.openapi()))

    @cache
    def page() -> str:
        return render(add_error_schema(app.openapi()))

    @router.get(
        "/openapi.json",
        response_model=dict[str, Any],
        responses=only_errors(500),
        operation_id="openapi",
    )
    async def openapi() -> Response:
        """The description of the API."""
        return Response(document(), media_type="application/json")

    @router.get(
        "/docs", response_class=HTMLResponse, responses=only_errors(500), operation_id="docs"
    )
    async def docs() -> HTMLResponse:
        """The description of the API, for people."""
        return HTMLResponse(page(), headers={"Content-Security-Policy": _POLICY})

    return router


def render(openapi: Mapping[str, Any]) -> str:
    """Make the page for an OpenAPI document."""
    info = openapi["info"]
    body = "".join(_sections(openapi))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        "<p>Machine-readable: <a href=openapi.json>openapi.json</a>. Send "
        "<code>Authorization: Bearer CREDENTIAL</code> with an API key or a client token.</p>"
        f"{body}</html>"
    )


def _sections(openapi: Mapping[str, Any]) -> Iterator[str]:
    tagged: dict[str, list[str]] = {}
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            tagged.setdefault(tag, []).append(_operation(path, method, operation))
    for tag, shown in tagged.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(shown)}"
    schemas = openapi.get("components", {}).get("schemas", {})
    yield "<h2>schemas</h2>"
    for name, schema in schemas.items():
        text = escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
        yield (
            f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>"
            f"<pre>{text}</pre></details>"
        )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [f"<p>{escape(operation.get('description', ''))}</p>"]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = "".join(
            f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}"
            f"<td>{escape(one.get('description', ''))}"
            for one in parameters
        )
        parts.append(f"<table><tr><th>parameter<th>in<th>{rows}</table>")
    request = operation.get("requestBody", {}).get("content", {})
    parts.extend(f"<p>Body: {_schema(one.get('schema', {}))}</p>" for one in request.values())
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{escape(answer.get('description', ''))}<td>"
        + " ".join(_schema(one.get("schema", {})) for one in answer.get("content", {}).values())
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<table><tr><th>status<th><th>{answers}</table>")
    return (
        f"<details><summary><b class=m>{method.upper()}</b> <code>{escape(path)}</code></summary>"
        f"{''.join(parts)}</details>"
    )


def _schema(schema: Mapping[str, Any]) -> str:
    reference = schema.get("$ref")
    if reference is None:
        return f"<code>{escape(str(schema.get('type', 'any')))}</code>"
    name = escape(str(reference).rsplit("/", 1)[-1])
    return f"<a href='#{name}'><code>{name}</code></a>"
