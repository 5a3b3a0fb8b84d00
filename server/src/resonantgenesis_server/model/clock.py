"""What time it is, for what is dated and for what expires, when the clock of the machine may jump.

A clock that is set, or that is wrong for a moment, moves without that time has passed. So:

- `now` follows the machine's clock but for steps: those it follows once the clock has stood by them
  for ten minutes. A clock that is wrong for a moment dates nothing.
- `passed` does not step. Seconds on it are seconds that have passed, also while the program did not
  run, as far as that can be known. What keeps its own dates to itself is dated and expires by it.
- `before` says for dates of `now` which of them are older than so many seconds that have passed.

What passed while the program did not run is known by the kernel's clock since its start, unless the
machine was started anew meanwhile. Then the machine's clock is asked, and believed once it has
stood by its answer for a day.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

#: By so much the two clocks may be apart that are read one after the other, in seconds; and by
#: so much they move apart in a second, where the machine's is put right without a step.
_TOLERANCE, _SLEW = 2.0, 0.0005
#: So long a step must last until it is followed.
_HOLD = 600.0
#: So long until time of which nothing is known but a step has passed.
_BELIEVED = 86_400.0
_MAX_GAPS = 64


@dataclass(frozen=True, slots=True)
class Gap:
    """Dates between which no time passed. `is_known`: not as far as anybody knows."""

    since: float
    until: float
    is_known: bool

    def counts(self, now: float) -> bool:
        """Whether its time is taken as passed after all."""
        return not self.is_known and now >= self.until + _BELIEVED


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept over a restart: a moment by `now` and by the kernel's clock since the machine's
    start `boot`, the gaps, and how much `passed` is behind `now` for gaps that are forgotten."""

    now: float
    steady: float
    boot: str
    skipped: float = 0.0
    gaps: tuple[Gap, ...] = field(default=())


def wall_time() -> float:
    """Seconds since 1970, as the machine has them."""
    return time.time()


def steady_time() -> float:
    """Seconds since the machine started, sleep included where the system tells."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


def boot_id() -> str:
    """Another one for each start of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class Clock:
    """The one clock of a process; may be asked from any thread.

    `wall` and `steady` are the machine's clock and the kernel's since the machine's start `boot`;
    `known` is what the last process kept.
    """

    def __init__(
        self,
        wall: Callable[[], float] = wall_time,
        steady: Callable[[], float] = steady_time,
        *,
        boot: str = "",
        known: Known | None = None,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._boot = boot
        self._lock = threading.RLock()
        self._skipped = 0.0 if known is None else known.skipped
        self._gaps: list[Gap] = [] if known is None else list(known.gaps)
        #: By how much `now` is ahead of the steady clock, and when the machine's agreed to that.
        self._offset = wall() - steady()
        self._agreed = steady()
        #: The step that is not followed yet: where it leads, and since when.
        self._doubted: tuple[float, float] | None = None
        if known is not None:
            self._resume(known)

    def now(self) -> float:
        """Seconds since 1970."""
        steady = self._steady()
        offset = self._wall() - steady
        if self._doubted is None and self._agrees(offset, steady):
            self._offset, self._agreed = offset, steady
        else:
            self._look(offset, steady)
        return steady + self._offset

    def passed(self) -> float:
        """Seconds that have passed; as dates of `now` where the clock never jumped."""
        now = self.now()
        with self._lock:
            return now - self._skipped - sum(_length(gap, now) for gap in self._gaps)

    def before(self, seconds: float) -> float:
        """The date since which so many seconds have passed: what is dated earlier is older."""
        date = self.now()
        left = seconds
        with self._lock:
            gaps = [gap for gap in self._gaps if not gap.counts(date)]
        for gap in reversed(gaps):
            if date - gap.until >= left:
                break
            left -= max(0.0, date - gap.until)
            date = min(date, gap.since)
        return date - left

    def known(self) -> Known:
        """What to keep for the next process."""
        now = self.now()
        with self._lock:
            return Known(now, self._steady(), self._boot, self._skipped, tuple(self._gaps))

    # -- inside ----------------------------------------------------------------------------

    def _resume(self, known: Known) -> None:
        steady = self._steady()
        if self._boot and self._boot == known.boot and steady >= known.steady:
            # The same as if the program had run meanwhile.
            self._offset, self._agreed = known.now - known.steady, known.steady
            return
        now = steady + self._offset
        if now > known.now + _TOLERANCE:
            self._skip(Gap(known.now, now, is_known=False))
        elif now < known.now:
            # It was later already: a machine whose clock was lost, and is not set yet.
            self._offset = known.now - steady

    def _agrees(self, offset: float, steady: float) -> bool:
        apart = abs(offset - self._offset)
        return apart <= _TOLERANCE + _SLEW * max(0.0, steady - self._agreed)

    def _look(self, offset: float, steady: float) -> None:
        with self._lock:
            if self._agrees(offset, steady):
                self._doubted = None  # it was for a moment
                self._offset, self._agreed = offset, steady
                return
            doubted = self._doubted
            if doubted is None or abs(offset - doubted[0]) > _TOLERANCE:
                self._doubted = offset, steady
            elif steady - doubted[1] >= _HOLD:
                self._follow(offset, steady)

    def _follow(self, offset: float, steady: float) -> None:
        before, now = steady + self._offset, steady + offset
        self._offset, self._agreed, self._doubted = offset, steady, None
        if now > before:
            self._skip(Gap(before, now, is_known=True))
            return
        # Back: what was skipped beyond `now` is still to come, and no more time has passed.
        passed = before - self._skipped - sum(_length(gap, before) for gap in self._gaps)
        cut = [replace(gap, until=min(gap.until, now)) for gap in self._gaps if gap.since < now]
        self._gaps = cut
        self._skipped = now - passed - sum(_length(gap, now) for gap in cut)

    def _skip(self, gap: Gap) -> None:
        self._gaps.append(gap)
        if len(self._gaps) > _MAX_GAPS:
            forgotten = self._gaps.pop(0)
            self._skipped += _length(forgotten, gap.until)


def _length(gap: Gap, now: float) -> float:
    return 0.0 if gap.counts(now) else gap.until - gap.since
