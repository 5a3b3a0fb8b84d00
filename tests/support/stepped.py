"""The server on a machine whose clock is ahead by the seconds in the file CLOCK_STEP."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

_right, _file = time.time, Path(os.environ["CLOCK_STEP"])


def _stepped() -> float:
    step = 0.0
    with contextlib.suppress(OSError, ValueError):
        step = float(_file.read_text())
    return _right() + step


time.time = _stepped
time.time_ns = lambda: int(_stepped() * 1e9)

if __name__ == "__main__":
    from resonantgenesis_server.cli import main

    sys.exit(main())
