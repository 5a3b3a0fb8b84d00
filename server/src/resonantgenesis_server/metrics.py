"""Every metric, declared and counted here. `http/api/metrics.py` serves them.

The counts are plain numbers of the process, which runs one server. Any layer calls a function of
this module to count. No function waits, raises or allocates much, and the module imports nothing of
ours. A gauge is not counted: its value is read at a scrape.

Labels are words of our own source, never ids. So the number of series is bounded.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

#: Different words of a counter. Any further word is counted as OTHER.
_MAX_WORDS = 64
#: Organizations whose figures are kept.
_MAX_ORGANIZATIONS = 10_000
OTHER = "other"
#: The prefix of every name.
PREFIX = "resonantgenesis_"

#: Kinds of streams: a session's chunks, a session's records, an organization's events.
CHUNKS, RECORDS, EVENTS = "chunks", "records", "events"
#: Ways of an entry to its reader.
LIVE, REPLAYED = "live", "replayed"

#: Seconds. What takes over 10 s is an accident, and its size tells which: a time-out of 30 or 60 s.
_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0),
)
_COUNTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)
_BYTES = (1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 8e6)


class Counter:
    """Counts by a word."""

    __slots__ = ("_counts",)

    def __init__(self, *words: str) -> None:
        """`words` are shown as 0 before their first count."""
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
    """Counts values by size."""

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
        """The number of values up to each bound; last the number of all values."""
        total = 0
        sums: list[int] = []
        for count in list(self._counts):
            total += count
            sums.append(total)
        return sums


C = TypeVar("C", "Counter", "Histogram")


class Figures:
    """What an organization's turns did in this process, and which limits held it back."""

    __slots__ = ("append_to_socket", "chunks", "first_chunk", "limits", "turns")

    def __init__(self) -> None:
        self.chunks = 0
        self.turns = Counter()
        self.limits = Counter()
        self.first_chunk = Histogram(_SECONDS)
        self.append_to_socket = Histogram(_SECONDS)


class Metric(NamedTuple):
    """One metric: its name without PREFIX, its label (or none), its help, and its counts.

    A gauge has no counts. Its value is read at a scrape.
    """

    name: str
    label: str
    help: str
    counts: Counter | Histogram | None

    @property
    def kind(self) -> str:
        return {Counter: "counter", Histogram: "histogram"}.get(type(self.counts), "gauge")


