"""Copies a whole store into another one: embedded or PostgreSQL, whichever to whichever.

Everything is kept: epoch, streams with their positions, times, fences and marks, idempotency keys,
records. So positions and cursors of clients go on to count. Nobody may use either store meanwhile.
The new store cannot be opened by a server before its content was compared with the old one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from .config.settings import split_addresses
from .datadir.clock import keeping_clock
from .datadir.lock import lock_data
from .datadir.private_file import write_private
from .files.base import BlobDamaged, BlobGone, Blobs, copy_blob
from .log.sqlite.transfer import SqliteRows
from .log.transfer import LogRows, StreamRow
from .model.clock import Clock
from .records import tables
from .records.base import StoreError
from .records.credentials import CredentialHasher, load_secrets, parse_secrets
from .records.server_secret import check_secret
from .records.store import Records
from .records.transfer import TABLES, RecordRows, dated_by
from .stores import postgres_rows

#: Called with what is being done, how much of it is done, and how much there is (0: unknown).
Report = Callable[[str, int, int], None]


class CopyRefused(StoreError):
    """A store that cannot be copied, or not into this one."""


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store: a data directory, or the addresses of its databases. `url`: where records lie."""

    data: Path | None
    urls: tuple[str, ...]

    @property
    def url(self) -> str:
        return self.urls[0]

    @classmethod
    def parse(cls, words: str) -> StorePlace:
        """`sqlite:DIR` or `postgresql://…`, several with commas in between. Raises ValueError."""
        if words.startswith("sqlite:") and (folder := words.removeprefix("sqlite:")):
            data = Path(folder).expanduser()
            return cls(data, (f"sqlite:///{data / 'records.db'}",))
        if words.startswith(("postgresql://", "postgres://")):
            return cls(None, tuple(split_addresses(words)))
        raise ValueError("is neither like sqlite:DIR nor like postgresql://USER@HOST/NAME")


@dataclass(slots=True)
class Store:
    """An open store."""

    log: LogRows
    records: RecordRows
    clock: Clock


@dataclass(slots=True)
class Copied:
    """What was copied; `lines` and `warnings` are for people. A warning is of a file whose content
    could not be read."""

    streams: int = 0
    entries: int = 0
    rows: int = 0
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


async def copy_store(
    source: StorePlace,
    target: StorePlace,
    *,
    secret: str | None,
    report: Report,
    files: tuple[Blobs, Blobs] | None = None,
) -> Copied:
    """Copy everything, or go on with a copy of the same store that broke off.

    `secret`: that of the settings, in hexadecimal. `files`: where content is read from, and where
    it is to lie; None: it stays where it is. Raises StoreError, LogError, BlobError, and
    StartupError for a data directory in use.
    """
    if source == target:
        raise CopyRefused("both names are of the same store")
    copied = Copied()
    async with contextlib.AsyncExitStack() as stack:
        old = await _open(stack, source, is_source=True)
        hasher = await _secret_of(source, secret)
        new = await _open(stack, target, is_source=False)
        shift = await _begin(old, new)
        copied.streams, copied.entries = await _copy_log(old.log, new.log, report)
        copied.rows = await _copy_records(old.records, new.records, shift, report)
        await _compare(old, new, shift, report)
        if files is not None:
            copied.warnings += await _copy_files(old.records, new.records, *files, report)
        await new.records.end()
        await _hand_over_secret(source, target, hasher, secret, copied)
        await new.log.end()
    return copied


@contextlib.asynccontextmanager
async def _log_of(place: StorePlace, clock: Clock, *, make: bool) -> AsyncIterator[LogRows]:
    log: LogRows
    if place.data is None:
        log = await postgres_rows(place.urls, make=make)
    else:
        log = await SqliteRows.open(place.data / "log.db", clock)
    try:
        yield log
    finally:
        await log.close()


