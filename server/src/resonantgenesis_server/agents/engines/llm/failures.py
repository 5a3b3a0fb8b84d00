"""What clients are told of a model call that failed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ....model.errors import AgentError
from .calls import FailureKind, ModelFailure
from .names import ModelName

#: Seconds to wait where a provider limits the rate and does not say for how long.
_RATE_PAUSE = 5.0

#: What cannot be mended by trying again.
_WORDS: Mapping[FailureKind, str] = {
    "key": "{provider} refused the server's key: check {setting}",
    "quota": "the server's account at {provider} has no credit or quota left",
    "context": "the conversation is too long for {model}: start a new session, give it less"
    " context, or lower llm.history_chars (now {history})",
    "model": "{provider} has no model {name!r}{pull}",
    "tools": "{model} cannot call tools: give its agent none, `tools: []` (chat: --no-tools)",
    "refused": "{provider} refused the request; the server's log says why",
    "filtered": "the content filter of {provider} stopped the answer",
    "unreadable": "the answer of {provider} cannot be read; the server's log says why",
}


def agent_error(
    failure: ModelFailure, model: ModelName, *, history_chars: int, tools: int
) -> AgentError:
    """In our words: a provider's may name accounts and addresses, so they go to the log only."""
    provider, is_ollama = model.provider, model.provider == "ollama"
    if failure.kind == "rate_limited":
        seconds = _RATE_PAUSE if failure.retry_after is None else failure.retry_after
        words = f"{provider} limits the rate of requests; try again in {math.ceil(seconds)} s"
        return AgentError(words, "RATE_LIMITED", retry_after=seconds)
    if failure.kind == "crashed":
        words = "the process that asked the model ended; the server's log says how"
        return AgentError(words, retryable=True)
    if failure.kind == "unavailable":
        hint = " (is it running?)" if is_ollama else ""
        words = f"{provider} does not answer, or broke off its answer{hint}"
        return AgentError(words, "MODEL_UNAVAILABLE", retry_after=failure.retry_after)
    if failure.kind == "tool_count":
        return AgentError(too_many_tools(model, tools, stated_limit(failure.said)))
    return AgentError(
        _WORDS[failure.kind].format(
            provider=provider,
            name=model.name,
            model=model,
            setting=model.key_setting,
            history=history_chars,
            pull=f"; `ollama pull {model.name}` gets it" if is_ollama else "",
        )
    )


#: Stated by the providers themselves: "a max of 128 functions are supported" (OpenAI, Groq and
#: DeepSeek, chat completions, `tools`), "at most 512 function declarations" (Gemini, the error).
MAX_TOOLS: Mapping[str, int] = {
    "openai": 128,
    "openai-chat": 128,
    "openai-responses": 128,
    "azure": 128,
    "groq": 128,
    "deepseek": 128,
    "google": 512,
    "google-cloud": 512,
}
_STATED = re.compile(
    r"(?:maximum length|more than|at most|max(?:imum)? of|up to|limit of) (\d{1,6})"
)


def check_tool_count(model: ModelName, count: int) -> None:
    """Raises AgentError for more tools than the model's provider is known to take."""
    most = MAX_TOOLS.get(model.provider)
    if most is not None and count > most:
        raise AgentError(too_many_tools(model, count, most))


def stated_limit(said: str) -> int | None:
    """The number of tools that a provider's refusal says it takes."""
    match = _STATED.search(said.lower())
    return None if match is None else int(match.group(1))


def too_many_tools(model: ModelName, count: int, most: int | None) -> str:
    """What clients are told."""
    takes = "fewer" if most is None else f"at most {most}"
    return (
        f"the turn has {count} tools, {model.provider} takes {takes}:"
        " name fewer in the agent's `tools`"
    )
