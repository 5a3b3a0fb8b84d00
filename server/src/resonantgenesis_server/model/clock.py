"""The time, for dates and for expiry, on a machine whose clock may jump.

A clock that is set, or wrong for a moment, moves although no time has passed. So:

- `now` follows the machine's clock, except for steps. It follows a step once the clock has kept it
  for ten minutes. A clock that is wrong for a moment dates nothing.
- `passed` has no steps. Its seconds are seconds that have passed, also while the program did not
  run, as far as that is known. Values whose dates are internal use it.
- `before` converts a number of passed seconds into a date of `now`.

The kernel's clock since the machine's start tells how long the program did not run. After a reboot
it cannot. Then the machine's clock is used, and believed once it has kept its answer for a day.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

#: Seconds that two clocks may differ when they are read one after the other; and seconds that they
#: drift apart in a second while the machine's clock is slewed.
_TOLERANCE, _SLEW = 2.0, 0.0005
#: Seconds that a step must last before `now` follows it.
_HOLD = 600.0
#: Seconds after which an unknown gap counts as passed time.
_BELIEVED = 86_400.0
_MAX_GAPS = 64


@dataclass(frozen=True, slots=True)
class Gap:
    """Two dates without passed time between them. `is_known`: False if time may have passed."""

    since: float
    until: float
    is_known: bool

    def counts(self, now: float) -> bool:
        """Whether the gap counts as passed time after all."""
        return not self.is_known and now >= self.until + _BELIEVED


@dataclass(frozen=True, slots=True)
class Known:
    """The clock's state over a restart.

    A moment by `now` and by the kernel's clock since the machine's start `boot`; the gaps; and the
    seconds that `passed` is behind `now` for older gaps.
    """

    now: float
    steady: float
    boot: str
    skipped: float = 0.0
    gaps: tuple[Gap, ...] = field(default=())


def wall_time() -> float:
    """Seconds since 1970 by the machine's clock."""
    return time.time()


def steady_time() -> float:
    """Seconds since the machine started, with its sleep where the system counts it."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


def boot_id() -> str:
    """An id of the machine's current start; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class Clock:
    """The clock of a process, for any thread.

    `wall` is the machine's clock, `steady` the kernel's clock since the machine's start `boot`.
    `known` is the state of the last process.
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
        #: Seconds that `now` is ahead of the steady clock, and when the machine's agreed last.
        self._offset = wall() - steady()
        self._agreed = steady()
        #: The step that `now` does not follow yet: its offset, and the time of its beginning.
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
        """Seconds that have passed; equal to `now` while the clock never jumped."""
        now = self.now()
        with self._lock:
            return now - self._skipped - sum(_length(gap, now) for gap in self._gaps)

    def before(self, seconds: float) -> float:
        """The date since which `seconds` have passed. Things with an earlier date are older."""
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
        """The state for the next process."""
        now = self.now()
        with self._lock:
            return Known(now, self._steady(), self._boot, self._skipped, tuple(self._gaps))

    # -- inside ----------------------------------------------------------------------------

    def _resume(self, known: Known) -> None:
        steady = self._steady()
        if self._boot and self._boot == known.boot and steady >= known.steady:
            # As if the program had run meanwhile.
            self._offset, self._agreed = known.now - known.steady, known.steady
            return
        now = steady + self._offset
        if now > known.now + _TOLERANCE:
            self._skip(Gap(known.now, now, is_known=False))
        elif now < known.now:
            # The clock was later before: the machine has lost its clock and is not set yet.
            self._offset = known.now - steady

    def _agrees(self, offset: float, steady: float) -> bool:
        apart = abs(offset - self._offset)
        return apart <= _TOLERANCE + _SLEW * max(0.0, steady - self._agreed)

    def _look(self, offset: float, steady: float) -> None:
        with self._lock:
            if self._agrees(offset, steady):
                self._doubted = None  # the step was for a moment
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
        # Back in time: gaps beyond `now` are still to come, and no time has passed.
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
