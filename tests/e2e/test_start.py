"""Starts that cannot succeed say why in one line and exit with 2; the first start makes a key."""

from __future__ import annotations

import re
import socket
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.server import Serve, ServerProcess, bearer


def refused(data: Path, *, port: int = 0, **options: Any) -> str:
    """The one line of a server that does not start."""
    server = ServerProcess(data, **{"log": data.with_name("refused.log"), **options})
    server.launch(port)
    try:
        assert server.wait(30) == 2, server.log
    finally:
        server.stop()
    (line,) = server.log.splitlines()
    assert "Traceback" not in line
    return line


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_is_taken(tmp_path: Path, taken: int) -> None:
    line = refused(tmp_path / "data", port=taken)
    assert str(taken) in line and "--port" in line


def test_a_directory_in_use(serve: Serve) -> None:
    first = serve()
    line = refused(first.data)
    assert str(first.data) in line and "in use" in line
    assert httpx.get(f"{first.url}/readyz").status_code == 200


@pytest.mark.parametrize("where", ["file", "file/data", "/proc/none/data"])
def test_a_directory_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    # None of these can be made by root either, whom modes do not stop.
    (tmp_path / "file").write_text("not a directory")
    data = tmp_path / where
    assert str(data) in refused(data, log=tmp_path / "log")


def test_a_store_of_a_newer_version(tmp_path: Path, serve: Serve) -> None:
    server = serve()
    server.stop()
    with sqlite3.connect(server.data / "log.db") as log:
        log.execute("PRAGMA user_version=99")
    line = refused(server.data)
    assert "99" in line and "log.db" in line


def test_records_of_a_newer_version(serve: Serve) -> None:
    server = serve()
    server.stop()
    with sqlite3.connect(server.data / "records.db") as records:
        records.execute("UPDATE alembic_version SET version_num='9999'")
    assert "newer" in refused(server.data) or "version" in refused(server.data)


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("port", "99999", "port"),
        ("bootstrap_key", "short", "bootstrap_key"),
        ("drain_seconds", "-1", "drain_seconds"),
        ("limits__heartbeat", "soon", "heartbeat"),
        ("cors_origins", "*", "cors_origins"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, setting: str, value: str, named: str) -> None:
    options = {"key": value} if setting == "bootstrap_key" else {setting: value}
    line = refused(tmp_path / "data", **options)
    assert named in line.lower()
    assert setting != "bootstrap_key" or value not in line


@pytest.mark.parametrize("where", ["no.such.module:agent", "support.agents:nobody", "nonsense"])
def test_agents_that_cannot_be_loaded(tmp_path: Path, where: str) -> None:
    assert where in refused(tmp_path / "data", agents={"wrong": where})


def test_the_first_start_makes_a_key_and_tells_its_file(serve: Serve) -> None:
    server = serve(key=None)
    kept = (server.data / "api-key").read_text().strip()
    assert stat.S_IMODE((server.data / "api-key").stat().st_mode) == 0o600
    assert re.fullmatch(r"rg_live_\S{16,}", kept)
    assert kept not in server.log and str(server.data / "api-key") in server.log
    path = f"{server.url}/v1/agents"
    assert httpx.get(path, headers=bearer(kept)).status_code == 200
    assert httpx.get(path, headers=bearer("rg_live_wrong_wrong_wrong")).status_code == 401
    server.stop()
    server.start()
    assert kept not in server.log
    assert httpx.get(path, headers=bearer(kept)).status_code == 200
