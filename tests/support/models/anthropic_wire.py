"""Anthropic's messages, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .script import Json, Reply

_STOP = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def events(reply: Reply, request: Json) -> Iterator[bytes]:
    """The stream's events; those that count as deltas of a Reply come between head and tail."""
    read, written = reply.usage or (0, 0)
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request.get("model", ""),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": read, "output_tokens": 1},
    }
    yield _event({"type": "message_start", "message": message})
    yield from _deltas(reply)
    stop = _STOP.get(reply.finish or "", "tool_use" if reply.calls else "end_turn")
    delta = {"stop_reason": stop, "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": written}})
    yield _event({"type": "message_stop"})


def error_event(reply: Reply) -> bytes:
    return _event(_error(reply))


def error_body(reply: Reply) -> bytes:
    return json.dumps(_error(reply)).encode()


def _error(reply: Reply) -> Json:
    kind, _, message = reply.error
    return {"type": "error", "error": {"type": kind, "message": message}}


def _cited(url: str) -> Json:
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": "a title",
        "cited_text": "so",
        "encrypted_index": "e",
    }


def _deltas(reply: Reply) -> Iterator[bytes]:
    index = 0
    if reply.reasoning:
        block: Json = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in reply.reasoning]
        signed: Json = {"type": "signature_delta", "signature": "c2lnbmVk"}
        yield from _block(index, block, [*deltas, signed])
        index += 1
    if reply.text:
        pieces: list[Json] = [{"type": "text_delta", "text": piece} for piece in reply.text]
        pieces += [{"type": "citations_delta", "citation": _cited(url)} for url in reply.sources]
        yield from _block(index, {"type": "text", "text": ""}, pieces)
        yield _event({"type": "ping"})
        index += 1
    for number, call in enumerate(reply.calls):
        call_id = call.call_id or f"toolu_{number}"
        block = {"type": "tool_use", "id": call_id, "name": call.tool, "input": {}}
        text = call.arguments
        parts: list[Json] = [
            {"type": "input_json_delta", "partial_json": text[start : start + 7]}
            for start in range(0, len(text), 7)
        ]
        yield from _block(index, block, parts)
        index += 1


def _block(index: int, block: Json, deltas: list[Json]) -> Iterator[bytes]:
    yield _event({"type": "content_block_start", "index": index, "content_block": block})
    for delta in deltas:
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def _event(value: Json) -> bytes:
    data = json.dumps(value, ensure_ascii=False)
    return f"event: {value['type']}\ndata: {data}\n\n".encode()