class Meters:
    """The declaration of every metric: its name, its labels, its help.

    Only the thread of the log's writer counts `commit_*`.
    """

    def __init__(self) -> None:
        #: All metrics, in the order of the endpoint.
        self.table: list[Metric] = []
        self._gauge("build_info", "version", "1, with the version of the program.")
        self._gauge("draining", "", "1 while the server is on its way out, else 0.")
        self._gauge(
            "streams_open",
            "transport",
            "Open streams (sse), sockets (websocket), uploads, downloads and exports "
            "(transfer), requests that wait (wait).",
        )
        self._gauge(
            "viewers",
            "state",
            "Subscriptions to sessions and events: live ones are handed what comes, those "
            "behind still read it from the log.",
        )
        self.appended = self._add(
            Counter(CHUNKS, RECORDS, EVENTS),
            "entries_appended_total",
            "stream",
            "Entries stored: chunks of sessions, records of their turns, platform events.",
        )
        self.chunks_delivered = self._add(
            Counter(LIVE, REPLAYED),
            "chunks_delivered_total",
            "way",
            "Chunks given to viewers, as they came (live) or read later (replayed).",
        )
        self.events_delivered = self._add(
            Counter(LIVE, REPLAYED),
            "events_delivered_total",
            "way",
            "Platform events given to subscribers, as they came (live) or read later (replayed).",
        )
        self.append_to_socket = self._add(
            Histogram(_SECONDS),
            "append_to_socket_seconds",
            "",
            "From a batch's append to the log until it is written to the connections of all "
            "its live viewers; one value for each batch that has any.",
        )
        self.first_chunk = self._add(
            Histogram(_SECONDS),
            "first_chunk_seconds",
            "",
            "From the start of a turn's agent until the turn's first chunk is stored.",
        )
        self.commit_seconds = self._add(
            Histogram(_SECONDS), "commit_seconds", "", "Time of a group commit, the fsync included."
        )
        self.commit_entries = self._add(
            Histogram(_COUNTS), "commit_entries", "", "Entries in a group commit."
        )
        self.commit_bytes = self._add(
            Histogram(_BYTES), "commit_bytes", "", "Size of a group commit in bytes."
        )
        self.commit_failures = self._add(
            Counter("failed"), "commit_failures_total", "", "Group commits that failed."
        )
        self._gauge("log_queue_bytes", "", "Bytes that wait to be committed.")
        self._gauge(
            "session_list_queue",
            "",
            "Sessions whose row in the list of sessions is not written yet.",
        )
        self._gauge(
            "turns_open",
            "state",
            "Turns that are running, that wait for others (queued), and that wait for answers"
            " (waiting: those of the whole store, told by one node).",
        )
        self.turns = self._add(
            Counter("success", "failed", "cancelled", "timeout"),
            "turns_total",
            "status",
            "Turns that ended, by how.",
        )
        self.asks = self._add(
            Counter("approval", "input", "tool"),
            "turn_asks_total",
            "kind",
            "Asks for which turns stopped to wait.",
        )
        self.inputs = self._add(
            Counter("answered", "expired", "cancelled"),
            "turn_inputs_total",
            "status",
            "Asks that are over, by how.",
        )
        self.turn_errors = self._add(
            Counter(),
            "turn_errors_total",
            "code",
            "Turns that ended with an error, by its code: agents, models, time-outs, lost "
            "processes.",
        )
        self.model_failures = self._add(
            Counter(),
            "model_failures_total",
            "kind",
            "Calls of models that failed, by why; those that are tried again are counted "
            "each time.",
        )
        self.refusals = self._add(
            Counter(), "request_errors_total", "code", "Requests answered with an error."
        )
        self.limits = self._add(
            Counter(), "limits_hit_total", "limit", "How often a limit held somebody back."
        )
        self.log_dropped = self._add(
            Counter("stderr", "stdout"),
            "log_lines_dropped_total",
            "output",
            "Lines of the server's own log, or of what agents print, that could not be written.",
        )
        self.agents_blocked = self._add(
            Counter("blocked"),
            "agents_blocked_total",
            "",
            "Times that an async agent in Python has blocked the event loop for over 250 ms; the "
            "log names agent, file and line.",
        )
        self.defects = self._add(
            Counter("log", "other"),
            "defects_total",
            "place",
            "Failures that only a mistake in the server explains; its log has each with a "
            "traceback.",
        )
        self.damaged = self._add(
            Counter("file", "log", "records"),
            "damaged_total",
            "store",
            "Files that are not what was written, found as they were read; stores (log, "
            "records) that had lost what was committed, found as they were opened.",
        )
        self._gauge("nodes_alive", "", "Nodes of the store that live, this one included.")
        self._gauge(
            "node_beat_age_seconds",
            "",
            "Seconds since this node last beat; others take it for dead after 10. Only with "
            "PostgreSQL.",
        )
        self._gauge(
            "node_notices",
            "",
            "1 while notices of other nodes' commits arrive, else 0. Only with PostgreSQL.",
        )
        self._gauge(
            "streams_followed", "", "Streams of other nodes that this one reads for its viewers."
        )
        self.node_calls = self._add(
            Counter("answered", "failed"),
            "node_calls_total",
            "result",
            "Questions to other nodes, by whether an answer came.",
        )
        self.adopted = self._add(
            Counter("lost", "resumed"),
            "turns_adopted_total",
            "turn",
            "Turns of dead nodes that this one took up: it ended those that ran (lost) and runs "
            "those that waited (resumed).",
        )
        self._gauge("agent_workers", "", "Workers of agents that are connected to this node.")
        self.worker_turns = self._add(
            Counter("taken", "given_again", "lost", "without_worker"),
            "worker_turns_total",
            "turn",
            "Turns of agents in workers: taken to their end; given to another worker, because one "
            "died before the first chunk; lost with their worker after it; not given to any "
            "worker in time.",
        )
        self._gauge(
            "webhooks",
            "state",
            "Webhooks that this node serves, by whether their receivers take what they are sent"
            " (delivering) or not (failing).",
        )
        self.webhook_deliveries = self._add(
            Counter("delivered", "failed"),
            "webhook_deliveries_total",
            "result",
            "Attempts to deliver an event to a webhook, by what became of them.",
        )
        self.webhook_seconds = self._add(
            Histogram(_SECONDS), "webhook_delivery_seconds", "", "Time of one such attempt."
        )
        self.loop_lag = self._add(
            Histogram(_SECONDS),
            "event_loop_lag_seconds",
            "",
            "How late the event loop ran a timer.",
        )
        #: When what is being announced was given to the log, `time.perf_counter`.
        self.submitted_at = 0.0
        #: Seconds from then until its live viewers had it; None: it has none.
        self.delivery: float | None = None
        #: By organization; the newest.
        self.organizations: dict[str, Figures] = {}

    def _add(self, counts: C, name: str, label: str, help: str) -> C:
        self.table.append(Metric(name, label, help, counts))
        return counts

    def _gauge(self, name: str, label: str, help: str) -> None:
        self.table.append(Metric(name, label, help, None))


METERS = Meters()


def kind_of(stream: str) -> str:
    """The kind of a stream, by its name."""
    if stream.startswith("events:"):
        return EVENTS
    return RECORDS if "/" in stream else CHUNKS


def announcing(submitted_at: float) -> None:
    """Note when the next announced batch was given to the log (`time.perf_counter`)."""
    METERS.submitted_at = submitted_at
    METERS.delivery = None


