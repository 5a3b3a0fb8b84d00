"""The doctor's checks of this machine: configuration, store, clock, open files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ... import stores
from ...config.load import LoadedSettings, load_settings, unknown_variables, worker_count
from ...config.settings import Settings
from ...http.serving.connection_limit import ConnectionLimit, raise_file_limit
from ...log.base import LogError
from ...log.sqlite.log import SqliteLog
from ...log.sqlite.schema import check_version
from ...logging.startup import StartupError
from ...model.limits import MIB
from ...records.migrate import check_revision
from .findings import Finding, fail, ok, warn

#: Synced writes that are timed; the median, in seconds, from which they slow chunks down.
_SYNCS, _SLOW_SYNC = 20, 0.02
#: Open files below which a server is soon full.
_FEW = 1_000
#: Free bytes below which the logs cannot grow.
_LAST_SPACE = 64 * MIB
#: 2025: no clock that is right is before it.
_PAST = 1_735_689_600
_SKEW = 5.0


def configuration(data: Path | None, config: Path | None) -> tuple[Settings, list[Finding]]:
    """The settings in effect; the defaults if there is an error in them."""
    try:
        loaded = load_settings({"data": data}, config)
    except StartupError as error:
        todo = "correct it; the server does not start with it"
        settings = Settings() if data is None else Settings(data=data)
        return settings, [fail("configuration", str(error), todo)]
    findings = [ok("configuration", _sources(loaded)), *_workers(loaded.settings)]
    for name, meant in unknown_variables():
        todo = f"did you mean {meant}?" if meant else "unset it, or look for its name in the README"
        findings.append(warn("configuration", f"{name} is no setting and does nothing", todo))
    return loaded.settings, findings


def _workers(settings: Settings) -> Iterator[Finding]:
    try:
        count = worker_count(settings)
    except StartupError as error:
        yield fail("configuration", str(error), "set `store`, or leave `workers` at 1")
        return
    if count > 1:
        yield ok("configuration", f"{count} workers on one port")


def _sources(loaded: LoadedSettings) -> str:
    kinds = Counter(
        "variables" if source.startswith("variable ") else source
        for source in loaded.sources.values()
        if source != "command line"
    )
    message = ", ".join(f"{count} from {source}" for source, count in kinds.items())
    return f"{message or 'no settings given'}; all else at its default"


def store(settings: Settings) -> Iterator[Finding]:
    """Check the data directory and the database, without a change to them."""
    if settings.store:
        yield from _database(settings)
    data = settings.data
    if not data.exists():
        parent = next(each for each in data.absolute().parents if each.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield ok("store", f"{data} is not there yet; the first start makes it")
            yield from _space(parent, settings)
        else:
            todo = "choose another with --data, or let its parent be written"
            yield fail("store", f"{data} is not there and cannot be made", todo)
        return
    try:
        seconds = _sync_seconds(data)
    except OSError as error:
        todo = "check its owner and mode, and whether the disk is full or read-only"
        yield fail("store", f"cannot write to {data}: {error.strerror}", todo)
        return
    used = ", in use by a running server" if _is_in_use(data) else ""
    yield ok("store", f"{data} can be written{used}")
    if not settings.store:
        yield ok("durability", f"embedded; commits are {SqliteLog.durability}; one node")
    yield from _version(data)
    yield _sync(seconds)
    yield from _space(data, settings)


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        report = stores.check(settings)
    except stores.ERRORS as error:
        yield fail("store", str(error), "put it right; `resonantgenesis store check` looks again")
        return
    yield ok("store", "PostgreSQL")
    for line in report.lines:
        yield ok("store", line)
    if report.commit_seconds is not None and report.commit_seconds >= _SLOW_SYNC:
        message = f"a commit takes {report.commit_seconds * 1000:.0f} ms; every chunk waits so long"
        yield warn("store", message, "bring the database nearer, or give it a faster disk")
    if len(report.machines) > 1 and not settings.files:
        message = "files lie in the data directory, where nodes on other machines do not find them"
        yield warn("store", message, "set `files` to a shared directory or to s3://BUCKET/PREFIX")
    for warning in report.warnings:
        yield warn("store", warning, "change it in the database's configuration")


def _sync_seconds(data: Path) -> float:
    """The median time of a small synced write, in seconds; a commit waits for one."""
    times: list[float] = []
    with tempfile.NamedTemporaryFile(dir=data, prefix=".doctor-") as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _sync(seconds: float) -> Finding:
    message = f"a synced write takes {seconds * 1000:.1f} ms"
    if seconds < _SLOW_SYNC:
        return ok("disk", message)
    return warn("disk", f"{message}; every chunk waits so long", "put the data on a local SSD")


def _is_in_use(data: Path) -> bool:
    try:
        descriptor = os.open(data / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _version(data: Path) -> Iterator[Finding]:
    todo = "update this program, or restore an older backup"
    checks: list[tuple[Path, Callable[[Path], str | None]]] = [
        (data / "log.db", _log_problem),
        (data / "records.db", check_revision),
    ]
    for path, problem_of in checks:
        problem = problem_of(path) if path.exists() else None
        if problem is not None:
            yield fail("store", problem, todo)


def _log_problem(path: Path) -> str | None:
    try:
        check_version(path)
    except LogError as error:
        return str(error)
    return None


def _space(path: Path, settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(path).free
    message = f"{free / 1024**3:.1f} GiB are free"
    if free < _LAST_SPACE:
        yield fail("space", message, "make room: turns fail once the disk is full")
    elif free < settings.limits.disk_reserve:
        yield warn("space", f"{message}, which are kept for the logs", "make room: uploads get 503")
    else:
        yield ok("space", message)


def clock(settings: Settings, server_ahead: float | None) -> Finding:
    """Check the clock; `server_ahead`: seconds by which the server's clock is ahead of ours."""
    now = time.time()
    todo = "set the clock, and let NTP keep it: tokens and events go by it"
    newest = 0.0
    for name in ("log.db", "log.db-wal", "records.db"):
        with contextlib.suppress(OSError):
            newest = max(newest, (settings.data / name).stat().st_mtime)
    if now < _PAST:
        return fail("clock", f"it is {time.strftime('%Y-%m-%d', time.gmtime(now))} here", todo)
    if newest > now + 60:
        return warn("clock", "the clock is behind what is already stored", todo)
    if server_ahead is not None and abs(server_ahead) > _SKEW:
        where = "ahead of" if server_ahead > 0 else "behind"
        return warn("clock", f"the server's is {abs(server_ahead):.0f} s {where} this one", todo)
    return ok("clock", "right" if server_ahead is None else "the same here and at the server")


def open_files(settings: Settings, server: tuple[int, int] | None) -> Finding:
    """Check the limit of open files.

    `server`: open and allowed files of the running server, from its metrics; None: check the
    limit of a server that is started here.
    """
    connections = settings.limits.connections
    raise_file_limit()  # as the server does
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    todo = "raise the limit before the server starts: `ulimit -n 65536`, or LimitNOFILE in systemd"
    if server is not None:
        opened, limit = server
        message = f"the server has {opened} of {limit} open"
        if opened > limit * 0.9:
            return fail("open files", message, todo)
    elif limit == resource.RLIM_INFINITY:
        return ok("open files", "as many as one likes")
    else:
        message = f"{limit} are allowed here"
    if connections >= limit:
        return fail("open files", f"{message}, but limits.connections is {connections}", todo)
    if server is None:
        message = f"{message}, enough for {ConnectionLimit.of(connections).most} connections"
    return ok("open files", message) if limit >= _FEW else warn("open files", message, todo)
