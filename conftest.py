"""What every test process needs, whatever it was started from."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let SIGINT through.

    A shell without job control starts what runs in the background, as does `nohup`, with SIGINT
    ignored. Every program that a test starts would inherit that, and no Ctrl-C would reach it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
