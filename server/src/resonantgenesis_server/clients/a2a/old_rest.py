"""Requests of 0.3 over HTTP+JSON, which has the JSON of Protocol Buffers (`a2a.v1` of 0.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..json_rpc import Json


def old_params(given: Mapping[str, Any]) -> Json:
    """The parameters in the words that 0.3 has for them over JSON-RPC.

    A field may have its name in JSON or in Protocol Buffers (`contextId`, `context_id`), and the
    official SDKs leave fields out that are false. What has the words of JSON-RPC stays.
    """
    params: Json = _camel(given)
    # A new config stands in `config`, or alone: see `google.api.http` in the protocol's service.
    config = _camel(params.pop("config", None))
    if isinstance(config, Mapping):
        params |= config
    if isinstance(push := params.get("pushNotificationConfig"), Mapping) and "configId" in params:
        params["pushNotificationConfig"] = {"id": params["configId"], **push}
    if "request" in params:
        params["message"] = params.pop("request")
    if "message" in params:
        params["message"] = _message(_camel(params["message"]))
    if "configuration" in params:
        params["configuration"] = _configuration(_camel(params["configuration"]))
    return params


def _message(message: Any) -> Any:
    if isinstance(message, Mapping) and isinstance(message.get("content"), list):
        return {**message, "parts": [_part(each) for each in message["content"]]}
    return message


def _part(part: Any) -> Any:
    data = part.get("data") if isinstance(part, Mapping) else None
    return {"data": data["data"]} if isinstance(data, Mapping) and "data" in data else part


def _configuration(wanted: Any) -> Any:
    if not isinstance(wanted, Mapping):
        return wanted
    named = {
        "pushNotificationConfig" if name == "pushNotification" else name: each
        for name, each in wanted.items()
    }
    return {"blocking": False, **named}


def _camel(value: Any) -> Any:
    """The fields of an object under their names in JSON."""
    if not isinstance(value, Mapping):
        return value
    return {re.sub("_([a-z])", lambda m: m[1].upper(), name): each for name, each in value.items()}
