"""Our messages as those of LangChain.

An answer is one or more AI messages, each with the calls that it makes, and a tool message for each
result. Text behind a call begins a new AI message, and so does a step. `Places` numbers them, both
for chunks as they come and for the parts of a whole answer, so both name the same messages.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import orjson

Json = dict[str, Any]
#: The newest messages that a thread's values have at most.
MOST_MESSAGES = 1_000
#: The entry of a turn's metadata that has the client's id of the user's message.
MESSAGE_ID = "langgraph_message_id"
#: The place of a call: the number of its AI message, and its number there.
CallPlace = tuple[int, int]


class Places:
    """Where the next piece of an answer stands."""

    __slots__ = ("_calls", "_count", "_is_open", "_known", "_steps", "number")

    def __init__(self) -> None:
        #: The number of the newest AI message; -1: none yet.
        self.number = -1
        self._is_open = False
        self._count = 0
        #: The calls of each id that have no result yet, and all ids.
        self._calls: dict[str, tuple[CallPlace, ...]] = {}
        self._known: frozenset[str] = frozenset()
        #: The steps that run, those of sub-agents among them.
        self._steps: frozenset[int] = frozenset()

    def copy(self) -> Self:
        other = copy.copy(self)
        other._calls = dict(self._calls)
        return other

    def text(self) -> int:
        """The number of the AI message of a piece of text."""
        if self._count:
            self._is_open = False
        return self._open()

    def call(self, call_id: str) -> CallPlace:
        place = (self._open(), self._count)
        self._count += 1
        self._known |= {call_id}
        self._calls[call_id] = (*self._calls.get(call_id, ()), place)
        return place

    def knows(self, call_id: str) -> bool:
        """Whether the call was shown."""
        return call_id in self._known

    def result(self, call_id: str) -> CallPlace | None:
        """The place of the call; None for a result too many."""
        waiting = self._calls.get(call_id, ())
        self._calls[call_id] = waiting[1:]
        return waiting[0] if waiting else None

    def step(self) -> None:
        """A step begins."""
        if self._count:
            self._is_open = False

    def step_is(self, number: int, status: str, *, is_own: bool) -> None:
        """A chunk of a step. `is_own`: the step is of the agent whose messages these are."""
        if status == "started":
            if is_own and number not in self._steps:
                self.step()
            self._steps |= {number}
        elif status == "completed":
            self._steps -= {number}

    def break_off(self) -> None:
        """What follows is in another AI message."""
        self._is_open = False

    def _open(self) -> int:
        if not self._is_open:
            self._is_open = True
            self.number += 1
            self._count = 0
        return self.number


def human_message(message_id: str, content: str) -> Json:
    return {"type": "human", "id": message_id, "content": content, **_open_fields()}


def ai_message(base: str, number: int) -> Json:
    return {
        "type": "ai",
        "id": f"{base}.{number}",
        "content": "",
        "tool_calls": [],
        "invalid_tool_calls": [],
        **_open_fields(),
    }


def ai_chunk(base: str, number: int, text: str = "", **more: Any) -> Json:
    """A piece of an AI message, for clients that add up the pieces."""
    return ai_message(base, number) | {"type": "AIMessageChunk", "content": text} | more


def tool_call(call_id: str, part: Mapping[str, Any]) -> Json:
    return {"name": part["tool"], "args": part.get("args") or {}, "id": call_id}


def tool_message(base: str, place: CallPlace, result: Mapping[str, Any]) -> Json:
    """The message of a tool's result; `result` is the chunk or the part."""
    value = result.get("result")
    return {
        "type": "tool",
        "id": f"{base}.{place[0]}.{place[1]}",
        "name": result["tool"],
        "tool_call_id": result["call_id"],
        "content": value if isinstance(value, str) else orjson.dumps(value).decode(),
        "status": "error" if result.get("is_error") else "success",
        **_open_fields(),
    }


def reasoning(text: str) -> Json:
    """The fields of an AI message for what its model thought."""
    return {"additional_kwargs": {"reasoning_content": text}}


def answer_messages(
    base: str, parts: Iterable[Mapping[str, Any]], usage: Mapping[str, int] | None = None
) -> list[Json]:
    """The messages of an answer with these parts, those of sub-agents left out. `base` begins
    their ids."""
    found: list[Json] = []
    answers: list[Json] = []
    places = Places()

    def ai(number: int) -> Json:
        if number == len(answers):
            answers.append(ai_message(base, number))
            found.append(answers[-1])
        return answers[number]

    for part in parts:
        if part.get("agent_id") or part.get("parent"):
            continue
        kind = part["type"]
        if kind == "text":
            ai(places.text())["content"] += part["content"]
        elif kind == "reasoning":
            known = ai(places.text())["additional_kwargs"]
            known["reasoning_content"] = known.get("reasoning_content", "") + part["content"]
        elif kind == "tool_call":
            place = places.call(part["call_id"])
            ai(place[0])["tool_calls"].append(
                tool_call(part["call_id"], part) | {"type": "tool_call"}
            )
            if "is_error" in part:
                found.append(tool_message(base, place, part))
        elif kind == "step":
            places.step()
        elif kind == "user_message":
            places.break_off()
            found.append(human_message(part["message_id"], part["content"]))
    if usage is not None and answers:
        answers[-1]["usage_metadata"] = _usage(usage)
    return found


def page_messages(messages: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Messages of a session's page, without turns that were regenerated."""
    found: list[Json] = []
    for message in messages:
        if message.get("replaced_by"):
            continue
        if message["role"] == "user":
            name = (message.get("metadata") or {}).get(MESSAGE_ID) or message["id"]
            found.append(human_message(name, message["parts"][0]["content"]))
        else:
            found += answer_messages(message["id"], message["parts"], message.get("usage"))
    return found


def interrupts_in(parts: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The open asks in the parts of an answer."""
    return [
        interrupt(part)
        for part in parts
        if part["type"] == "input_required" and part["status"] == "open"
    ]


def interrupt(ask: Mapping[str, Any]) -> Json:
    """An ask as an interrupt: an approval as LangChain's middleware asks for it, a client's own
    tool as its headless tools, and a question with its message and schema."""
    call_id, kind = ask["call_id"], ask["kind"]
    value: Json = {
        name: ask[name] for name in ("kind", "message", "schema", "expires_at") if ask.get(name)
    }
    if kind == "approval":
        action = {"name": ask["tool"], "args": ask.get("args") or {}}
        if ask.get("message"):
            action["description"] = ask["message"]
        allowed = ["approve", "reject"]
        review = {"action_name": ask["tool"], "allowed_decisions": allowed}
        value |= {"action_requests": [action], "review_configs": [review]}
    elif kind == "tool":
        value |= {"type": "tool", "tool_call": tool_call(call_id, ask)}
    return {"id": call_id, "value": value}


def _open_fields() -> Json:
    return {"additional_kwargs": {}, "response_metadata": {}}


def _usage(usage: Mapping[str, int]) -> Json:
    taken, given = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {"input_tokens": taken, "output_tokens": given, "total_tokens": taken + given}
