"""Reads a backup or a data directory to its end, and tells what is not whole."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..datadir.snapshot import LOG, RECORDS, SnapshotFailed, problem_of
from ..files.base import BlobError, Blobs
from ..records import tables
from ..records.transfer import RecordRows
from .make import Report, look_at, scratch_of, snapshot
from .place import BackupPlace, BackupRefused, KeptFile
from .restore import fetch

_BLOCK = 1024 * 1024


@dataclass(slots=True)
class Verified:
    """What was looked at; `problems` is empty where all is whole."""

    what: str
    streams: int = 0
    entries: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list)


async def verify_backup(place: BackupPlace, name: str | None, *, report: Report) -> Verified:
    """Raises StoreError, LogError, BlobError where nothing could be looked at."""
    manifest = await place.find(name)
    verified = Verified(f"backup {manifest.name}")
    with tempfile.TemporaryDirectory(prefix="resonantgenesis-") as folder:
        scratch = Path(folder)
        for part_name, part in manifest.parts.items():
            try:
                await fetch(place, part, scratch / part_name)
            except BackupRefused as error:
                verified.problems.append(str(error))
        if not verified.problems:
            await _look(scratch, verified, place.blobs, manifest.files, report)
            counted = (manifest.streams, manifest.entries)
            if (verified.streams, verified.entries) != counted:
                verified.problems.append(
                    f"the log has {verified.streams} streams and {verified.entries} entries; the"
                    f" manifest has {manifest.streams} and {manifest.entries}"
                )
    return verified


async def verify_data(data: Path, files: Blobs, *, report: Report) -> Verified:
    """Of a data directory, whether a server uses it or not. Raises like `verify_backup`."""
    verified = Verified(f"data directory {data}")
    with scratch_of(data) as scratch:
        await snapshot(data, scratch, report)
        await _look(scratch, verified, files, None, report)
    return verified


async def _look(
    scratch: Path,
    verified: Verified,
    files: Blobs,
    held: Mapping[str, KeptFile] | None,
    report: Report,
) -> None:
    for name in (LOG, RECORDS):
        try:
            problem = await asyncio.to_thread(problem_of, scratch / name)
        except SnapshotFailed as error:
            problem = str(error)
        if problem is not None:
            verified.problems.append(problem)
    if verified.problems:
        return
    found = await look_at(scratch)
    verified.streams, verified.entries = found.streams, found.entries
    verified.problems += found.problems
    rows = await RecordRows.target(f"sqlite:///{scratch / RECORDS}")
    try:
        await _look_at_files(rows, verified, files, held, report)
    finally:
        await rows.close()


async def _look_at_files(
    rows: RecordRows,
    verified: Verified,
    files: Blobs,
    held: Mapping[str, KeptFile] | None,
    report: Report,
) -> None:
    """`held`: where the content lies, by digest; None: where the records say."""
    total = await rows.count(tables.blobs)
    async for page in rows.rows(tables.blobs):
        for row in page:
            verified.files += 1
            digest, name = row["digest"], row["name"]
            try:
                if held is not None and digest not in held:
                    raise BlobError("the backup does not have it")
                if held is not None:
                    name = held[digest].blob
                await _read(files, name, digest, row["size"])
            except BlobError as error:
                verified.problems.append(f"content {digest}: {error}")
            report("files", verified.files, total)


async def _read(files: Blobs, name: str, digest: str, size: int) -> None:
    """Raises BlobError unless the content is whole."""
    async with await files.find(name, digest) as blob:
        if blob.size != size:
            raise BlobError(f"has {blob.size} bytes in place of {size}")
        offset = 0
        while block := await blob.read(offset, _BLOCK):
            offset += len(block)
