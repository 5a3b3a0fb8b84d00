"""Limits on what clients send, store and keep open; PROTOCOL.md, section 9, has the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

#: Largest message over a socket, in bytes. Common clients close the connection over 1 MiB.
MAX_MESSAGE = 1_000_000
#: Largest setting of a part of such a message. The rest is for the fields around the part.
LARGEST_PART = 960 * KIB

#: Bytes of a page of any list, at most, unless its first item alone is larger. Not a setting: a
#: client that pages on gets every item, and larger pages would not be faster.
PAGE_BYTES = 2 * MIB
#: Bytes that are searched for a page, at most: items that do not match cost time as well.
LOOKED_BYTES = 32 * MIB


_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. For a limit per key or month 0 means any number.

    This is the one declaration of a limit: its default, the bounds of the setting `limits.NAME`
    (the maximum is the largest value that the server was built for), and its description. Settings
    are checked against the bounds; `Limits(...)` checks nothing.
    """

    body: Annotated[int, Field(ge=KIB, le=1024 * MIB, description="Body of a request.")] = MIB
    file: Annotated[
        int, Field(ge=KIB, le=1024 * GIB, description="One file, and all that one turn stores.")
    ] = 5 * GIB
    disk_reserve: Annotated[
        int, Field(ge=0, le=1024 * GIB, description="Free space that files leave to the logs.")
    ] = 256 * MIB
    json_depth: Annotated[int, Field(ge=4, le=128, description="Nesting of JSON.")] = 32
    json_values: Annotated[
        int,
        Field(
            ge=1_000,
            le=1_000_000,
            description="Values and names in a JSON text; 20,000 take the event loop some 10 ms.",
        ),
    ] = 20_000
    goal: Annotated[int, Field(ge=1, le=MIB, description="A turn's goal.")] = 64 * KIB
    context: Annotated[int, Field(ge=2, le=LARGEST_PART, description="A session's context.")] = (
        256 * KIB
    )
    chunk: Annotated[int, Field(ge=KIB, le=LARGEST_PART, description="One chunk of an answer.")] = (
        256 * KIB
    )
    chunks_per_session: Annotated[
        int,
        Field(
            ge=100,
            le=100_000_000,
            description="Chunks kept of a session; beyond, its oldest ended turns are trimmed.",
        ),
    ] = 1_000_000
    output: Annotated[
        int,
        Field(
            ge=KIB,
            le=2 * MIB,
            description="`output` of a turn as JSON, cut beyond it; at most 983040 in any case.",
        ),
    ] = LARGEST_PART
    unsent: Annotated[
        int,
        Field(
            ge=KIB,
            le=16 * MIB,
            description="Send buffer of a connection; a client that is further behind is served "
            "from the log.",
        ),
    ] = 64 * KIB
    stall: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="Seconds without progress after which a stalled connection is closed.",
        ),
    ] = 60.0
    queued_turns: Annotated[
        int, Field(ge=1, le=20, description="Turns that wait in one session.")
    ] = 10
    heartbeat: Annotated[
        float,
        Field(
            ge=0.1,
            le=30,
            description="Silence before a heartbeat; from 5 on, clients with httpx's default time- "
            "out lose quiet streams.",
        ),
    ] = 4.0
    answer_wait: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="How long an execute waits for the answer before it answers 202.",
        ),
    ] = 50.0
    poll_wait: Annotated[
        float, Field(gt=0, le=3600, description="The longest `wait` of a poll.")
    ] = 60.0
    poll_limit: Annotated[
        int, Field(ge=1, le=100_000, description="Chunks in one answer of a poll.")
    ] = 5_000
    disconnect_grace: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="Seconds without any viewer before `on_disconnect: cancel` cancels the "
            "turn.",
        ),
    ] = 10.0
    cancel_grace: Annotated[
        float,
        Field(
            gt=0,
            le=0.9,
            description="Time for a cancelled agent to stop; the turn ends within 1 s in any case.",
        ),
    ] = 0.5
    worker_wait: Annotated[
        float,
        Field(
            gt=0,
            le=_DAY,
            description="How long a turn of an agent in workers waits until one of them is free.",
        ),
    ] = 60.0
    worker_grace: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="How long a worker may be cut off before its turns are given to another, "
            "or are lost.",
        ),
    ] = 10.0
    worker_lease: Annotated[
        float,
        Field(
            ge=0.5,
            le=3600,
            description="Silence after which the socket of a worker is taken for dead; it sends a "
            "heartbeat three times as often.",
        ),
    ] = 15.0
    max_timeout: Annotated[
        float, Field(ge=1, le=_DAY, description="The longest `timeout_seconds`.")
    ] = _DAY
    max_steps: Annotated[int, Field(ge=1, le=1_000, description="The highest `max_steps`.")] = 1_000
    input_expires: Annotated[
        float,
        Field(
            ge=1,
            le=366 * _DAY,
            description="How long a turn waits for an answer where its agent names no time.",
        ),
    ] = 7 * _DAY
    idempotency_window: Annotated[
        float, Field(ge=1, le=30 * _DAY, description="How long an Idempotency-Key names its turn.")
    ] = _DAY
    session_retention: Annotated[
        float,
        Field(
            ge=1,
            le=36_500 * _DAY,
            description="How long a session is kept after its last turn.",
        ),
    ] = 30 * _DAY
    event_retention: Annotated[
        float, Field(ge=1, le=36_500 * _DAY, description="How long platform events are kept.")
    ] = 30 * _DAY
    audit_retention: Annotated[
        float,
        Field(
            ge=1,
            le=36_500 * _DAY,
            description="How long acts of administration are kept in the audit log, whatever"
            " `event_retention` is.",
        ),
    ] = 400 * _DAY
    usage_retention: Annotated[
        float,
        Field(
            ge=32 * _DAY,
            le=36_500 * _DAY,
            description="How long the usage of turns is kept; never less than a month.",
        ),
    ] = 400 * _DAY
    monthly_tokens: Annotated[
        int,
        Field(
            ge=0,
            le=10**15,
            description="Tokens, in and out, that an organization's turns may take in a month "
            "(UTC); then no turn starts until the next. 0: no budget.",
        ),
    ] = 0
    requests_per_minute: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Requests of a key in a minute, joins of streams not counted; 0: any "
            "number.",
        ),
    ] = 600
    running_turns: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Turns of a key that run or wait at once; 0: any number.",
        ),
    ] = 100
    open_streams: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Streams, sockets, uploads and downloads that a key may have open; 0: any "
            "number.",
        ),
    ] = 1_000
    organization_requests_per_minute: Annotated[
        int,
        Field(
            ge=0,
            le=100_000_000,
            description="Requests of all keys of an organization in a minute; 0: any number.",
        ),
    ] = 6_000
    organization_running_turns: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Turns of an organization that run or wait at once; 0: any number.",
        ),
    ] = 1_000
    organization_open_streams: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Streams, sockets, uploads and downloads that an organization may have "
            "open; 0: any number.",
        ),
    ] = 10_000
    organization_keys: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Keys of an organization that are neither revoked nor expired; 0: any "
            "number.",
        ),
    ] = 1_000
    organization_webhooks: Annotated[
        int, Field(ge=0, le=100_000, description="Webhooks of an organization; 0: any number.")
    ] = 100
    organization_callbacks: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Turns and sessions of an organization with a `callback_url` that has not "
            "been told their end; 0: any number.",
        ),
    ] = 1_000
    organization_files: Annotated[
        int,
        Field(
            ge=0,
            le=2**60,
            description="All files of an organization together; 0: as the disk allows.",
        ),
    ] = 100 * GIB
    transfer_rate: Annotated[
        int,
        Field(
            ge=0,
            le=100 * MIB,
            description="The least bytes a second of an upload or a download, over the time of "
            "`limits.stall`; 0: as slow as one likes.",
        ),
    ] = KIB
    connections: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Connections of the process; beyond, new ones get 503. 0: as many as the "
            "open-file limit allows, less a reserve for files, models and health "
            "checks.",
        ),
    ] = 0
    keep_alive: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="A connection without a request, then it is closed; longer than a proxy in "
            "front keeps one.",
        ),
    ] = 75.0
    socket_message: Annotated[
        int, Field(ge=KIB, le=16 * MIB, description="A WebSocket message.")
    ] = 256 * KIB
    socket_messages_per_second: Annotated[
        float,
        Field(
            ge=1,
            le=100_000,
            description="Messages of one socket, sustained; twice as many may come at once.",
        ),
    ] = 100.0
    socket_subscriptions: Annotated[
        int, Field(ge=1, le=10_000, description="Subscriptions of one socket.")
    ] = 100
