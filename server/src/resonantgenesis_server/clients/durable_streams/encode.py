"""A session's chunks as a JSON stream of Durable Streams: offsets, arrays, and SSE events.

Without I/O. An offset is a position with leading zeros, so offsets compare as texts, and the epoch
of the server's history.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ...codec.json import dumps
from ...codec.sse import HEARTBEAT, chunk_json
from ...http.serving.stream_connection import chunked
from ...http.sse.stream import ENDING, SseEncoder
from ...log.base import Entry
from ...model.errors import InvalidRequest

_OFFSET = re.compile(r"([0-9]{12})_([0-9a-f]{1,32})")
#: Seconds of one cursor, by which caches tell one wait from the next.
_CURSOR = 20


def offset_of(position: int, epoch: str) -> str:
    """The offset of a reader that has everything up to a position."""
    return f"{position:012d}_{epoch}"


def parse_offset(text: str) -> tuple[int, str]:
    """Position and epoch. Raises InvalidRequest."""
    match = _OFFSET.fullmatch(text)
    if match is None:
        raise InvalidRequest.field("offset", "is -1, now, or an offset of this stream")
    return int(match[1]), match[2]


def cursor_after(given: str | None) -> str:
    """The cursor of a live answer: later than the one that the client has."""
    now = int(time.time()) // _CURSOR
    former = int(given) if given is not None and given.isascii() and given.isdigit() else 0
    return str(max(now, min(former, now + _CURSOR) + 1 if former >= now else now))


def array(entries: Sequence[Entry]) -> bytes:
    """A JSON array of the chunks."""
    return b"[%b]" % b",".join(map(chunk_json, entries))


@dataclass(frozen=True, slots=True)
class DurableEncoder(SseEncoder):
    """A batch of chunks is an event `data`, followed by an event `control`.

    `turn`: the stream is closed behind this turn's end; 0: it is never closed. `tail`: the position
    with which a reader that comes from before is up to date.
    """

    # The client opens again behind a clean end, and hands an error to its caller.
    cuts: ClassVar[bool] = False

    epoch: str
    turn: int
    tail: int = field(compare=False)
    cursor: str = field(compare=False)

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        stored = [entry for entry in entries if entry.position]
        if not stored:
            return []
        last = stored[-1]
        closed = bool(self.turn) and last.kind == "done"
        data = b"event: data\ndata: %b\n\n" % array(stored)
        return [data + self.control(last.position, closed=closed)]

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        # A subscription may end with one of these, which its range has to say.
        if any(entry.kind in ENDING for entry in entries):
            return None
        found = b"".join(self.encode(entries))
        return chunked(found) if found else b""  # an empty part would end the body

    def control(self, position: int, *, closed: bool = False) -> bytes:
        said: dict[str, str | bool] = {
            "streamNextOffset": offset_of(position, self.epoch),
            "streamCursor": self.cursor,
        }
        if closed or position >= self.tail:
            said["upToDate"] = True
        if closed:
            said["streamClosed"] = True
        return b"event: control\ndata: %b\n\n" % dumps(said)

    def heartbeat(self, position: int) -> bytes:
        return HEARTBEAT
