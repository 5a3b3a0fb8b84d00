"""How long to wait before the next attempt: exponential, with full jitter, above a floor."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Random = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    """`base` and `cap` are in seconds; the ceiling doubles from `base` up to `cap`.

    The jitter is full, so that the viewers a restart cut off do not all come back at once.
    """

    base: float = 0.5
    cap: float = 8.0

    def delay(self, failures: int, *, floor: float = 0.0, rng: Random = random.random) -> float:
        """Seconds to wait after `failures` (1, 2 …) in a row; at least `floor`.

        What the server asked for is the floor and the jitter comes on top, or all who were told
        the same number would come back in the same moment.
        """
        doublings = min(failures - 1, 32)
        return floor + rng() * min(self.cap, self.base * 2.0**doublings)