def appended(kind: str, entries: int) -> None:
    """Count entries that are stored and about to go to their readers; `kind` as in `kind_of`."""
    METERS.appended.add(kind, entries)


def delivered(kind: str, entries: int) -> None:
    """Count entries of the announced batch that its readers took, all readers together.

    One call for all readers of a batch, right after the writes to their connections.
    """
    if kind == RECORDS:
        return
    seconds = time.perf_counter() - METERS.submitted_at
    METERS.append_to_socket.add(seconds)
    if kind == CHUNKS:
        METERS.chunks_delivered.add(LIVE, entries)
        METERS.delivery = seconds
    else:
        METERS.events_delivered.add(LIVE, entries)


def replayed(stream: str, entries: int) -> None:
    """Count the entries of a page that a reader behind has read."""
    kind = kind_of(stream)
    if kind == RECORDS:
        return
    (METERS.chunks_delivered if kind == CHUNKS else METERS.events_delivered).add(REPLAYED, entries)


def committed(entries: int, size: int, seconds: float) -> None:
    """Count a group that the log's writer has committed; `size` in bytes, as the queue counts."""
    METERS.commit_seconds.add(seconds)
    METERS.commit_entries.add(entries)
    METERS.commit_bytes.add(size)


def commit_failed() -> None:
    """Count a group that the log's writer could not commit."""
    METERS.commit_failures.add("failed")


def figures(organization_id: str) -> Figures:
    """Those of one organization. Of the longest known they are forgotten once there are many."""
    found = METERS.organizations.get(organization_id)
    if found is None:
        if len(METERS.organizations) >= _MAX_ORGANIZATIONS:
            del METERS.organizations[next(iter(METERS.organizations))]
        found = METERS.organizations[organization_id] = Figures()
    return found


def turn_written(own: Figures, chunks: int, seconds: float | None) -> None:
    """Count chunks of a turn that were announced just now; `seconds`: since the start of its agent,
    if they are its first ones."""
    own.chunks += chunks
    if METERS.delivery is not None:
        own.append_to_socket.add(METERS.delivery)
    if seconds is not None:
        METERS.first_chunk.add(seconds)
        own.first_chunk.add(seconds)


def turn_ended(status: str, code: str | None, organization_id: str | None = None) -> None:
    """Count a turn whose end is stored; `code` is the code of its error, if it has one."""
    METERS.turns.add(status)
    if organization_id is not None:
        figures(organization_id).turns.add(status)
    if code is not None:
        METERS.turn_errors.add(code)


def turn_asks(kinds: Iterable[str]) -> None:
    """Count what a turn that stops asks for."""
    for kind in kinds:
        METERS.asks.add(kind)


def input_given(status: str) -> None:
    """Count an ask that is over: answered, expired or cancelled."""
    METERS.inputs.add(status)


def model_failed(kind: str) -> None:
    """Count a failed call of a model. A retry is a further call."""
    METERS.model_failures.add(kind)


def refused(code: str) -> None:
    """Count a request that was answered with this error."""
    METERS.refusals.add(code)


def node_called(result: str) -> None:
    """Count a question to another node; `result` is `answered` or `failed`."""
    METERS.node_calls.add(result)


def turns_adopted(lost: int, resumed: int) -> None:
    """Count turns of dead nodes that this one has taken up."""
    METERS.adopted.add("lost", lost)
    METERS.adopted.add("resumed", resumed)


def worker_turn(what: str) -> None:
    """Count what became of a turn in a worker; a fixed word."""
    METERS.worker_turns.add(what)


def webhook_posted(result: str, seconds: float) -> None:
    """Count an attempt to deliver; `result` is `delivered` or `failed`."""
    METERS.webhook_deliveries.add(result)
    METERS.webhook_seconds.add(seconds)


def limit_hit(name: str, organization_id: str | None = None) -> None:
    """Count a request or turn that a limit held back; `name` is a fixed word like `requests`."""
    METERS.limits.add(name)
    if organization_id is not None:
        figures(organization_id).limits.add(name)


def log_dropped(output: str, lines: int) -> None:
    """Count lines of the server's own log that could not be written."""
    METERS.log_dropped.add(output, lines)


def defect(place: str) -> None:
    """Count a failure that only a mistake of ours explains; `place` is a fixed word."""
    METERS.defects.add(place)


def agent_blocked() -> None:
    """Count an async agent that has blocked the event loop."""
    METERS.agents_blocked.add("blocked")


def file_damaged() -> None:
    """Count a file whose content is not what was written."""
    METERS.damaged.add("file")


def store_damaged(store: str) -> None:
    """Count a store (log or records) that had lost committed data when it was opened."""
    METERS.damaged.add(store)


class LoopLag:
    """Measures how late the event loop runs a timer. Made and closed on the loop."""

    #: Seconds between two measurements.
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
