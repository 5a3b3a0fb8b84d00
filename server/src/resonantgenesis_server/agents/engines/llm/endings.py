"""Why models stop, in the words of many servers."""

from __future__ import annotations

import re

from .calls import FinishReason

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
#: Parts of words that nobody has listed; the first that fits.
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


def why_it_stopped(word: str) -> str:
    """The `FinishReason` that a server's word stands for; else the word, which is a good end."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()
    plain = re.sub(r"[^a-z]+", "_", apart).strip("_").removeprefix("finish_reason_")
    known = _KNOWN.get(plain)
    if known is not None:
        return known
    for parts, reason in _PARTS:
        if parts.search(plain):
            return reason
    return "".join(sign for sign in word if sign.isprintable())[:_MAX_WORD] or "stop"
