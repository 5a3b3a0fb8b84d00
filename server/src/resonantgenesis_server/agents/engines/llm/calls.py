"""One call of a model, without a provider: the question, the answer, the failures."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from ....model.chunks import Reasoning, Source
from ...tools.images import Image

#: What stopped the model, in one vocabulary for all providers.
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]

#: How long a model should think first.
Effort = Literal["minimal", "low", "medium", "high"]

FailureKind = Literal[
    "rate_limited",  # asked too often; `retry_after` if the provider gave it
    "unavailable",  # overloaded, unreachable, silent, or broken off: another try may help
    "key",  # the credential was refused
    "quota",  # the account has nothing left
    "context",  # the conversation is longer than the model can read
    "model",  # the provider has no such model
    "tools",  # the model cannot call tools
    "tool_count",  # it was given more tools than the provider takes
    "refused",  # the request itself was refused
    "filtered",  # the provider's content filter stopped it
    "unreadable",  # the answer breaks the provider's protocol
    "crashed",  # the process that asked the model ended
]

#: Characters of a word that is kept.
_MAX_WORD = 64
_WORDS: dict[FinishReason, str] = {
    "stop": """
        stop stopped end end_turn eos eos_token endoftext stop_sequence stop_token stop_str
        complete completed done finish finished success natural
    """,
    "length": """
        length max_length model_length max_tokens max_output_tokens max_new_tokens token_limit
        context_length model_context_window_exceeded truncated incomplete
    """,
    "tool_calls": "tool_calls tool_call tool_use tools function_call function_calls",
    "content_filter": """
        content_filter content_filtered contentfilter safety image_safety sensitive recitation
        blocklist prohibited_content spii refusal language guardrail_intervened risk error_toxic
    """,
    "error": "error null_response",
}
_KNOWN: dict[str, FinishReason] = {
    word: reason for reason, words in _WORDS.items() for word in words.split()
}
#: Parts of other words; the first that fits counts.
_PARTS: tuple[tuple[re.Pattern[str], FinishReason], ...] = (
    (
        re.compile(
            r"error|abort|fail|malformed|invalid|unexpected|network|insufficient|overload|crash"
            r"|time_?d?_?out|cancel|unavailable|interrupt|exception|disconnect|too_many"
            r"|rate_limit|quota|missing_thought|killed|evicted|preempt"
        ),
        "error",
    ),
    (
        re.compile(r"filter|safety|sensitive|moderat|prohibit|recit|guardrail|block|censor|policy"),
        "content_filter",
    ),
    (re.compile(r"length|max_.*token|tokens?_limit|output_limit|context_window"), "length"),
    (re.compile(r"tool_?(call|use)|function_?call"), "tool_calls"),
)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool for a model. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallRequest:
    """The model wants a tool called. `arguments` is JSON as the model wrote it, maybe badly."""

    call_id: str
    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    text: str
    images: Sequence[Image] = ()


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """A message of the model. `native` is what the provider wants back with it; only the client
    that made it can read it. `calls` count over `native`, since they are always well-formed."""

    text: str
    calls: Sequence[CallRequest] = ()
    native: str | None = None


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The result of the call with this id, as text for the model."""

    call_id: str
    tool: str
    result: str
    is_error: bool = False


Message: TypeAlias = UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class Sampling:
    """The wishes of an agent for its model; None leaves the choice to the provider."""

    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: Effort | None = None


@dataclass(slots=True)
class ModelCall:
    """A question to a model. `model` is its name without the provider."""

    model: str
    system: str
    messages: list[Message]
    tools: Sequence[ToolSpec] = ()
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer; tokens are None where the provider does not report them.

    `reason` is a `FinishReason`, or the provider's own word for another good end. `said` is the
    provider's word for a bad end, for the server's log.
    """

    reason: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    native: str | None = None
    said: str = ""


#: The parts of a model's answer; `str` is text.
Delta: TypeAlias = str | Reasoning | Source | CallRequest | Finish


class ModelClient(Protocol):
    """Asks models of one provider. Safe for any number of calls at once."""

    def stream(self, call: ModelCall) -> AsyncGenerator[Delta, None]:
        """Yield the answer as it comes; the last delta is always a Finish. Raises ModelFailure.

        Closing the generator closes the provider's stream. A call waits only as long as its
        provider may be silent, and is never repeated.
        """
        ...

    async def close(self) -> None:
        """End the connections of this client."""
        ...


class ModelFailure(Exception):
    """A call that failed. `said` are the provider's words, for the server's log only."""

    def __init__(
        self, kind: FailureKind, said: str = "", *, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {said}")
        self.kind: FailureKind = kind
        self.said = said
        self.retry_after = retry_after

    def without(self, secret: str | None) -> ModelFailure:
        """This failure without a key that the provider may have repeated."""
        if not secret or secret not in self.said:
            return self
        said = self.said.replace(secret, "…")
        return ModelFailure(self.kind, said, retry_after=self.retry_after)


def why_it_stopped(word: str) -> str:
    """The `FinishReason` for a server's word, or the word itself for another good end."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()
    plain = re.sub(r"[^a-z]+", "_", apart).strip("_").removeprefix("finish_reason_")
    known = _KNOWN.get(plain)
    if known is not None:
        return known
    for parts, reason in _PARTS:
        if parts.search(plain):
            return reason
    return "".join(sign for sign in word if sign.isprintable())[:_MAX_WORD] or "stop"
