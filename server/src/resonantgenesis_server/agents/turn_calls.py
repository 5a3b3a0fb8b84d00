"""Ids of a turn's calls of tools."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Container

#: Ids that an agent chooses may look like ours.
_NUMBERED = re.compile(r"call_([0-9]{1,9})")


class TurnCalls:
    """A turn's tool calls, each with an id, and those that wait for their result. A tool is a tuple
    of its name and what tells its callers apart."""

    def __init__(self) -> None:
        #: The number of calls, or the highest number of an id that looks like ours.
        self._number = 0
        #: Calls by agent and tool, in their order. An OrderedDict, because a plain dict finds its
        #: first key by passing all keys that were removed before it.
        self._unanswered: dict[tuple[str, ...], OrderedDict[str, None]] = {}

    def called(self, tool: tuple[str, ...], own_id: str | None) -> str:
        """The id of a call: the agent's own, else a new one."""
        call_id = self._new()
        if own_id:
            numbered = _NUMBERED.fullmatch(own_id)
            self._number = max(self._number, int(numbered[1]) if numbered else 0)
            call_id = own_id
        self._unanswered.setdefault(tool, OrderedDict())[call_id] = None
        return call_id

    def answered(self, tool: tuple[str, ...], own_id: str | None) -> str:
        """The id of a result: the agent's own, else that of the tool's oldest call without a
        result. A result that answers no call gets an id of its own."""
        of_tool = self._unanswered.get(tool, OrderedDict())
        call_id = own_id or next(iter(of_tool), None) or self._new()
        for tool_called, waiting in ((tool, of_tool), *self._unanswered.items()):
            if call_id in waiting:
                del waiting[call_id]
                if not waiting:
                    del self._unanswered[tool_called]
                break
        return call_id

    def asked_about(
        self, tool: tuple[str, ...], own_id: str, asked: Container[str]
    ) -> tuple[str, bool]:
        """The id of the call that an ask is about, and whether it was called already: the agent's
        own, else the tool's oldest call without result that was not asked about, else a new one."""
        of_tool = self._unanswered.get(tool, OrderedDict())
        call_id = own_id or next((each for each in of_tool if each not in asked), None)
        if call_id is None:
            return self._new(), False
        return call_id, any(call_id in waiting for waiting in self._unanswered.values())

    def _new(self) -> str:
        self._number += 1
        return f"call_{self._number}"
