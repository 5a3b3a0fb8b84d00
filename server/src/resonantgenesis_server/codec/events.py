"""Platform events as values, as entries of the log and as JSON; cursors."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..log.base import Append, Entry, NewEntry
from ..model.events import AUDIT, NewEvent, audit_stream, channel_of, event_stream
from .json import dumps
from .times import rfc3339

#: `c_`, the store's epoch in hexadecimal, `.`, the position in hexadecimal.
_CURSOR = re.compile(r"c_([0-9a-f]{1,32})\.([0-9a-f]{1,8})")


class BadCursor(ValueError):
    """Not a cursor of this server."""


def entry_of(event: NewEvent) -> NewEntry:
    """The entry of an event. The event's id is the entry key, so the log drops a repeat."""
    body = {
        "id": event.id,
        "type": event.type,
        "channel": channel_of(event.type),
        "data": event.data,
        "metadata": event.metadata,
    }
    return NewEntry(event.type, dumps(body), key=event.id)


def events_append(organization_id: str, events: Iterable[NewEvent]) -> list[Append]:
    """The arguments of an append call that writes these events; empty for no events."""
    entries = [entry_of(event) for event in events]
    acts = [entry for entry in entries if entry.kind.startswith(AUDIT)]
    parts = (event_stream(organization_id), entries), (audit_stream(organization_id), acts)
    return [Append(stream, part) for stream, part in parts if part]


def cursor_of(epoch: str, position: int) -> str:
    return f"c_{epoch}.{position:x}"


def parse_cursor(text: str) -> tuple[str, int]:
    """Epoch and position. Raises BadCursor."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise BadCursor(text[:80])
    return match[1], int(match[2], 16)


def event_json(entry: Entry, epoch: str) -> bytes:
    """The whole event: the body with `created_at` and `cursor` added at its end."""
    return b'%b,"created_at":"%b","cursor":"%b"}' % (
        entry.body[:-1],
        rfc3339(entry.at / 1e6).encode(),
        cursor_of(epoch, entry.position).encode(),
    )
