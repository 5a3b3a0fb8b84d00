"""The tools of one turn, for an agent that calls them itself."""

from __future__ import annotations

import asyncio
import threading

from ...model.chunks import ToolCall, ToolResult
from ..base import Turn
from .base import ToolContext
from .toolbox import Toolbox, is_named

#: Seconds that an agent's thread waits for a result; longer than any tool's time limit and start.
_THREAD_WAIT = 8_000.0


class TurnToolbox:
    """The `TurnTools` of a turn; made on the event loop. Only what is called is started."""

    def __init__(self, toolbox: Toolbox, turn: Turn) -> None:
        self._toolbox = toolbox
        self._names = turn.tools
        self._context = ToolContext.of(turn)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    async def run(self, call: ToolCall) -> ToolResult:
        is_allowed = self._names is None or is_named(call.tool, self._names)
        tools = await self._toolbox.for_turn([call.tool] if is_allowed else self._names)
        return await tools.run(call, self._context)

    def run_from_thread(self, call: ToolCall) -> ToolResult:
        if threading.get_ident() == self._thread:
            raise RuntimeError("this is the event loop: await run instead")
        work = self.run(call)
        try:
            waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the server has stopped
            work.close()
            raise
        return waiting.result(_THREAD_WAIT)
