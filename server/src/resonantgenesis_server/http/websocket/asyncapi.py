"""`/asyncapi.json`: the socket's messages, described in AsyncAPI 3.0."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..body import api_router
from ..errors import only_errors
from .messages import CLIENT_MESSAGES
from .routes import PATH
from .schemas import SERVER_MESSAGES

_REF = "#/components/schemas/{model}"


def asyncapi_router() -> APIRouter:
    router = api_router(tag="operations")

    @cache
    def encoded() -> bytes:
        return orjson.dumps(document())

    @router.get(
        "/asyncapi.json",
        response_model=dict[str, Any],
        responses=only_errors(500),
        operation_id="asyncapi",
    )
    async def asyncapi() -> Response:
        """The description of the WebSocket."""
        return Response(encoded(), media_type="application/json")

    return router


def document() -> dict[str, Any]:
    """The whole document. `receive` is what clients send, since the server speaks here."""
    named = [*CLIENT_MESSAGES.values(), *SERVER_MESSAGES.values()]
    _, schemas = models_json_schema([(model, "validation") for model in named], ref_template=_REF)
    messages = _messages(CLIENT_MESSAGES) | _messages(SERVER_MESSAGES)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ResonantGenesis Streaming: the WebSocket",
            "version": version("resonantgenesis-server"),
            "description": "JSON texts in both directions. An event has `channel`; a chunk has"
            " `position` and `session_id`; all else is control. Close codes: 4400 too many bad"
            " messages, 4401 credential refused or ended, 4408 no auth in time or gave way to"
            " others, 4429 too many messages, 1012 the server restarts.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": PATH,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {
            "fromClient": _operation("receive", CLIENT_MESSAGES),
            "toClient": _operation("send", SERVER_MESSAGES),
        },
        "components": {
            "messages": messages,
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key or a client token, in the handshake or in the"
                    " first message.",
                }
            },
        },
    }


def _messages(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    return {
        name: {
            "name": name,
            "summary": (model.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "),
            "payload": {"$ref": _REF.format(model=model.__name__)},
        }
        for name, model in models.items()
    }


def _operation(action: str, models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/socket"},
        "messages": [{"$ref": f"#/channels/socket/messages/{name}"} for name in models],
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    }
