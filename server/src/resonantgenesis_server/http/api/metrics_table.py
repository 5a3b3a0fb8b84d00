"""Every metric of ours, and what it says: the documentation repeats these words."""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "resonantgenesis_"


class Described(NamedTuple):
    """One metric: its name without PREFIX, type, label (or none), and what it says."""

    name: str
    kind: str
    label: str
    help: str


#: In the order in which they are shown.
TABLE = (
    Described("build_info", "gauge", "version", "1, with the version of the program."),
    Described("draining", "gauge", "", "1 while the server is on its way out, else 0."),
    Described(
        "streams_open",
        "gauge",
        "transport",
        "Open streams (sse), sockets (websocket), uploads, downloads and exports (transfer),"
        " requests that wait (wait).",
    ),
    Described(
        "viewers",
        "gauge",
        "state",
        "Subscriptions to sessions and events: live ones are handed what comes, those behind"
        " still read it from the log.",
    ),
    Described(
        "entries_appended_total",
        "counter",
        "stream",
        "Entries stored: chunks of sessions, records of their turns, platform events.",
    ),
    Described(
        "chunks_delivered_total",
        "counter",
        "way",
        "Chunks given to viewers, as they came (live) or read later (replayed).",
    ),
    Described(
        "events_delivered_total",
        "counter",
        "way",
        "Platform events given to subscribers, as they came (live) or read later (replayed).",
    ),
    Described(
        "append_to_socket_seconds",
        "histogram",
        "",
        "From a batch's append to the log until it is written to the connections of all its"
        " live viewers; one value for each batch that has any.",
    ),
    Described("commit_seconds", "histogram", "", "Time of a group commit, the fsync included."),
    Described("commit_entries", "histogram", "", "Entries in a group commit."),
    Described("commit_bytes", "histogram", "", "Size of a group commit in bytes."),
    Described("commit_failures_total", "counter", "", "Group commits that failed."),
    Described("log_queue_bytes", "gauge", "", "Bytes that wait to be committed."),
    Described(
        "session_list_queue",
        "gauge",
        "",
        "Sessions whose row in the list of sessions is not written yet.",
    ),
    Described("turns_open", "gauge", "state", "Turns that are running, and that wait (queued)."),
    Described("turns_total", "counter", "status", "Turns that ended, by how."),
    Described(
        "turn_errors_total",
        "counter",
        "code",
        "Turns that ended with an error, by its code: agents, models, time-outs, lost processes.",
    ),
    Described(
        "model_failures_total",
        "counter",
        "kind",
        "Calls of models that failed, by why; those that are tried again are counted each time.",
    ),
    Described("request_errors_total", "counter", "code", "Requests answered with an error."),
    Described("limits_hit_total", "counter", "limit", "How often a limit held somebody back."),
    Described(
        "log_lines_dropped_total",
        "counter",
        "output",
        "Lines of the server's own log, or of what agents print, that could not be written.",
    ),
    Described(
        "defects_total",
        "counter",
        "place",
        "Failures that only a mistake in the server explains; its log has each with a traceback.",
    ),
    Described(
        "damaged_total",
        "counter",
        "store",
        "Files that are not what was written, found as they were read; stores (log, records) that"
        " had lost what was committed, found as they were opened.",
    ),
    Described("event_loop_lag_seconds", "histogram", "", "How late the event loop ran a timer."),
)
