"""Remembers the client's streams that broke off, so that `resume_from` alone finds them.

The server never guesses a session. A caller that repeats `execute_stream(…, resume_from=N)` after
a lost connection names none either. The client therefore looks for a stream of this task (or
thread) with the same agent, goal, context and session that broke off at N.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from .._core.execute import Execution
from .._core.progress import ResumePoint
from .._core.stream_plan import StreamPlan
from .fork import PerProcess

#: After this many seconds the server has forgotten the Idempotency-Key as well.
MAX_AGE = 24 * 3600.0
MAX_ENTRIES = 4096


def current_owner() -> object:
    """The running task, else the thread, for which a broken stream is remembered."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.current_thread()


@dataclass(frozen=True, slots=True)
class _Entry:
    owner: weakref.ref[object]
    task: tuple[str, ...]
    resume_point: ResumePoint
    since: float


class _Entries:
    """The entries of one process; another one's streams are not taken up."""

    def __init__(self) -> None:
        self.all: list[_Entry] = []
        self.sweep_at = 64
        self.lock = threading.Lock()


class ResumeMemory:
    """Bounded in number and age; entries go with the task that they belong to."""

    def __init__(
        self,
        *,
        max_entries: int = MAX_ENTRIES,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_age = max_age
        self._clock = clock
        self._entries = PerProcess(_Entries)

    def __len__(self) -> int:
        return len(self._entries.get().all)

    def plan(self, execution: Execution, session_id: str | None) -> StreamPlan:
        """Plan the stream of an execute: take up what this task or thread left, or begin anew."""
        owner, task = current_owner(), execution.task
        broken = None
        if execution.may_resume:
            broken = self.recall(owner, task, execution.resume_from or 0)
        plan = execution.plan(session_id, broken)
        self.remember(owner, task, plan.resume_point)
        return plan

    def remember(self, owner: object, task: tuple[str, ...], resume_point: ResumePoint) -> None:
        """Keep `resume_point`, which its stream goes on changing, until it is settled."""
        entries = self._entries.get()
        with entries.lock:
            entries.all.append(_Entry(weakref.ref(owner), task, resume_point, self._clock()))
            if len(entries.all) >= entries.sweep_at:
                self._sweep(entries)

    def recall(self, owner: object, task: tuple[str, ...], position: int) -> ResumePoint | None:
        """The newest stream of `task` that stands at `position`, taken out; None if there is none.

        A caller that failed over a chunk asks for less than was handed to it, so a stream that
        is further on is the second choice. For position 0 neither this nor a stream that
        somebody still reads will do: 0 also says "start anew".
        """
        entries = self._entries.get()
        with entries.lock:
            self._sweep(entries)
            own = [e for e in reversed(entries.all) if e.owner() is owner and e.task == task]
            found = next(
                (
                    e
                    for e in own
                    if e.resume_point.position == position and (position or e.resume_point.broken)
                ),
                None,
            )
            if found is None and position:
                found = next((e for e in own if e.resume_point.position > position), None)
            if found is None:
                return None
            entries.all = [entry for entry in entries.all if entry is not found]
            return found.resume_point

    def _sweep(self, entries: _Entries) -> None:
        oldest = self._clock() - self._max_age
        alive = [
            entry
            for entry in entries.all
            if not entry.resume_point.settled and entry.since > oldest and entry.owner() is not None
        ]
        entries.all = alive[-self._max_entries :]
        # Sweeping when the list has doubled keeps the cost per stream constant.
        entries.sweep_at = min(max(64, 2 * len(entries.all)), self._max_entries + 64)
