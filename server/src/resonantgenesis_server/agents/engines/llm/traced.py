"""The span of a model's call, and what was said in it where that is asked for."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from ....codec.json import dumps
from ....tracing import spans
from ...base import Turn
from .calls import (
    AssistantMessage,
    CallRequest,
    Delta,
    Finish,
    Message,
    ModelCall,
    ModelFailure,
    ToolMessage,
)


async def traced(
    deltas: AsyncGenerator[Delta, None], call: ModelCall, provider: str, turn: Turn
) -> AsyncGenerator[Delta, None]:
    """These deltas, within a span; only where spans are made, since it looks at each delta."""
    span = spans.model(call.model, provider, turn.session_id, turn.agent_id)
    span.show(
        gen_ai__system_instructions=lambda: _json([{"type": "text", "content": call.system}]),
        gen_ai__input__messages=lambda: _json([_message(each) for each in call.messages]),
    )
    began = time.perf_counter()
    texts: list[str] = []
    calls: list[CallRequest] = []
    # Not in a `with` block: a generator that yields would leave its span current for its reader.
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                if not texts and not calls:
                    first = time.perf_counter() - began
                    span.set(gen_ai__response__time_to_first_chunk=first)
                if isinstance(delta, Finish):
                    span.set(
                        gen_ai__usage__input_tokens=delta.input_tokens,
                        gen_ai__usage__output_tokens=delta.output_tokens,
                        gen_ai__response__finish_reasons=[delta.reason],
                    )
                elif isinstance(delta, CallRequest):
                    calls.append(delta)
                else:
                    texts.append(delta if isinstance(delta, str) else "")
                yield delta
    except ModelFailure as failure:
        span.fail(failure.kind)
        raise
    finally:
        answer = AssistantMessage("".join(texts), calls)
        span.show(gen_ai__output__messages=lambda: _json([_message(answer)]))
        span.end()


def _message(message: Message) -> dict[str, Any]:
    """In the form of the conventions: a role and parts."""
    if isinstance(message, ToolMessage):
        result = {"type": "tool_call_response", "id": message.call_id, "response": message.result}
        return {"role": "tool", "parts": [result]}
    parts: list[dict[str, Any]] = [{"type": "text", "content": message.text}]
    if not isinstance(message, AssistantMessage):
        return {"role": "user", "parts": parts}
    parts += [
        {"type": "tool_call", "id": each.call_id, "name": each.tool, "arguments": each.arguments}
        for each in message.calls
    ]
    return {"role": "assistant", "parts": parts}


def _json(value: Sequence[Any]) -> str:
    return dumps(value).decode()
