"""WebSocket messages and frames, encoded once for all sockets that get them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

from ..log.base import Entry
from ..model.events import channel_of
from ..model.limits import MAX_MESSAGE
from .events import event_json
from .json import SCALARS, dumps, loads

#: Fields of an event that a field of `data` never replaces.
_TAKEN = frozenset({"id", "type", "channel", "created_at", "cursor", "data", "metadata"})
#: Kinds of chunk whose body may have a `session_id` already.
_NAMING = frozenset({"step", "done", "waiting"})
#: The end of a sync flush. A compressed message leaves it out (RFC 7692, 7.2.1).
_FLUSHED = b"\x00\x00\xff\xff"


def chunk_message(entry: Entry, session_id: str) -> bytes:
    """A session chunk with `position` and `session_id`, made once per entry."""
    message = entry.message
    if message is None:
        named = entry.kind in _NAMING and b'"session_id":' in entry.body
        message = entry.message = b'%b,"position":%d%b}' % (
            entry.body[:-1],
            entry.position,
            b"" if named else b',"session_id":"%b"' % session_id.encode(),
        )
    return message


def event_message(entry: Entry, epoch: str) -> bytes:
    """An event, made once per entry.

    It has the fields of PROTOCOL.md, section 5, and beside them the scalars of `data` whose names
    are free.
    """
    message = entry.message
    if message is None:
        event = loads(entry.body) if entry.data is None else entry.data
        lifted = {
            name: value
            for name, value in event["data"].items()
            if value.__class__ in SCALARS and name not in _TAKEN
        }
        message = event_json(entry, epoch)
        beside = _fitting(lifted, MAX_MESSAGE - len(message))
        if beside:
            message = b"%b,%b" % (message[:-1], dumps(beside)[1:])
        entry.message = message
    return message


def _fitting(lifted: dict[str, Any], space: int) -> dict[str, Any]:
    """The fields that fit into `space` bytes of JSON."""
    if len(dumps(lifted)) <= space:
        return lifted
    kept: dict[str, Any] = {}
    for name, value in lifted.items():
        size = len(dumps({name: value}))
        if size <= space:
            kept[name] = value
            space -= size
    return kept


def event_envelope(entry: Entry, epoch: str) -> bytes:
    """An event as `{"type":"event","channel":…,"event":{…}}`."""
    channel = (channel_of(entry.kind) or "").encode()
    return b'{"type":"event","channel":"%b","event":%b}' % (channel, event_json(entry, epoch))


def cursor_message(channels: Sequence[str], cursor: str) -> bytes:
    """The current cursor of a quiet subscription."""
    return control("cursor", channels=list(channels), cursor=cursor)


def control(kind: str, **fields: Any) -> bytes:
    """A control message. Fields that are None are left out."""
    return dumps({"type": kind} | {k: v for k, v in fields.items() if v is not None})


def text_frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """An unfragmented text frame of a server; `compressed`: the payload is deflated."""
    head = 0xC1 if compressed else 0x81
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", head, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", head, 126, size) + payload
    return struct.pack("!BBQ", head, 127, size) + payload


def deflated(payload: bytes, window_bits: int) -> bytes:
    """The payload of a compressed message without context.

    It suits every client whose window has at least `window_bits`.
    """
    deflate = zlib.compressobj(wbits=-window_bits, memLevel=5)
    data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(_FLUSHED)
