"""Frames of server-sent events. The SDKs decode them."""

from __future__ import annotations

from ..log.base import Entry
from .events import cursor_of, event_json
from .times import rfc3339

#: Sent at once, so that proxies and clients see the stream begin before the agent's first chunk.
OPENING = b": stream\n\n"
HEARTBEAT = b": hb\n\n"


def chunk_json(entry: Entry) -> bytes:
    """A session chunk as a JSON object: the body with `position` added at its end."""
    return b'%b,"position":%d}' % (entry.body[:-1], entry.position)


def timed_chunk_json(entry: Entry) -> bytes:
    """As `chunk_json`, with the time of its commit in `at`."""
    return b'%b,"at":"%b"}' % (chunk_json(entry)[:-1], rfc3339(entry.at / 1e6).encode())


def chunk_frame(entry: Entry) -> bytes:
    """The frame of a session chunk, made once per entry."""
    frame = entry.frame
    if frame is None:
        frame = entry.frame = b'id: %d\nevent: %b\ndata: %b,"position":%d}\n\n' % (
            entry.position,
            entry.kind.encode(),
            entry.body[:-1],
            entry.position,
        )
    return frame


def event_frame(entry: Entry, epoch: str, *, as_message: bool = False) -> bytes:
    """The frame of an event, made once per entry.

    `as_message` names every event `message`; that form is not kept.
    """
    if not as_message and entry.frame is not None:
        return entry.frame
    name = b"message" if as_message else entry.kind.encode()
    cursor = cursor_of(epoch, entry.position).encode()
    frame = b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, name, event_json(entry, epoch))
    if not as_message:
        entry.frame = frame
    return frame


def cursor_frame(epoch: str, position: int) -> bytes:
    """A heartbeat with the current cursor, for a quiet subscription."""
    return b"id: %b\n\n" % cursor_of(epoch, position).encode()


def aside_entry(body: bytes, session_id: str) -> Entry:
    """A `data` chunk that is not in the log, with its frame and its message made: no position."""
    entry = Entry(0, "data", body, 0)
    entry.frame = frame_without_id(entry.kind, body)
    entry.message = b'%b,"session_id":"%b"}' % (body[:-1], session_id.encode())
    return entry


def frame_without_id(event: str, data: bytes) -> bytes:
    """A frame that is not in the log, e.g. the end of a credential."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
