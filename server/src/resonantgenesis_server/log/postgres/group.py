"""What one group asks of the database: its statement, and what is looked up before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from ..base import mark
from ..queue import Job
from .placing import Batch, Keys, OwnedStream, keyed, names_of
from .statements import APPEND, APPEND_AND_MARK, DELETE, KEYS, TRIM

#: Bytes of a notification; PostgreSQL takes 7999.
_MAX_NOTICE = 7_900


class Trim:
    """Work: remove some of a stream's entries below a position; gives whether that was all."""

    #: Entries that one step removes: other groups wait for it.
    STEP = 5_000

    def __init__(self, name: str, before: int) -> None:
        self.names = [name]
        self._before = before

    def step(self, stream: OwnedStream) -> int:
        """Where the stream is to begin now."""
        return min(self._before, stream.head + 1, stream.earliest + self.STEP)

    def is_done(self, stream: OwnedStream) -> bool:
        return not stream.number or stream.earliest >= min(self._before, stream.head + 1)


class Delete:
    """Work: remove streams; gives their numbers, whose entries are still to be removed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(dict.fromkeys(names))


async def write_group(
    db: asyncpg.Connection,
    me: tuple[int, int, int, int],
    group: list[Job],
    batch: Batch,
    streams: dict[str, OwnedStream],
    told: str,
) -> int | None:
    """Run the group's one statement. Gives the group's date; None: it did nothing.

    `me`: the node, the number of the group and of the one before it, the node's generation; `told`
    is the notification, empty for none.
    """
    work = group[0].work
    if isinstance(work, Trim):
        stream = streams[work.names[0]]
        if (before := work.step(stream)) > stream.earliest:
            trim = stream.number, before, stream.head, stream.last_at
            return _at(await db.fetchval(TRIM, *me, *trim, ""))
    if isinstance(work, Delete) and group[0].error is None:
        gone = [number for name in work.names if (number := streams[name].number)]
        return _at(await db.fetchval(DELETE, *me, *batch.rows, *_states(batch), gone, told))
    if batch.new or batch.marked:
        return _at(await db.fetchval(APPEND_AND_MARK, *me, *batch.rows, *_states(batch), told))
    return _at(await db.fetchval(APPEND, *me, *batch.rows, told))


async def look_up(
    db: asyncpg.Connection | asyncpg.Pool, group: list[Job], streams: dict[str, OwnedStream]
) -> Keys:
    """Which of the group's keys their streams hold."""
    pairs = [(name, key) for name, key in set(keyed(group)) if streams[name].number]
    if not pairs:
        return {}
    names = {streams[name].number: name for name, _ in pairs}
    numbers = [streams[name].number for name, _ in pairs]
    held: dict[str, set[bytes]] = {}
    for row in await db.fetch(KEYS, numbers, [key for _, key in pairs]):
        held.setdefault(names[row["s"]], set()).add(row["k"])
    return held


def notice(node: int, group: Sequence[Job]) -> str:
    """What a notification says of the streams that a group is about; see `nodes.py`."""
    marks = {mark(name) for job in group if job.error is None for name in names_of(job)}
    text = f"at {node} " + " ".join([f"{each:x}" for each in marks])
    return text if len(text) <= _MAX_NOTICE else f"at {node} *"


def _states(batch: Batch) -> tuple[Sequence[object], ...]:
    """The columns of the streams that are marked, and of the new ones."""
    marked, new = list(batch.marked.values()), list(batch.new.values())
    return (
        [stream.number for stream in marked],
        [stream.fence for stream in marked],
        [stream.pending for stream in marked],
        [stream.closed for stream in marked],
        [stream.number for stream in new],
        [stream.name.encode() for stream in new],
        [stream.fence for stream in new],
        [stream.pending for stream in new],
        [stream.closed for stream in new],
    )


def _at(value: Any) -> int | None:
    return None if value is None else int(value)


def stream_of(name: str, row: asyncpg.Record) -> OwnedStream:
    return OwnedStream(
        name,
        row["id"],
        row["head"],
        row["last_at"],
        row["fence"],
        row["closed"],
        row["pending"],
        row["earliest"],
        row["generation"],
    )
