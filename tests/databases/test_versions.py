"""All that is stored, and the nodes, on the newest release of each version of PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITES = {
    "store": [
        "server/tests/contract",
        "server/tests/log/postgres",
        "server/tests/records",
        "server/tests/test_store_copy.py",
    ],
    "nodes": ["server/tests/nodes", "tests/nodes", "tests/faults/test_postgres.py"],
}


@pytest.mark.soak
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("version", [14, 16, 17, 18])
def test_a_version_of_postgresql(version: int, suite: str) -> None:
    programs = Path(__file__).parent / f"node_modules/postgresql-{version}/native/bin"
    said = subprocess.check_output([programs / "postgres", "--version"], text=True)
    assert said.startswith(f"postgres (PostgreSQL) {version}.")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "4", "-m", "not soak", *SUITES[suite]],
        cwd=ROOT,
        env={**os.environ, "POSTGRES_BIN": str(programs), "CI": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3_600,
        check=False,
    )
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-20_000:]
