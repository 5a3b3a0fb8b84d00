"""The data directory: for one process at a time, closed to other users, and out of git."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from ..logging.startup import StartupError
from .private_file import sync_directory

log_ = structlog.get_logger("resonantgenesis.data")

#: The names that the server makes in it.
_OURS = (
    "lock",
    "secret",
    "api-key",
    "clock",
    "records.db",
    "log.db",
    "files",
    "backup",
    "restoring",
)
#: The mark of a data directory that a restore fills; it is gone when all is there.
RESTORING = "restoring"
_IGNORE = ".gitignore"
_PRIVATE = stat.S_IRWXG | stat.S_IRWXO


@contextlib.contextmanager
def lock_data(data: Path, *, for_restore: bool = False) -> Iterator[None]:
    """Hold the data directory; made on first start. One that a restore has not filled is refused,
    unless `for_restore`. Raises StartupError."""
    try:
        _make_private(data)
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"cannot write to {data}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StartupError(
            f"{data} is in use by another server; stop it or choose another with --data"
        ) from error
    try:
        if not for_restore and (data / RESTORING).exists():
            raise StartupError(
                f"a restore into {data} has not ended; run the same `resonantgenesis restore` again"
            )
        with contextlib.suppress(OSError):  # a full disk is reported when data is written
            _keep_out_of_git(data)
        _close_to_others(data)
        yield
    finally:
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    """Make the folder and its parents, whose mode would follow the umask."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        folder.mkdir()  # raises the reason
    # At every start: the process that made it may have died before it synced it.
    for each in missing or [folder]:
        with contextlib.suppress(PermissionError):  # may be entered, not listed
            sync_directory(each.absolute().parent)


def _keep_out_of_git(data: Path) -> None:
    """Write a .gitignore, since keys and logs are no source. An existing one stays as it is. Where
    the directory is also a project's, only our own names are ignored."""
    is_project = (data / ".git").exists() or data.resolve() in (Path.cwd(), *Path.cwd().parents)
    named = [f"/{name}*" for name in _OURS] + [f"/.{name}.*" for name in _OURS]
    lines = [*named, f"/{_IGNORE}"] if is_project else ["*"]
    with contextlib.suppress(FileExistsError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(data / _IGNORE, flags, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("\n".join(["# Keys and logs: not for git.", *lines, ""]))


def _close_to_others(data: Path) -> None:
    """Correct the modes of our files. Only warn of the directory: its mode may be a choice."""
    ours = [entry for entry in data.iterdir() if entry.name.startswith(_OURS)]
    opened: list[str] = []
    for entry in ours:
        try:
            mode = entry.lstat().st_mode
            if mode & _PRIVATE and not stat.S_ISLNK(mode):
                opened.append(entry.name)
                entry.chmod(stat.S_IMODE(mode) & ~_PRIVATE)
        except OSError as error:
            log_.warning("a file of others' cannot be closed to them", file=str(entry), error=error)
    if opened:
        log_.warning("others could read what is in the data directory; no more", files=opened)
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & _PRIVATE:
        todo = f"chmod 700 {data}"
        log_.warning("others can look into the data directory", mode=f"{mode:04o}", todo=todo)
