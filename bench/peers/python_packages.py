"""The versions of the peers' Python packages."""

from __future__ import annotations

from ..harness.paths import BENCH


def versions(*names: str) -> str:
    """As locked, e.g. "uvicorn 0.1, uvloop 0.2"."""
    lines = (BENCH / "requirements-bench.txt").read_text().splitlines()
    locked = dict(line.split()[0].split("==") for line in lines if "==" in line.split(" ")[0])
    return ", ".join(f"{name} {locked[name]}" for name in names if name in locked)
