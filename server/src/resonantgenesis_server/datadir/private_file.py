"""Small files for their owner alone. A crash leaves the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

MODE = 0o600


def write_private(path: Path, text: str, *, replaces: bool = True) -> None:
    """Write the ASCII text durably: when this returns the file survives a power loss.

    Raises OSError, and FileExistsError if the file exists and may not be replaced. Nothing has
    changed then.
    """
    draft = path.with_name(f"{_draft(path)}{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            draft.replace(path)
        else:
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def read_private(path: Path) -> str | None:
    """The file's text without blanks around it; None if there is no such file. Nobody else can
    read the file from then on. Raises OSError."""
    for left in path.parent.glob(f"{_draft(path)}*"):  # of a crash
        left.unlink(missing_ok=True)
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if path.stat().st_mode & 0o077:
        with contextlib.suppress(PermissionError):  # another's file
            path.chmod(MODE)
    return text


def sync_directory(folder: Path) -> None:
    """Make what was created, renamed or removed in the folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(path: Path) -> str:
    return f".{path.name}."
