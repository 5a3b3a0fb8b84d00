"""Finds the async agent that blocks the event loop: a thread looks at what the loop's thread does.

The watch costs an agent nothing: nothing is counted or marked while agents run.
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
from types import FrameType
from typing import NamedTuple

import structlog

from .. import metrics
from .engines.python import PythonAgent

log_ = structlog.get_logger("resonantgenesis.agents")

#: Seconds between two looks.
_SAMPLE = 0.05
#: Seconds for which the loop does not move because of an agent.
BLOCKED = 0.25
#: How often an agent may block before it gets a thread of its own.
_PATIENCE = 2
_CLOSE_SECONDS = 2.0
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


class _Found(NamedTuple):
    """An agent's turn that the loop runs at this moment, and where it is."""

    agent: PythonAgent
    frame: FrameType
    place: FrameType


class LoopWatch:
    """Watches the loop that it is started on, until `close`.

    With `isolate` an agent that has blocked twice runs in threads of its own from then on.
    """

    def __init__(self, *, isolate: bool) -> None:
        self._isolate = isolate
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def close(self) -> None:
        self._closing.set()
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)

    # Below: in the thread.

    def _run(self) -> None:
        while not self._closing.wait(_SAMPLE):
            if self._look() is None:
                continue
            moved = threading.Event()
            try:
                self._loop.call_soon_threadsafe(moved.set)
            except RuntimeError:  # the loop is closed
                return
            if moved.wait(BLOCKED):
                continue
            found = self._look()
            if found is not None:
                self._report(found)
            del found  # a frame keeps all that its function holds
            while not moved.wait(_SAMPLE) and not self._closing.is_set():
                pass

    def _look(self) -> _Found | None:
        """The agent that runs on the loop at this moment."""
        frame = sys._current_frames().get(self._loop_thread)
        place: FrameType | None = None
        inside = frame
        while frame is not None:
            if place is None and not frame.f_code.co_filename.startswith(_LIBRARIES):
                place = frame
            if frame.f_code is PythonAgent.ON_LOOP:
                # An agent in a library: where it was entered.
                own = place if place is not frame and place is not None else inside
                agent = frame.f_locals.get("self")
                if own is None or not isinstance(agent, PythonAgent):
                    return None
                return _Found(agent, frame, own)
            inside = frame
            frame = frame.f_back
        return None

    def _report(self, found: _Found) -> None:
        agent, place = found.agent, found.place
        agent.blocked += 1
        isolated = self._isolate and agent.blocked >= _PATIENCE
        turn = found.frame.f_locals.get("turn")
        metrics.agent_blocked()
        log_.warning(
            "an agent blocks the event loop",
            agent=agent.reference,
            file=place.f_code.co_filename,
            line=place.f_lineno,
            function=place.f_code.co_name,
            session=getattr(turn, "session_id", None),
            turn=getattr(turn, "turn", None),
            own_thread_from_now_on=isolated,
        )
        agent.is_isolated = agent.is_isolated or isolated