async def _open(stack: contextlib.AsyncExitStack, place: StorePlace, *, is_source: bool) -> Store:
    clock = Clock()
    if place.data is not None:
        if is_source and not (place.data / "log.db").exists():
            raise CopyRefused(f"there is no store in {place.data}")
        stack.enter_context(lock_data(place.data))
        clock = await stack.enter_async_context(keeping_clock(place.data / "clock"))
    if is_source:
        records = await RecordRows.source(place.url)
        stack.push_async_callback(records.close)
    log = await stack.enter_async_context(_log_of(place, clock, make=not is_source))
    if is_source and await log.mark() is not None:
        raise CopyRefused("a copy into this store broke off; it is not whole")
    if not is_source:
        records = await RecordRows.target(place.url)
        stack.push_async_callback(records.close)
    return Store(log, records, clock)


async def _begin(old: Store, new: Store) -> float:
    """Mark the new store as being filled, or see that it is being filled from the old one. The
    seconds by which its clock is ahead."""
    identity = {"epoch": old.log.epoch, "fence": old.log.fence}
    mark = await new.log.mark()
    if mark is None:
        totals = await new.log.totals()
        if totals.streams or not await new.records.is_empty():
            raise CopyRefused(
                "the store to be filled is not empty; name an empty database or directory"
            )
        shift = new.clock.passed() - old.clock.passed()
        shift = 0.0 if abs(shift) < 1 else shift  # else the clocks are the same one
        mark = orjson.dumps({**identity, "shift": shift}).decode()
        await new.log.begin(mark, old.log.epoch, old.log.fence)
    begun: Mapping[str, Any] = orjson.loads(mark)
    if {name: begun.get(name) for name in identity} != identity:
        raise CopyRefused(
            "a copy of another store, or of an earlier state of this one, broke off there; empty"
            " it and begin anew"
        )
    await new.records.begin()
    return float(begun["shift"])


async def _copy_log(old: LogRows, new: LogRows, report: Report) -> tuple[int, int]:
    totals = await old.totals()
    after, place = await new.last_stream(), await new.last_entry()
    done = await new.totals()
    streams = done.streams
    while rows := await old.streams(after):
        await new.add_streams(rows)
        streams, after = streams + len(rows), rows[-1].number
        report("streams", streams, totals.streams)
    entries = done.entries
    report("entries", entries, totals.entries)
    page = await old.entries(place)
    while page:
        place = page[-1].stream, page[-1].position
        # The next page is read while this one is written.
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(old.entries(place))
            group.create_task(new.add_entries(page))
        entries += len(page)
        report("entries", entries, totals.entries)
        page = reading.result()
    await new.add_keys(await old.keys())
    return streams, entries


async def _copy_records(old: RecordRows, new: RecordRows, shift: float, report: Report) -> int:
    changed = dated_by(shift)
    counts = {table.name: await old.count(table) for table in TABLES}
    total, done = sum(counts.values()), 0
    for table in TABLES:
        if await new.count(table) == counts[table.name]:
            done += counts[table.name]  # of a copy that broke off; it is compared like the rest
            continue
        async for page in old.rows(table):
            await new.add(table, [changed(table, row) for row in page])
            done += len(page)
            report("records", done, total)
    return total


async def _compare(old: Store, new: Store, shift: float, report: Report) -> None:
    """Raises CopyRefused where the stores differ."""
    totals = await old.log.totals()
    if totals != await new.log.totals():
        raise CopyRefused("the copy differs: another number of streams or entries")
    copies = _streams(new.log)
    async for stream in _streams(old.log):
        if stream != await anext(copies, None):
            raise CopyRefused("the copy differs in the state of a stream")
    compared = 0
    ours, theirs = _digests(old.log), _digests(new.log)
    while (mine := await anext(ours, None)) is not None:
        if mine != await anext(theirs, None):
            raise CopyRefused(f"the copy differs in the entries of stream {mine[0]}")
        compared += mine[1]
        report("compared", compared, totals.entries)
    if compared != totals.entries:
        raise CopyRefused("the copy differs: the numbers of entries do not agree")
    mine_keys, their_keys = await old.log.keys(), await new.log.keys()
    known = {(row.scope, row.key, row.value) for row in their_keys}
    if not {row[:3] for row in mine_keys} <= known:
        raise CopyRefused("the copy differs in the idempotency keys of the log")
    changed = dated_by(shift)
    for table in TABLES:
        before = await old.records.digest(table, changed)
        if before != await new.records.digest(table, dated_by(0)):
            raise CopyRefused(f"the copy differs in the table {table.name}")


