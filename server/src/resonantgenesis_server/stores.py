"""The stores that the settings name: embedded in the data directory, or on PostgreSQL.

This is the one place that chooses. What PostgreSQL alone needs is imported when it is chosen.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from .backup.make import refuse_crashed, require_store
from .backup.place import BackupPlace
from .config.load import file_of
from .config.settings import Settings
from .datadir.lock import lock_data
from .datadir.snapshot import LOG, RECORDS, SnapshotFailed, vacuum
from .files.base import Blobs
from .files.disk import DiskBlobs, place_of
from .files.documents import DiskDocuments
from .files.service import BlobAddress
from .log.base import LogError, LogUnavailable, OnCommit
from .log.sqlite.log import SqliteLog
from .log.transfer import LogRows
from .logging.startup import StartupError
from .model.clock import Clock
from .model.extras import how_to_install
from .records.base import StoreError
from .records.credentials import CredentialHasher, SecretFile, load_secrets, parse_secrets
from .records.server_secret import check_secret
from .records.store import Records

if TYPE_CHECKING:
    from .log.postgres.log import PostgresLog
    from .log.postgres.spread import SpreadLog
    from .log.postgres.upkeep import StoreState

log_ = structlog.get_logger("resonantgenesis.stores")

AnyLog: TypeAlias = "SqliteLog | PostgresLog | SpreadLog"
#: What is wrong with a store, in one line.
ERRORS = (StoreError, LogError)
#: Bytes of a database in a backup on S3, which decide on the size of its parts.
_LARGEST_DATABASE = 1 << 37


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Lines for people."""

    lines: Sequence[str]
    warnings: Sequence[str]
    #: How long a commit of the log takes, in seconds; None: it was not measured.
    commit_seconds: float | None = None
    #: The machines of the nodes that are alive, by their names.
    machines: frozenset[str] = frozenset()


def node_name(worker: int | None) -> str:
    """The name of this process among the nodes. `worker`: its number, if it is one of several."""
    return socket.gethostname() if worker is None else f"{socket.gethostname()}/{worker}"


async def open_records(settings: Settings, clock: Clock) -> Records:
    """Raises StoreError, LogError for a wrong list of databases, and StartupError for settings that
    do not fit the store."""
    if not settings.store:
        if settings.store_direct:
            raise StartupError("store_direct: is of use only with `store`, a pooler's address")
        url = f"sqlite:///{settings.data / 'records.db'}"
        return await Records.open(url, clock=clock.now, passed=clock.passed)
    if settings.secret is None:
        raise StartupError(
            "secret: is needed with `store`, the same one for every node, e.g. the output of"
            " `openssl rand -hex 32`"
        )
    with _postgres():
        from .log.postgres import databases, upkeep
    # First: records would be made in a database that is not the first.
    urls = _direct(settings)
    if len(urls) == 1:
        await upkeep.look(urls[0])
    else:
        await databases.agree(urls, make=settings.store_upgrade)
    return await Records.open(
        settings.store[0],
        direct=settings.store_direct[0] if settings.store_direct else None,
        clock=clock.now,
        passed=clock.passed,
        pool_size=settings.store_pool,
        upgrade=settings.store_upgrade,
    )


async def open_hasher(settings: Settings, records: Records) -> CredentialHasher:
    """The server's secrets: those of the settings, else of the file in the data directory.

    Raises StoreError for secrets that are not those of this store."""
    path, kept = settings.data / "secret", records.server_secret
    if settings.secret is not None:
        hasher = CredentialHasher(*parse_secrets(settings.secret.get_secret_value()))
        made_with = hasher.current
        if not settings.store and await asyncio.to_thread(path.exists):
            made_with = CredentialHasher(*load_secrets(path)).current
        await check_secret(kept, hasher, made_with)
        return hasher
    is_new = not await asyncio.to_thread(path.exists)
    hasher = CredentialHasher(*load_secrets(path))
    if is_new and await records.organizations.first() is not None:
        await kept.forget()
        log_.error("the secret was gone and is made anew; no earlier API key works", file=str(path))
    await check_secret(kept, hasher)
    return hasher


def secret_file(settings: Settings) -> SecretFile | None:
    """Where a rotation reads the secrets again; None: nowhere, without a restart."""
    if settings.secret is None:
        return SecretFile(settings.data / "secret", is_own=True)
    path = file_of("secret")
    return None if path is None else SecretFile(path, is_own=False)


