"""Where things lie."""

from __future__ import annotations

from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
WORK = BENCH / ".work"
LOADGEN = WORK / "loadgen"
LIMIT = WORK / "limit"
PEER_PYTHON = WORK / "venv" / "bin" / "python"
NODE = WORK / "node"
APPS = BENCH / "peers" / "apps"


def reason_absent(name: str) -> str | None:
    """Why the setup could not install this kind of peer; None when it could."""
    note = WORK / f"{name}.absent"
    return (note.read_text().strip() or "could not be installed") if note.exists() else None
