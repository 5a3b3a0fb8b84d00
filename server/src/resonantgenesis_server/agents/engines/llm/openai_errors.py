"""What the errors of servers of chat completions stand for."""

from __future__ import annotations

import orjson

from .calls import FailureKind, ModelFailure

#: Characters of a provider's words that are kept.
MAX_WORDS = 1_000


def stream_failure(error: object) -> ModelFailure:
    """What an error inside a stream stands for."""
    kind, code, message = _error_fields(error)
    words = f"{kind} {code} {message}".lower()
    if "rate" in words and "limit" in words:
        return ModelFailure("rate_limited", message)
    found = _by_words(words)
    return ModelFailure(found or "unavailable", message)


def http_failure(status: int, body: bytes, retry_after: float | None) -> ModelFailure:
    """What a refusal by HTTP stands for."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = body.decode("utf-8", "replace")
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    kind, code, message = _error_fields(error)
    said = f"HTTP {status} {message}"[:MAX_WORDS]
    words = f"{kind} {code} {message}".lower()
    if status in {401, 403}:
        return ModelFailure("key", said)
    if status == 402 or "insufficient_quota" in words:
        return ModelFailure("quota", said)
    if status == 429:
        return ModelFailure("rate_limited", said, retry_after=retry_after)
    if status == 408 or status >= 500:
        return ModelFailure("unavailable", said, retry_after=retry_after)
    found = _by_words(words)
    if found is None and status == 404:
        found = "model"
    return ModelFailure(found or "refused", said)


def _by_words(words: str) -> FailureKind | None:
    """By the codes and phrases of the common servers; None when they tell nothing."""
    if "context_length" in words or ("context" in words and ("length" in words or "size" in words)):
        return "context"
    if "model_not_found" in words or ("model" in words and "not found" in words):
        return "model"
    if "content_filter" in words or "content management policy" in words:
        return "filtered"
    if "does not support tools" in words:
        return "tools"
    if "invalid_api_key" in words:
        return "key"
    return None


def _error_fields(error: object) -> tuple[str, str, str]:
    """Its type, code and message."""
    if not isinstance(error, dict):
        return "", "", str(error)[:MAX_WORDS]
    kind, code = str(error.get("type") or ""), str(error.get("code") or "")
    return kind, code, str(error.get("message") or error)[:MAX_WORDS]
