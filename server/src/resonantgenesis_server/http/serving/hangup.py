"""SIGHUP: a terminal has been closed, or somebody wants files to be read again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def watch_terminal() -> Callable[[], bool]:
    """A function that tells whether the terminal of this process has been closed.

    It is false for ever without a terminal, and where SIGHUP is ignored, as by `nohup`.
    """
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    ends_with_terminal = _has_terminal() and not is_ignored
    return lambda: ends_with_terminal and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
