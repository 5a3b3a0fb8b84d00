"""Tokens of a model call, told while it runs: a turn that is cancelled counts too."""

from __future__ import annotations

from ....codec.json import dumps
from ....model.chunks import Usage
from .calls import AssistantMessage, CallRequest, Delta, Finish, ModelCall, ToolMessage, UserMessage

#: Characters of a token, about: what is told before the provider tells it.
_CHARS = 4
#: What an image takes, in characters.
_IMAGE = 1_000 * _CHARS
#: Tokens of output after which they are told.
_EVERY = 50


class TokenCount:
    """Estimates until the Finish, whose numbers then count: what differs is added or taken back."""

    def __init__(self, call: ModelCall) -> None:
        self._input = sum(map(_size, call.messages)) + len(call.system)
        self._input += sum(len(dumps(tool.parameters)) for tool in call.tools)
        self._input //= _CHARS
        self._told_input = 0
        self._told_output = 0
        self._chars = 0

    def saw(self, delta: Delta) -> Usage | None:
        """What to tell now that this came, if anything."""
        if isinstance(delta, Finish):
            return self._tell(
                self._input if delta.input_tokens is None else delta.input_tokens,
                self._estimate() if delta.output_tokens is None else delta.output_tokens,
            )
        self._chars += len(delta if isinstance(delta, str) else _text(delta))
        output = self._estimate()
        if self._told_input and output - self._told_output < _EVERY:
            return None
        return self._tell(self._input, output)

    def _estimate(self) -> int:
        return -(-self._chars // _CHARS)

    def _tell(self, read: int, written: int) -> Usage | None:
        usage = Usage(read - self._told_input, written - self._told_output)
        self._told_input, self._told_output = read, written
        return usage if usage.input_tokens or usage.output_tokens else None


def _text(delta: Delta) -> str:
    if isinstance(delta, CallRequest):
        return delta.arguments
    return getattr(delta, "text", "")


def _size(message: UserMessage | AssistantMessage | ToolMessage) -> int:
    if isinstance(message, ToolMessage):
        return len(message.result)
    if isinstance(message, UserMessage):
        return len(message.text) + _IMAGE * len(message.images)
    return len(message.text) + sum(len(call.arguments) for call in message.calls)
