"""Fields that a server wants back with its own message: reasoning, signatures, additions.

They are kept as JSON in `AssistantMessage.native`: `{"message": {…}, "calls": [{…}, …]}`, fields
for the message and for each of its tool calls. They go back within the turn only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from .....codec.json import NotJson, dumps, loads
from ..calls import ModelFailure
from . import MAX_EVENT

_OWN = re.compile(
    r"reasoning|thinking|thought|signature|encrypted|extra_content|provider_specific|provider_data"
)
#: Fields of an entry of a list (`reasoning_details`, `thinking_blocks`) that come in pieces.
_GROWING = ("text", "summary", "thinking", "content")
_MAX_SIZE = 4 * MAX_EVENT


@lru_cache(1_000)
def is_state(name: str) -> bool:
    """True if the field is an addition of one provider that belongs to the message."""
    return _OWN.search(name) is not None


class StateKeeper:
    """Gathers such fields over the deltas of an answer."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._others: dict[str, Any] = {}
        self._size = 0

    def add(self, name: str, value: object) -> None:
        if isinstance(value, str):
            self._grow(len(value))
            parts = self._texts.setdefault(name, [])
            if not _is_opaque(name) or value not in parts:
                parts.append(value)
        elif isinstance(value, list):
            kept = self._others.get(name)
            if not isinstance(kept, list):
                kept = self._others[name] = []
            for entry in value:
                self._entry(kept, entry)
        elif isinstance(value, dict) and isinstance(self._others.get(name), dict):
            _add(self._others[name], value)
        else:
            self._others[name] = value

    def native(self, calls: Sequence[Mapping[str, Any]], content: str | None) -> str | None:
        """The fields to send back, if any. `content` replaces the text that was shown."""
        message = {name: "".join(parts) for name, parts in self._texts.items()} | self._others
        if content is not None:
            message["content"] = content
        if not message and not any(calls):
            return None
        try:
            return dumps({"message": message, "calls": [dict(call) for call in calls]}).decode()
        except NotJson:  # a number that only its server can write
            return None

    def _entry(self, kept: list[Any], entry: object) -> None:
        if not isinstance(entry, dict):
            kept.append(entry)
            return
        self._grow(sum(len(value) for value in entry.values() if isinstance(value, str)))
        last = kept[-1] if kept else None
        if isinstance(last, dict) and _goes_on(last, entry):
            _add(last, entry)
        else:
            kept.append(dict(entry))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > _MAX_SIZE:
            raise ModelFailure("unreadable", f"reasoning of over {_MAX_SIZE} characters")


def with_state(message: dict[str, Any], native: str) -> dict[str, Any]:
    """Add the fields that the server wants back; the rest of the message stays."""
    state = loads(native)
    message |= state["message"]
    for call, extras in zip(message.get("tool_calls", ()), state["calls"], strict=False):
        call["function"] |= extras.pop("function", {})
        call.update(extras)
    return message


def _add(kept: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if name in _GROWING and isinstance(value, str) and isinstance(kept.get(name), str):
            kept[name] += value
        elif value is not None:
            kept[name] = value


def _is_opaque(name: str) -> bool:
    """True for a signature, which is sent whole; some servers repeat it."""
    return "signature" in name or "encrypted" in name or name.endswith("opaque")


def _goes_on(last: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """True if an entry is the next piece of the last one."""
    if "data" in entry or "data" in last:
        return False
    if any(last.get(name) != entry.get(name) for name in ("type", "index")):
        return False
    ids = {last.get("id"), entry.get("id")} - {None}
    return len(ids) < 2 and (last.get("index") is not None or not last.get("signature"))
