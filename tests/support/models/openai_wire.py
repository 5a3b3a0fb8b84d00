"""OpenAI's chat completions, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .script import Json, Reply

_FINISH = {"stop", "length", "content_filter"}


def events(reply: Reply, request: Json) -> Iterator[bytes]:
    """The stream's events; those that count as deltas of a Reply come between head and tail."""
    yield _chunk(request, {"role": "assistant", "content": ""})
    yield from _deltas(reply, request)
    yield from _tail(reply, request)


def error_event(reply: Reply) -> bytes:
    return _data({"error": _error(reply)})


def error_body(reply: Reply) -> bytes:
    return json.dumps({"error": _error(reply)}).encode()


def _error(reply: Reply) -> Json:
    kind, code, message = reply.error
    return {"message": message, "type": kind, "param": None, "code": code or None}


def _deltas(reply: Reply, request: Json) -> Iterator[bytes]:
    # Ollama and OpenRouter say `reasoning`, vLLM and DeepSeek `reasoning_content`.
    name = "reasoning" if len(reply.reasoning) % 2 else "reasoning_content"
    for piece in reply.reasoning:
        yield _chunk(request, {name: piece})
    for piece in reply.text:
        yield _chunk(request, {"content": piece})
    for url in reply.sources:
        cited = {"type": "url_citation", "url_citation": {"url": url, "title": "a title"}}
        yield _chunk(request, {"annotations": [cited]})
    for index, call in enumerate(reply.calls):
        head = {"name": call.tool, "arguments": ""}
        call_id = call.call_id or f"call_{index}"
        first = {"index": index, "id": call_id, "type": "function", "function": head}
        yield _chunk(request, {"tool_calls": [first]})
        for piece in _pieces(call.arguments):
            more = {"index": index, "function": {"arguments": piece}}
            yield _chunk(request, {"tool_calls": [more]})


def _tail(reply: Reply, request: Json) -> Iterator[bytes]:
    finish = reply.finish or ("tool_calls" if reply.calls else "stop")
    yield _chunk(request, {}, finish)
    asked = (request.get("stream_options") or {}).get("include_usage")
    if reply.usage is not None and asked:
        read, written = reply.usage
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }
        yield _data({**_head(request), "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _chunk(request: Json, delta: Json, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _data({**_head(request), "choices": [choice]})


def _head(request: Json) -> Json:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": request.get("model", ""),
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def _data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _pieces(text: str, size: int = 7) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]
