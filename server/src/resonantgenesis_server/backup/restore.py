"""Fills an empty data directory from a backup.

A mark stands in the directory until everything is there; no server opens the directory before. A
restore that was killed begins anew. The log gets a new epoch: positions that clients hold may be
newer than the backup.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..datadir.lock import RESTORING, lock_data
from ..datadir.private_file import sync_directory, write_private
from ..datadir.snapshot import LOG, RECORDS
from ..files.base import BlobDamaged, BlobError, BlobGone, Blobs, copy_blob
from ..log.sqlite.schema import create_or_check
from ..log.sqlite.survey import renew_epoch
from ..records import tables
from ..records.transfer import RecordRows
from .make import Report, remove
from .place import BackupPlace, BackupRefused, KeptFile, Manifest

#: What `serve` and the shell may have made in a directory that counts as empty.
_HARMLESS = frozenset({"lock", ".gitignore", RESTORING, "lost+found"})
_BLOCK = 1024 * 1024


@dataclass(slots=True)
class Restored:
    """`warnings`: a line for each content that is not there."""

    manifest: Manifest
    epoch: str
    has_secret: bool
    warnings: list[str] = field(default_factory=list)


async def restore(
    place: BackupPlace,
    name: str | None,
    data: Path,
    open_files: Callable[[], Awaitable[Blobs]],
    *,
    report: Report,
) -> Restored:
    """Fill `data` from the backup `name` (None: the newest). `open_files`: opens where content of
    files is to lie.

    Raises StoreError, LogError, BlobError, and StartupError for a directory in use.
    """
    manifest = await place.find(name)
    with lock_data(data, for_restore=True):
        await asyncio.to_thread(_begin, data)
        for part_name, part in manifest.parts.items():
            await fetch(place, part, data / part_name)
        epoch = secrets.token_hex(8)
        restored = Restored(manifest, epoch, "secret" in manifest.parts)
        await _renew(data, epoch)
        async with _closing(await open_files()) as files:
            rows = await RecordRows.target(f"sqlite:///{data / RECORDS}")
            try:
                await _fill(rows, place, manifest, files, restored, report)
            finally:
                await rows.close()
        await asyncio.to_thread(_end, data)
    return restored


async def fetch(place: BackupPlace, part: KeptFile, path: Path) -> None:
    """Write the part's content to the file, durably, and compare its digest. Raises
    BackupRefused, BlobError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        async with await place.blobs.find(part.blob, part.digest) as blob:
            if blob.size != part.size:
                raise BlobDamaged(f"has {blob.size} bytes in place of {part.size}")
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                offset = 0
                while block := await blob.read(offset, _BLOCK):
                    await asyncio.to_thread(file.write, block)
                    offset += len(block)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
    except (BlobGone, BlobDamaged) as error:
        raise BackupRefused(
            f"{path.name} of this backup is damaged ({error}); take another one with --backup"
        ) from error
    except OSError as error:
        raise BackupRefused(f"{path}: {error.strerror or error}") from error


def _begin(data: Path) -> None:
    """Set the mark. What a restore that was killed left is removed. Raises BackupRefused."""
    mark = data / RESTORING
    found = sorted(path.name for path in data.iterdir() if path.name not in _HARMLESS)
    if found and not mark.exists():
        raise BackupRefused(
            f"{data} is not empty ({', '.join(found[:3])}); name an empty directory with --data"
        )
    write_private(mark, "a restore has not ended\n")
    for name in found:
        remove(data / name)


async def _renew(data: Path, epoch: str) -> None:
    """Give the log its new epoch. What follows the log goes on from where it was."""
    path = data / LOG
    await asyncio.to_thread(create_or_check, path, epoch)
    former = await asyncio.to_thread(renew_epoch, path, epoch)
    rows = await RecordRows.target(f"sqlite:///{data / RECORDS}")
    try:
        await rows.renew_epoch(former, epoch)
    finally:
        await rows.close()


async def _fill(
    rows: RecordRows,
    place: BackupPlace,
    manifest: Manifest,
    files: Blobs,
    restored: Restored,
    report: Report,
) -> None:
    done = 0
    async for page in rows.rows(tables.blobs):
        for row in page:
            digest, done = row["digest"], done + 1
            part = manifest.files.get(digest)
            try:
                if part is None:
                    raise BlobGone("the backup does not have it")
                await rows.move_blob(digest, await copy_blob(place.blobs, files, part.blob, digest))
            except (BlobGone, BlobDamaged) as error:
                restored.warnings.append(f"content {digest} is not restored: {error}")
            report("files", done, len(manifest.files))


def _end(data: Path) -> None:
    sync_directory(data)
    (data / RESTORING).unlink()
    sync_directory(data)


@contextlib.asynccontextmanager
async def _closing(files: Blobs) -> AsyncIterator[Blobs]:
    try:
        yield files
    finally:
        with contextlib.suppress(BlobError):
            await files.close()