async def open_log(
    settings: Settings,
    on_commit: OnCommit,
    clock: Clock,
    on_broken: Callable[[str], None],
    worker: int | None = None,
) -> AnyLog:
    """`on_broken` is called with the reason when the log cannot be expected to recover. `worker`:
    the number of this process among those of one server.

    Raises LogError."""
    if not settings.store:
        return await SqliteLog.open(
            settings.data / "log.db",
            on_commit=on_commit,
            clock=clock,
            on_broken=partial(on_broken, "the log fails time after time"),
        )
    with _postgres():
        from .log.postgres import upkeep
        from .log.postgres.log import PostgresLog
        from .log.postgres.spread import SpreadLog
    urls = _direct(settings)
    if not settings.store_upgrade:
        for url in urls:
            _refuse_old(await upkeep.look(url, is_one_of_several=len(urls) > 1))
    open_it: Callable[..., Awaitable[PostgresLog | SpreadLog]]
    if len(urls) == 1:
        open_it = partial(PostgresLog.open, urls[0])
    else:
        open_it = partial(SpreadLog.open, urls, make=settings.store_upgrade)
    log = await open_it(
        on_commit=on_commit,
        on_broken=on_broken,
        beat_seconds=settings.node_beat,
        ttl=settings.node_ttl,
        name=node_name(worker),
        version=version("resonantgenesis-server"),
    )
    log_.info("the log is on PostgreSQL", durability=log.durability, databases=len(urls))
    return log


async def open_blobs(settings: Settings) -> tuple[Blobs, BlobAddress | None]:
    """The store of blobs, and its addresses for clients if they are to have some. Imports the
    library for S3, an extra, only if it is wanted."""
    where, reserve, seconds = settings.files, settings.limits.disk_reserve, settings.files_presigned
    if not where.startswith("s3://"):
        if seconds:
            raise StartupError("files_presigned: only S3-compatible storage has addresses")
        if not where:
            return await DiskBlobs.open(settings.data / "files", reserve=reserve), None
        return await DiskBlobs.open(Path(where), reserve=reserve, shared=True), None
    s3 = _s3()
    try:
        place = s3.S3Place.parse(where, settings.files_endpoint or None)
    except ValueError as error:
        raise StartupError(f"files: {error}") from error
    if seconds:
        s3.check_signing()
    blobs = await s3.S3Blobs.open(place, largest=settings.limits.file)
    return blobs, partial(blobs.url, seconds=seconds) if seconds else None


async def blobs_alone(settings: Settings) -> Blobs:
    """The store of blobs for a command beside the server."""
    shared = settings.files or str(settings.data / "files")
    alone = settings.model_copy(update={"files_presigned": 0, "files": shared})
    blobs, _ = await open_blobs(alone)
    return blobs


async def open_backup_place(where: str, *, make: bool = False) -> BackupPlace:
    """Where backups lie: a directory or s3://BUCKET/PREFIX. `make`: make a directory that is
    missing; without it a directory is only read. Raises BlobError, and StartupError for a place
    that cannot be one."""
    if not where.startswith("s3://"):
        if "://" in where or where.startswith("s3:"):
            raise StartupError(f"{where[:200]}: is neither a directory nor like s3://bucket/prefix")
        folder = await asyncio.to_thread(_folder_of, where, make)
        root = folder / "files"
        blobs = await DiskBlobs.open(root, shared=True) if make else DiskBlobs.to_read(root)
        return BackupPlace(where, blobs, DiskDocuments(folder))
    s3 = _s3()
    try:
        place = s3.S3Place.parse(where)
    except ValueError as error:
        raise StartupError(f"{where[:200]}: {error}") from error
    objects = await s3.S3Blobs.open(place, largest=_LARGEST_DATABASE)
    return BackupPlace(where, objects, s3.S3Documents(objects))


def _folder_of(where: str, make: bool) -> Path:
    if not where:
        raise StartupError("name the place of the backups: it is empty")
    folder = Path(where).expanduser()
    if not make and not folder.is_dir():
        raise StartupError(f"there is no directory {folder}; name the place of the backups")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


def _s3() -> Any:
    try:
        return importlib.import_module(".files.s3", __package__)
    except ModuleNotFoundError as error:
        raise StartupError(
            f"files in S3 need the package {error.name!r}: {how_to_install('s3')}"
        ) from error


def place_of_files(settings: Settings) -> str | None:
    """Where content of files lies, the same for all nodes that find it there; None: unknown."""
    if settings.files.startswith("s3://"):
        return f"{settings.files} {settings.files_endpoint or ''}"
    try:
        return place_of(Path(settings.files) if settings.files else settings.data / "files")
    except (OSError, ValueError):
        return None


async def postgres_rows(urls: Sequence[str], *, make: bool) -> LogRows:
    """The rows of a log in these databases; `make`: make it where there is none. Raises
    LogError."""
    with _postgres():
        from .log.postgres.transfer import PostgresRows, SpreadRows
    if len(urls) == 1:
        return await PostgresRows.open(urls[0])
    return await SpreadRows.open(urls, make=make)


def _direct(settings: Settings) -> Sequence[str]:
    """The addresses of the databases without a pooler in between."""
    return settings.store_direct or settings.store


