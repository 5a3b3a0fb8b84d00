"""Makes a backup of a data directory, whether a server uses it or not."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ..datadir.lock import lock_data
from ..datadir.snapshot import LOG, RECORDS, SnapshotFailed, copy_databases
from ..datadir.wal import has_wal
from ..files.base import BlobDamaged, BlobGone, Blobs, copy_blob, write_blob
from ..files.service import ABANDONED
from ..log.sqlite.schema import create_or_check
from ..log.sqlite.survey import LogSurvey, survey
from ..logging.startup import StartupError
from ..records import tables
from ..records.transfer import RecordRows
from .place import SMALL, BackupPlace, BackupRefused, KeptFile, Manifest

#: Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]
#: In the data directory, and emptied: no name that people give to what they keep.
SCRATCH = "backup-scratch"
#: Files after which a backup under way notes what it has.
_NOTED = 256


@dataclass(slots=True)
class Made:
    """`copied`: files whose content was new. `warnings` are lines for people."""

    manifest: Manifest
    copied: int = 0
    removed: int = 0
    warnings: list[str] = field(default_factory=list)


async def make_backup(
    data: Path, files: Blobs, place: BackupPlace, *, keep: int | None, report: Report
) -> Made:
    """Back the data directory up; `files` is where content of files lies. `keep`: the number of
    backups that stay, this one included; None: all.

    A backup that is killed leaves no backup; the next one goes on with the files. Raises
    StoreError, LogError, BlobError.
    """
    with scratch_of(data) as scratch:
        await place.begin()
        secrets_before = _secrets(data)
        await snapshot(data, scratch, report)
        made_at = datetime.now(UTC)
        parts = {name: await _keep_file(scratch / name, place.blobs) for name in (LOG, RECORDS)}
        parts |= {
            name: await _keep_file(data / name, place.blobs)
            for name in SMALL
            if (data / name).exists()
        }
        if not secrets_before <= _secrets(data):
            raise BackupRefused("a secret of the server was retired meanwhile; back up again")
        found = await look_at(scratch)
        manifest = Manifest(
            name=f"{made_at:%Y%m%dT%H%M%S-%fZ}",
            made_at=made_at.isoformat(timespec="seconds"),
            program=version("resonantgenesis-server"),
            epoch=found.epoch,
            streams=found.streams,
            entries=found.entries,
            parts=parts,
        )
        made = Made(manifest)
        rows = await RecordRows.target(f"sqlite:///{scratch / RECORDS}")
        try:
            await _copy_files(rows, files, place, made, report)
        finally:
            await rows.close()
    await place.add(made.manifest)
    if keep is not None:
        made.removed = await place.remove_old(keep, ABANDONED)
    return made


def _secrets(data: Path) -> set[str]:
    """What the file of the server's secrets has, if it is there."""
    path = data / "secret"
    return set(path.read_text("ascii").split()) if path.exists() else set()


def require_store(data: Path) -> None:
    """Raises BackupRefused for a directory without a store."""
    if not (data / LOG).exists():
        raise BackupRefused(f"there is no store in {data}; name its data directory with --data")


@contextlib.contextmanager
def scratch_of(data: Path) -> Iterator[Path]:
    """An empty folder in the data directory, for one backup at a time. A killed one's rests are
    removed. Raises BackupRefused."""
    require_store(data)
    folder = data / SCRATCH
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BackupRefused(f"cannot write to {folder}: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupRefused(
                f"another backup of {data} is under way; wait for its end"
            ) from error
        _empty(folder)
        stack.callback(_empty, folder)
        yield folder


async def snapshot(data: Path, scratch: Path, report: Report) -> None:
    """Copy both databases into the folder as they are at one instant. Raises BackupRefused."""
    refuse_crashed(data)
    try:
        await asyncio.to_thread(
            copy_databases, data, scratch, lambda done, pages: report("pages", done, pages)
        )
    except (SnapshotFailed, OSError) as error:
        raise BackupRefused(str(error)) from error


async def look_at(scratch: Path) -> LogSurvey:
    """Count the copied log. The copy is brought to this program's version first."""
    path = scratch / LOG
    await asyncio.to_thread(create_or_check, path, secrets.token_hex(8))
    return await asyncio.to_thread(survey, path)


def refuse_crashed(data: Path) -> None:
    """The server's next start has to see what a crash left. Whoever opens the store first and
    closes it would hide that."""
    if not has_wal(data / LOG) and not has_wal(data / RECORDS):
        return
    try:
        with lock_data(data):
            raise BackupRefused(
                f"the server of {data} ended without closing its store; start it once, then back up"
            )
    except StartupError:  # it runs
        return


async def _copy_files(
    rows: RecordRows, files: Blobs, place: BackupPlace, made: Made, report: Report
) -> None:
    """Copy the content that does not lie there yet."""
    known = await place.known_files()
    total, done = await rows.count(tables.blobs), 0
    held: dict[str, KeptFile] = {}
    async for page in rows.rows(tables.blobs):
        for row in page:
            digest, done = row["digest"], done + 1
            part = known.get(digest)
            if part is None:
                part = await _copy_file(row["name"], digest, row["size"], files, place, made)
                if part is not None:
                    known[digest] = part
                    made.copied += 1
                    if made.copied % _NOTED == 0:
                        await place.note(known)
            if part is not None:
                held[digest] = part
            report("files", done, total)
    made.manifest = replace(made.manifest, files=held)


async def _copy_file(
    name: str, digest: str, size: int, files: Blobs, place: BackupPlace, made: Made
) -> KeptFile | None:
    try:
        return KeptFile(await copy_blob(files, place.blobs, name, digest), digest, size)
    except BlobGone:
        made.warnings.append(f"content {digest} is not there: deleted meanwhile, or lost")
    except BlobDamaged as error:
        made.warnings.append(f"content is damaged: {error}")
    return None


async def _keep_file(path: Path, blobs: Blobs) -> KeptFile:
    """Store the file as a blob. Raises BackupRefused, BlobError."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size

            async def read(offset: int, count: int) -> bytes:
                return await asyncio.to_thread(os.pread, file.fileno(), count, offset)

            name, digest = await write_blob(blobs, size, read)
    except OSError as error:
        raise BackupRefused(f"{path}: {error.strerror or error}") from error
    return KeptFile(name, digest, size)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder. Where a link leads all stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
