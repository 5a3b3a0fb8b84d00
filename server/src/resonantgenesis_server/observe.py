"""What is counted while the server works; `http/api/metrics.py` shows it.

Plain numbers of the process, which runs one server: whoever has something to count calls a
function here, from any layer. None of them waits, raises or allocates much, and nothing here
imports anything of ours. What can be asked when it is wanted (how many are open, how much waits)
is not counted here at all.

Labels are words of our own source, never an id: how many series there can be is known.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence

#: Different words a counter keeps apart; what comes beyond is counted as OTHER.
_MAX_WORDS = 64
OTHER = "other"

#: What a stream holds, by its name: a session's chunks, its records, an organization's events.
CHUNKS, RECORDS, EVENTS = "chunks", "records", "events"
#: How an entry came to its reader.
LIVE, REPLAYED = "live", "replayed"

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_COUNTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)
_BYTES = (1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 8e6)


class Counter:
    """Counts by a word."""

    __slots__ = ("_counts",)

    def __init__(self, *words: str) -> None:
        """`words` are shown as 0 before they first happen."""
        self._counts = dict.fromkeys(words, 0)

    def add(self, word: str, count: int = 1) -> None:
        counts = self._counts
        if word in counts:
            counts[word] += count
            return
        if len(counts) >= _MAX_WORDS:
            word = OTHER
        counts[word] = counts.get(word, 0) + count

    @property
    def counts(self) -> Mapping[str, int]:
        return dict(self._counts)


class Histogram:
    """How often a value was how large."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def cumulative(self) -> list[int]:
        """How many values were at most each bound; the last is how many there were."""
        total = 0
        sums: list[int] = []
        for count in list(self._counts):
            total += count
            sums.append(total)
        return sums


class Meters:
    """All that is counted. Only `commit_*` are written by another thread, and only by that one."""

    def __init__(self) -> None:
        self.appended = Counter(CHUNKS, RECORDS, EVENTS)
        self.chunks_delivered = Counter(LIVE, REPLAYED)
        self.events_delivered = Counter(LIVE, REPLAYED)
        self.append_to_socket = Histogram(_FAST)
        self.commit_seconds = Histogram(_FAST)
        self.commit_entries = Histogram(_COUNTS)
        self.commit_bytes = Histogram(_BYTES)
        self.commit_failures = Counter("failed")
        self.turns = Counter("success", "failed", "cancelled", "timeout")
        self.turn_errors = Counter()
        self.model_failures = Counter()
        self.refusals = Counter()
        self.limits = Counter()
        self.damaged = Counter("file", "log", "records")
        self.loop_lag = Histogram(_FAST)
        self.log_dropped = Counter("stderr", "stdout")
        self.defects = Counter("log", "other")
        #: When what is being announced was given to the log, `time.perf_counter`.
        self.submitted_at = 0.0


METERS = Meters()


def kind_of(stream: str) -> str:
    """What a stream of this name holds."""
    if stream.startswith("events:"):
        return EVENTS
    return RECORDS if "/" in stream else CHUNKS


def announcing(submitted_at: float) -> None:
    """What is announced next was given to the log at this moment (`time.perf_counter`)."""
    METERS.submitted_at = submitted_at


def appended(kind: str, entries: int) -> None:
    """So many entries of a stream are stored and about to be handed to their readers; `kind` as
    in `kind_of`."""
    METERS.appended.add(kind, entries)


def delivered(kind: str, entries: int) -> None:
    """Readers took so many entries, all together, of what is being announced: one call for all
    readers of a batch, right after it was written to their connections."""
    if kind == RECORDS:
        return
    (METERS.chunks_delivered if kind == CHUNKS else METERS.events_delivered).add(LIVE, entries)
    METERS.append_to_socket.add(time.perf_counter() - METERS.submitted_at)


def replayed(stream: str, entries: int) -> None:
    """A reader that was behind read so many entries: one call for a page."""
    kind = kind_of(stream)
    if kind == RECORDS:
        return
    (METERS.chunks_delivered if kind == CHUNKS else METERS.events_delivered).add(REPLAYED, entries)


def committed(entries: int, size: int, seconds: float) -> None:
    """The log's writer has committed a group; `size` in bytes, as the queue counts them."""
    METERS.commit_seconds.add(seconds)
    METERS.commit_entries.add(entries)
    METERS.commit_bytes.add(size)


def commit_failed() -> None:
    """The log's writer could not commit a group."""
    METERS.commit_failures.add("failed")


def turn_ended(status: str, code: str | None) -> None:
    """A turn's end is stored; `code` is that of its error, if it has one."""
    METERS.turns.add(status)
    if code is not None:
        METERS.turn_errors.add(code)


def model_failed(kind: str) -> None:
    """A model's provider gave no answer, or not all of it; it may be asked again."""
    METERS.model_failures.add(kind)


def refused(code: str) -> None:
    """A request was answered with this error."""
    METERS.refusals.add(code)


def limit_hit(name: str) -> None:
    """Somebody was held back by a limit; `name` is a fixed word, such as `requests`."""
    METERS.limits.add(name)


def log_dropped(output: str, lines: int) -> None:
    """Lines of the server's own log could not be written."""
    METERS.log_dropped.add(output, lines)


def defect(place: str) -> None:
    """Something failed that cannot, but for a mistake of ours; `place` is a fixed word."""
    METERS.defects.add(place)


def file_damaged() -> None:
    """A file's content is not what was written."""
    METERS.damaged.add("file")


def store_damaged(store: str) -> None:
    """At its opening, something that was committed could not be read; `store` is log or records."""
    METERS.damaged.add(store)


class LoopLag:
    """Measures how late the event loop runs what is due. Made and ended on the loop."""

    #: Seconds between two looks.
    EVERY = 0.25

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due = self._loop.time() + self.EVERY
        self._timer = self._loop.call_at(self._due, self._look)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        METERS.loop_lag.add(max(0.0, self._loop.time() - self._due))
        self.start()