async def _streams(log: LogRows) -> AsyncIterator[StreamRow]:
    """All of them, in order. Two logs may cut their pages at different places."""
    page = await log.streams(0)
    while page:
        for row in page:
            yield row
        page = await log.streams(page[-1].number)


async def _digests(log: LogRows) -> AsyncIterator[tuple[int, int, bytes]]:
    """Of each stream with entries: its number, how many it has, and their digest."""
    stream, count, digest = 0, 0, hashlib.blake2b()
    page = await log.entries((0, 0))
    while page:
        for row in page:
            if row.stream != stream:
                if count:
                    yield stream, count, digest.digest()
                stream, count, digest = row.stream, 0, hashlib.blake2b()
            count += 1
            key = b"-" if row.key is None else b"+" + row.key
            sizes = f"{row.position} {row.at} {len(row.kind)} {len(row.body)} {len(key)} "
            digest.update(b"".join((sizes.encode(), row.kind, row.body, key)))
        page = await log.entries((page[-1].stream, page[-1].position))
    if count:
        yield stream, count, digest.digest()


# -- the secret ------------------------------------------------------------------------------


async def _secret_of(source: StorePlace, given: str | None) -> CredentialHasher:
    """Raises StoreError for a secret that is not the one of the old store."""
    path = None if source.data is None else source.data / "secret"
    in_file = load_secrets(path) if path is not None and path.exists() else None
    if given is None and in_file is None:
        raise CopyRefused("set RESONANTGENESIS_SECRET to the secret of the store")
    hasher = CredentialHasher(*(in_file or ()) if given is None else parse_secrets(given))
    made_with = None
    if given is not None:
        made_with = CredentialHasher(*(in_file or parse_secrets(given))).current
    records = await Records.open(source.url)
    try:
        await check_secret(records.server_secret, hasher, made_with)
    finally:
        await records.close()
    return hasher


async def _hand_over_secret(
    source: StorePlace,
    target: StorePlace,
    hasher: CredentialHasher,
    given: str | None,
    copied: Copied,
) -> None:
    """Let the new store know its secret by a check value, or lay it beside an embedded one."""
    if target.data is not None:
        path = target.data / "secret"
        if given is not None and not path.exists():
            write_private(path, given + "\n", replaces=False)
        elif source.data is not None and not path.exists():
            write_private(path, (source.data / "secret").read_text("ascii"), replaces=False)
        copied.lines.append(f"start the server with --data {target.data} and without a store")
        return
    records = await Records.open(target.url)
    try:
        await check_secret(records.server_secret, hasher, hasher.current)
    finally:
        await records.close()
    if given is not None:
        copied.lines.append("keep RESONANTGENESIS_SECRET as it is, and set RESONANTGENESIS_STORE")
    elif source.data is not None:
        copied.lines.append(
            f"set RESONANTGENESIS_STORE, and RESONANTGENESIS_SECRET_FILE={source.data / 'secret'}"
            " or its content as RESONANTGENESIS_SECRET, on every node"
        )


# -- files -----------------------------------------------------------------------------------


async def _copy_files(
    old: RecordRows, new: RecordRows, source: Blobs, target: Blobs, report: Report
) -> list[str]:
    """Copy the content of files; a line for each that cannot be read."""
    names = {row["digest"]: row["name"] async for page in new.rows(tables.blobs) for row in page}
    total, done = await old.count(tables.blobs), 0
    problems: list[str] = []
    async for page in old.rows(tables.blobs):
        for row in page:
            done += 1
            digest, name = row["digest"], row["name"]
            if names.get(digest) == name:  # else it was moved before the copy broke off
                try:
                    await new.move_blob(digest, await copy_blob(source, target, name, digest))
                except (BlobGone, BlobDamaged) as error:
                    problems.append(f"a file cannot be copied: {error}")
            report("files", done, total)
    return problems
