"""Limits on what a stranger can send or keep open; defaults are PROTOCOL.md, section 9."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

#: No message over a socket is larger, in bytes: common clients take 1 MiB at most, and close.
MAX_MESSAGE = 1_000_000
#: The largest setting of what goes into one: the rest is for what stands around it.
LARGEST_PART = 960 * KIB

#: What a page of anything holds at most, about, unless its first item alone is more. Not a setting:
#: whoever pages on gets everything, and nobody can take that many bytes at once faster.
PAGE_BYTES = 2 * MIB
#: What is looked through for a page, at most: what is not wanted costs as well.
LOOKED_BYTES = 32 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds; 0 of what is counted per key, organization or month: as
    many as one likes. `connections` 0: as many as the open-file limit leaves room for."""

    body: int = MIB
    file: int = 5 * GIB
    disk_reserve: int = 256 * MIB
    json_depth: int = 32
    json_values: int = 20_000
    goal: int = 64 * KIB
    context: int = 256 * KIB
    chunk: int = 256 * KIB
    chunks_per_session: int = 1_000_000
    output: int = LARGEST_PART
    unsent: int = 64 * KIB
    stall: float = 60.0
    queued_turns: int = 10
    heartbeat: float = 4.0
    answer_wait: float = 50.0
    poll_wait: float = 60.0
    poll_limit: int = 5_000
    disconnect_grace: float = 10.0
    cancel_grace: float = 0.5
    max_timeout: float = 86_400.0
    max_steps: int = 1_000
    idempotency_window: float = 86_400.0
    session_retention: float = 30 * 86_400.0
    event_retention: float = 30 * 86_400.0
    usage_retention: float = 400 * 86_400.0
    monthly_tokens: int = 0
    requests_per_minute: int = 600
    running_turns: int = 100
    open_streams: int = 1_000
    organization_requests_per_minute: int = 6_000
    organization_running_turns: int = 1_000
    organization_open_streams: int = 10_000
    organization_keys: int = 1_000
    organization_files: int = 100 * GIB
    transfer_rate: int = KIB
    connections: int = 0
    keep_alive: float = 75.0
    socket_message: int = 256 * KIB
    socket_messages_per_second: float = 100.0
    socket_subscriptions: int = 100
