"""The body of a request to OpenAI's chat completions, exactly as servers want it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .....codec.json import dumps
from ..calls import (
    AssistantMessage,
    CallRequest,
    Message,
    ModelCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from ..vision import ABOUT_IMAGES
from .state import is_state, with_state

#: What a limit of tokens is called: by OpenAI now, and by nearly everybody else.
TOKENS_FIELDS = ("max_completion_tokens", "max_tokens")
_OPTIONAL = ("stream_options", *TOKENS_FIELDS, "reasoning_effort", "temperature")
#: Fields that one model may refuse while another of the same server takes them.
_BY_MODEL = frozenset({"reasoning_effort", "temperature"})
#: Words about a value, not about the field.
_VALUE = re.compile(
    r"too (large|high|big|small|low|long)|at most|at least|(less|greater|more) than|exceed|between"
    r"|range|<=|>=|integer|positive"
)
_UNKNOWN = re.compile(
    r"un(known|recognized|recognised|supported|expected)|not (supported|permitted|allowed)|extra"
)
_MISSING = re.compile(
    r"missing|required|must be (passed|provided|present|included|non-?empty)|thinking"
)


@dataclass
class ServerForm:
    """The fields that one server takes, learned from its refusals."""

    tokens_field: str
    _without: set[tuple[str, str]] = field(default_factory=set)
    _state_wanted: bool = False

    def body(self, call: ModelCall) -> dict[str, Any]:
        messages: list[dict[str, Any]] = []
        if call.system:
            messages.append({"role": "system", "content": call.system})
        messages += [_message(message) for message in call.messages]
        if self._state_wanted:
            _add_thoughts(messages)
        body: dict[str, Any] = {
            "model": call.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if call.tools:
            body["tools"] = [_tool(tool) for tool in call.tools]
        sampling = call.sampling
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.max_output_tokens is not None:
            body[self.tokens_field] = sampling.max_output_tokens
        if sampling.reasoning_effort is not None:
            body["reasoning_effort"] = sampling.reasoning_effort
        for name in self._refused(call.model):
            body.pop(name, None)
            for message in messages:
                message.pop(name, None)
        return body

    def learn(self, body: dict[str, Any], said: str) -> str | None:
        """Change future requests after a refusal, and say how. None if the server's words name
        nothing that can be left out."""
        words = said.lower()
        model = str(body["model"])
        if "reasoning_content" in words and _MISSING.search(words) and not self._state_wanted:
            self._state_wanted = True
            return "reasoning_content in every message that calls tools"
        is_value = _VALUE.search(words) is not None
        for name in (*_OPTIONAL, *_state_fields(body["messages"])):
            if _sends(body, name) and _names(words, name) and (not is_value or "stream_" in name):
                return self._leave_out(name, model, words)
        if _has_images(body) and ABOUT_IMAGES.search(words):
            return None  # they are given up elsewhere
        if "stream_options" in body and _UNKNOWN.search(words) and not is_value:
            return self._leave_out("stream_options", model, words)
        return None

    def _leave_out(self, name: str, model: str, words: str) -> str:
        if name == self.tokens_field:
            [other] = [each for each in TOKENS_FIELDS if each != name]
            self._without.add((name, ""))
            if (other, "") not in self._without:
                self.tokens_field = other
                return f"{other} instead of {name}"
        self._without.add((name, model if name in _BY_MODEL else ""))
        return f"no {name}"

    def _refused(self, model: str) -> Iterable[str]:
        return [name for name, whose in self._without if whose in {"", model}]


def _has_images(body: dict[str, Any]) -> bool:
    return any(isinstance(message.get("content"), list) for message in body["messages"])


def _sends(body: dict[str, Any], name: str) -> bool:
    return name in body or any(name in message for message in body["messages"])


def _names(words: str, name: str) -> bool:
    return re.search(rf"(?<![a-z_]){re.escape(name)}(?![a-z_])", words) is not None


def _state_fields(messages: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in messages for name in each if is_state(name)))


def _add_thoughts(messages: Iterable[dict[str, Any]]) -> None:
    """Kimi wants thoughts with every message that calls tools, from earlier turns too, and takes
    none that is empty."""
    for message in messages:
        if "tool_calls" in message:
            message.setdefault("reasoning_content", " ")


def request_body(call: ModelCall, *, tokens_field: str) -> bytes:
    """The body for a server of which nothing is known."""
    return dumps(ServerForm(tokens_field).body(call))


def _message(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage():
            return {"role": "user", "content": _content(message)}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.result}
        case AssistantMessage():
            said: dict[str, Any] = {
                "role": "assistant",
                "content": message.text if message.text.strip() else None,
            }
            if message.calls:
                said["tool_calls"] = [_call(call) for call in message.calls]
            return said if message.native is None else with_state(said, message.native)


def _content(message: UserMessage) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.text
    urls = [f"data:{image.content_type};base64,{image.data}" for image in message.images]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"type": "text", "text": message.text}, *images]


def _call(call: CallRequest) -> dict[str, Any]:
    function = {"name": call.tool, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    return {"type": "function", "function": function}
