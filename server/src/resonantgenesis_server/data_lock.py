"""The data directory belongs to one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .config import StartupError


@contextlib.contextmanager
def lock_data(data: Path) -> Iterator[None]:
    """Hold the data directory; made on first start. Raises StartupError."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(f"cannot write to {data}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StartupError(
            f"{data} is in use by another server; stop it or choose another with --data"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)
