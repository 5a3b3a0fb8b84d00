"""The end of a process for which its log is of no use any more."""

from __future__ import annotations

import subprocess
import sys

BROKEN = "from resonantgenesis_server import serve; serve._stop_broken('it is broken')"


def test_a_log_that_breaks_amid_the_start_ends_it_like_any_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "it is broken; the server stops" in done.stdout + done.stderr
