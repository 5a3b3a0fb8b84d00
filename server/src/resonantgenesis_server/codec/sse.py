"""Server-sent events, the encoding side (the decoding side is in the SDKs)."""

from __future__ import annotations

from ..log.base import Entry

#: Sent at once, so that proxies and clients see the stream begin before the agent says a word.
OPENING = b": stream\n\n"
HEARTBEAT = b": hb\n\n"


def chunk_json(entry: Entry) -> bytes:
    """A session chunk's JSON object: the body with `position` spliced in at the end."""
    return b'%b,"position":%d}' % (entry.body[:-1], entry.position)


def chunk_frame(entry: Entry) -> bytes:
    """The frame of a session chunk; made once per entry, whoever asks."""
    frame = entry.frame
    if frame is None:
        frame = entry.frame = b'id: %d\nevent: %b\ndata: %b,"position":%d}\n\n' % (
            entry.position,
            entry.kind.encode(),
            entry.body[:-1],
            entry.position,
        )
    return frame


def frame_without_id(event: str, data: bytes) -> bytes:
    """A frame that is no part of a log, e.g. the end of a credential."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
