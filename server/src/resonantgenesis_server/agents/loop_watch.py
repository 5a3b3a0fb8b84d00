"""Finds the async agent that blocks the event loop: a thread looks at what the loop's thread does.

The watch costs an agent nothing: nothing is counted or marked while agents run.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import sysconfig
import threading
from itertools import chain, islice, starmap
from operator import attrgetter, methodcaller
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
#: Frames that are looked at.
_DEEPEST = 1_000
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
        place = inside = None
        for frame in _frames_of(self._loop_thread):
            if place is None and not frame.f_code.co_filename.startswith(_LIBRARIES):
                place = frame
            if frame.f_code is PythonAgent.ON_LOOP:
                # An agent in a library: where it was entered.
                own = place if place is not frame and place is not None else inside or frame
                agent = frame.f_locals.get("self")
                if not isinstance(agent, PythonAgent):
                    return None
                return _Found(agent, frame, own)
            inside = frame
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


def _frames_of(thread: int) -> list[FrameType]:
    """The frames of a running thread, the innermost first.

    One call finds them all, without a step of Python in which the thread could run on: a look from
    frame to frame has crashed the process in CPython 3.11, at the caller of a frame that had ended.
    """
    frames: list[FrameType] = []
    innermost = map(methodcaller("get", thread), starmap(sys._current_frames, [()]))
    callers = islice(map(attrgetter("f_back"), frames), _DEEPEST)
    with contextlib.suppress(AttributeError):  # None has no caller
        frames.extend(chain(innermost, callers))
    return [frame for frame in frames if frame is not None]
