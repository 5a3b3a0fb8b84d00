"""How many tools providers take in one request."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ....model.errors import AgentError
from .names import ModelName

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
