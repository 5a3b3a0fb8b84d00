"""What a turn asks as a form, and a filled form as an answer.

A form is one object of plain fields. So an approval is a boolean and a reason, and a question whose
schema is no such object is one field, `value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..codec.json import NotJson, dumps, loads
from ..http.api.session_models import InputBody, validated
from ..sessions.answers import InputRequest
from .json_rpc import Json

_PLAIN = ("string", "number", "integer", "boolean")
_APPROVAL: Json = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean", "title": "Approve"},
        "reason": {"type": "string", "title": "Reason"},
    },
    "required": ["approved"],
}


def elicitation(ask: Mapping[str, Any]) -> Json:
    """The request that asks a person, without its id."""
    message = ask.get("message") or f"The agent asks: {ask.get('tool') or ask['kind']}"
    if ask["kind"] == "approval":
        if ask.get("tool"):
            args = dumps(ask.get("args") or {}).decode()
            message = f"{message}\n{ask['tool']} {args}"
        form = _APPROVAL
    else:
        schema = ask.get("schema") or {"type": "string"}
        form = schema if _is_form(schema) else _one_field(schema)
    params = {"mode": "form", "message": message, "requestedSchema": form}
    return {"method": "elicitation/create", "params": params}


def answer_of(ask: Mapping[str, Any], result: Mapping[str, Any] | None) -> InputRequest:
    """A person's answer. Who declines or closes the form refuses, and so does a client that cannot
    ask (None). Raises InvalidRequest."""
    call_id, content = ask["call_id"], (result or {}).get("content")
    if (result or {}).get("action") != "accept":
        return InputRequest(call_id, approved=False)
    filled = content if isinstance(content, Mapping) else {}
    body: Json = {"call_id": call_id, "payload": dict(filled)}
    if ask["kind"] == "approval":
        said = {"approved": filled.get("approved"), "reason": filled.get("reason") or ""}
        body = {"call_id": call_id, **said}
    else:
        schema = ask.get("schema") or {"type": "string"}
        if not _is_form(schema):
            body["payload"] = _value(schema, filled.get("value"))
    return validated(InputBody, body).request()


def _is_form(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties")
    return (
        schema.get("type") == "object"
        and isinstance(properties, Mapping)
        and all(
            isinstance(each, Mapping) and each.get("type") in _PLAIN for each in properties.values()
        )
    )


def _one_field(schema: Mapping[str, Any]) -> Json:
    if schema.get("type") not in _PLAIN:
        schema = {"type": "string", "description": f"JSON of {dumps(schema).decode()}"}
    return {"type": "object", "properties": {"value": schema}, "required": ["value"]}


def _value(schema: Mapping[str, Any], value: object) -> Any:
    if schema.get("type") == "string" or not isinstance(value, str):
        return value
    try:
        return loads(value)
    except NotJson:
        return value