def make_or_upgrade(settings: Settings) -> str:
    """Make the stores, or bring them to this program's version; one line on what was done.

    Raises StoreError and LogError, and StartupError when a server holds the data directory."""
    with _held(settings):
        return asyncio.run(_make_or_upgrade(settings))


def compact(settings: Settings) -> str:
    """Give the space that deletions have freed back to the disk; one line on what was done.

    Raises StoreError, and StartupError when a server holds the data directory."""
    if settings.store:
        raise StoreError("PostgreSQL does this by itself (autovacuum); its VACUUM FULL does it now")
    data = settings.data
    require_store(data)
    refuse_crashed(data)
    with lock_data(data):
        try:
            freed = sum(vacuum(data / name) for name in (LOG, RECORDS))
        except SnapshotFailed as error:
            raise StoreError(str(error)) from error
    return f"the store is compact: {max(freed, 0)} bytes are free again"


def check(settings: Settings) -> StoreReport:
    """Look at the stores and change nothing.

    Raises StoreError and LogError with the first thing that is wrong."""
    return asyncio.run(_check(settings))


@contextlib.contextmanager
def _held(settings: Settings) -> Iterator[None]:
    if settings.store:
        yield
        return
    with lock_data(settings.data):
        yield


async def _make_or_upgrade(settings: Settings) -> str:
    if not settings.store:
        before = await Records.revision(f"sqlite:///{settings.data / 'records.db'}")
        records = await open_records(settings, Clock())
        await records.close()
        await (await SqliteLog.open(settings.data / "log.db")).close()
        return _done(before.found, before.newest)
    with _postgres():
        from .log.postgres import databases, upkeep
    urls = _direct(settings)
    before = await Records.revision(urls[0])
    several = len(urls) > 1
    if several:
        await databases.agree(urls, make=True)
    records = await Records.open(urls[0])
    await records.close()
    for url in urls:
        await upkeep.make_or_upgrade(url, is_one_of_several=several)
    return _done(before.found, before.newest)


async def _check(settings: Settings) -> StoreReport:
    urls = _direct(settings)
    if not urls:
        if not (settings.data / "records.db").exists():
            raise StoreError(
                f"there is no store in {settings.data}; run `resonantgenesis store init`"
            )
        lines = [await _records_line(f"sqlite:///{settings.data / 'records.db'}")]
        return StoreReport([*lines, f"log: commits are {SqliteLog.durability}"], ())
    with _postgres():
        from .log.postgres import databases, upkeep
    several = len(urls) > 1
    states = [await upkeep.look(url, is_one_of_several=several) for url in urls]
    if several and all(state.version for state in states):
        await databases.agree(urls, make=False)
    lines = [await _records_line(urls[0])]
    for state in states:
        _refuse_old(state)
    warnings: list[str] = []
    machines: set[str] = set()
    slowest = 0.0
    for place, (url, state) in enumerate(zip(urls, states, strict=True)):
        label = f"{databases.label_of(place, len(urls))}: " if several else ""
        survey = await upkeep.survey(url)
        names = f": {', '.join(survey.nodes)}" if survey.nodes else ""
        lines += [
            f"{label}log: version {state.version}; commits are {state.server.durability}",
            f"{label}nodes: {len(survey.nodes)} alive{names}",
            f"{label}a commit takes {survey.commit_seconds * 1000:.1f} ms",
        ]
        warnings += [f"{label}{warning}" for warning in state.server.warnings]
        slowest = max(slowest, survey.commit_seconds)
        machines |= {name.partition("/")[0] for name in survey.nodes}
    return StoreReport(lines, warnings, slowest, frozenset(machines))


async def _records_line(url: str) -> str:
    """Raises StoreError."""
    records = await Records.revision(url)
    if records.problem is not None:
        raise StoreError(records.problem)
    return f"records: revision {records.found}"


def _done(found: str | None, newest: str) -> str:
    if found is None:
        return f"the store is made (revision {newest})"
    if found == newest:
        return f"the store has the newest version already (revision {newest})"
    return f"the store was upgraded from revision {found} to {newest}"


def _refuse_old(state: StoreState) -> None:
    if state.version > state.newest:
        raise LogError(f"the log has version {state.version}; this program has {state.newest}")
    if not state.version:
        raise LogUnavailable("there is no log yet; run `resonantgenesis store init`")
    if state.version < state.newest:
        raise LogUnavailable(
            f"the log has version {state.version}, this program {state.newest}; run"
            " `resonantgenesis store upgrade`"
        )


@contextlib.contextmanager
def _postgres() -> Iterator[None]:
    """Around imports of what is there with the extra alone."""
    try:
        yield
    except ImportError as error:
        raise LogUnavailable(f"PostgreSQL needs the extra: {how_to_install('postgres')}") from error
