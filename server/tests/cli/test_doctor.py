"""`resonantgenesis doctor` about this machine; about the way to a server see tests/e2e."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import time
from collections import namedtuple
from pathlib import Path

import pytest
from cli_fake import FakeServer, Reply
from cli_process import Cli, Outcome, Process, RealServer
from resonantgenesis_server.cli.doctor import machine as doctor_machine
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.log.sqlite.schema import SCHEMA_VERSION, create_or_check
from resonantgenesis_server.stores import StoreReport

Usage = namedtuple("Usage", "total used free")


def told(outcome: Outcome) -> dict[str, tuple[str, str, str]]:
    """The worst finding of each check: level, message, what to do."""
    found: dict[str, tuple[str, str, str]] = {}
    order = ["OK", "WARN", "FAIL"]
    for line in outcome.out.splitlines():
        row = json.loads(line)
        before = found.get(row["check"])
        if before is None or order.index(row["level"]) >= order.index(before[0]):
            found[row["check"]] = row["level"], row["message"], row["next"]
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_a_machine_that_is_fine(cli: Cli, data: Path, tmp_path: Path) -> None:
    outcome = cli("doctor", "--data", str(data), "--json", "--patience", "1")
    found = told(outcome)
    for check in ("configuration", "store", "space", "clock"):
        assert found[check][0] == "OK", found[check]
    assert found["server"][0] == "WARN"  # none was named
    assert outcome.code == 0
    assert list(data.iterdir()) == []
    for level, _, todo in found.values():
        assert bool(todo) == (level != "OK")


def test_a_store_on_postgresql(
    cli: Cli, data: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANTGENESIS_STORE", postgres)
    arguments = ("doctor", "--data", str(data), "--json", "--patience", "1")
    level, message, _ = told(cli(*arguments))["store"]
    assert level == "FAIL" and "resonantgenesis store init" in message
    assert cli("store", "init").code == 0
    level, message, _ = told(cli(*arguments))["store"]
    assert level == "WARN" and "fsync" in message  # the tests' server is careless


def test_a_server_that_was_named_must_be_there(cli: Cli, data: Path) -> None:
    url = "http://127.0.0.1:1"
    outcome = cli("doctor", "--data", str(data), "--url", url, "--json")
    assert told(outcome)["server"][0] == "FAIL"
    assert outcome.code == 1


def test_where_settings_come_from_and_those_that_are_none(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resonantgenesis.toml").write_text("port = 9000\nlog_level = 'debug'\n")
    monkeypatch.setenv("RESONANTGENESIS_DRAIN_SECONDS", "3")
    monkeypatch.setenv("RESONANTGENESIS_DRAIN_SECOND", "3")
    outcome = cli("doctor", "--data", str(data), "--json", "--patience", "1")
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    said = [row["message"] for row in rows if row["check"] == "configuration"]
    assert "2 from file resonantgenesis.toml" in said[0]
    assert "1 from variables" in said[0]
    assert "DRAIN_SECOND is no setting" in said[1]
    (tmp_path / "resonantgenesis.toml").write_text("ports = 9000\n")
    outcome = cli("doctor", "--data", str(data), "--json", "--patience", "1")
    level, message, _ = told(outcome)["configuration"]
    assert (level, outcome.code) == ("FAIL", 1)
    assert "did you mean port?" in message
    assert "store" in told(outcome)  # the rest is looked at all the same


def test_stores_of_a_newer_version(cli: Cli, data: Path) -> None:
    create_or_check(data / "log.db", "epoch")
    with sqlite3.connect(data / "log.db") as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    outcome = cli("doctor", "--data", str(data), "--json", "--patience", "1")
    level, message, _ = told(outcome)["store"]
    assert (level, outcome.code) == ("FAIL", 1)
    assert "this program reads up to" in message
    (data / "log.db").unlink()
    with sqlite3.connect(data / "records.db") as db:
        db.execute("CREATE TABLE alembic_version (version_num TEXT)")
        db.execute("INSERT INTO alembic_version VALUES ('r9999')")
    message = told(cli("doctor", "--data", str(data), "--json", "--patience", "1"))["store"][1]
    assert "r9999" in message


def test_a_damaged_store(cli: Cli, data: Path) -> None:
    for name in ("log.db", "records.db"):
        (data / name).write_bytes(b"no database" * 1000)
        level, message, _ = told(cli("doctor", "--data", str(data), "--json"))["store"]
        assert level == "FAIL"
        assert name in message
        (data / name).unlink()


def test_a_directory_that_cannot_be_written(
    cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = data / "file"
    file.write_text("")
    outcome = cli("doctor", "--data", str(file), "--json", "--patience", "1")
    assert told(outcome)["store"][0] == "FAIL"
    assert outcome.code == 1


def test_a_disk_that_is_slow_or_full(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_SLOW_SYNC", 0.0)
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda _: Usage(1, 1, 100 << 20))
    found = told(cli("doctor", "--data", str(data), "--json", "--patience", "1"))
    assert found["disk"][0] == "WARN"
    assert found["space"][0] == "WARN"
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda _: Usage(1, 1, 1 << 20))
    outcome = cli("doctor", "--data", str(data), "--json", "--patience", "1")
    assert (told(outcome)["space"][0], outcome.code) == ("FAIL", 1)


def test_a_clock_that_was_set_back(cli: Cli, data: Path) -> None:
    create_or_check(data / "log.db", "epoch")
    later = time.time() + 3600
    os.utime(data / "log.db", (later, later))
    found = told(cli("doctor", "--data", str(data), "--json", "--patience", "1"))
    assert found["clock"][0] == "WARN"


def test_open_files_against_the_cap(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    found = told(cli("doctor", "--data", str(data), "--json", "--patience", "1"))
    assert found["open files"][0] == "WARN"
    monkeypatch.setenv("RESONANTGENESIS_LIMITS__CONNECTIONS", "5000")
    outcome = cli("doctor", "--data", str(data), "--json", "--patience", "1")
    level, message, todo = told(outcome)["open files"]
    assert (level, outcome.code) == ("FAIL", 1)
    assert "5000" in message
    assert "ulimit" in todo


def test_a_server_on_this_machine(cli: Cli, real: RealServer) -> None:
    outcome = cli("doctor", "--data", str(real.data), "--url", real.url, "--json")
    found = told(outcome)
    assert {check: level for check, (level, _, _) in found.items()} == dict.fromkeys(found, "OK")
    assert "in use" in found["store"][1]
    assert "each as it is sent" in found["stream"][1]
    assert "the server has" in found["open files"][1]
    assert outcome.code == 0
    wrong = cli("doctor", "--key", "wrong-key-0123456789", "--url", real.url, "--json")
    level, _, todo = told(wrong)["stream"]
    assert (level, wrong.code) == ("FAIL", 1)
    assert "events:read" in todo


def test_lines_for_people_with_colour_on_a_terminal_only(cli: Cli, data: Path) -> None:
    plain = cli("doctor", "--data", str(data), "--patience", "1").out
    assert plain.startswith("OK    configuration  ")
    assert "\n                     -> " in plain
    assert "\x1b" not in plain
    with Process("doctor", "--data", str(data), "--patience", "1", terminal=True) as shown:
        shown.wait()
        assert "\x1b[32mOK" in shown.out


def test_files_that_other_machines_do_not_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(machines: set[str], **settings: str) -> list[str]:
        report = StoreReport((), (), machines=frozenset(machines))
        monkeypatch.setattr(doctor_machine.stores, "check", lambda _settings: report)
        made = Settings(data=tmp_path, store="postgresql:///x", **settings)
        return [
            each.next for each in doctor_machine.store(made) if "other machines" in each.message
        ]

    assert found({"a"}) == []
    assert len(found({"a", "b"})) == 1
    assert found({"a", "b"}, files=str(tmp_path)) == []


def test_a_health_check_is_0_or_1(
    cli: Cli, fake: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, port = fake.url, int(fake.url.rpartition(":")[2])
    monkeypatch.delenv("RESONANTGENESIS_BASE_URL")
    # On all addresses, as in a container.
    (tmp_path / "resonantgenesis.toml").write_text(f"host = '0.0.0.0'\nport = {port}\n")
    for arguments in ((), ("--url", url)):
        fake.always = lambda _: Reply(200)
        assert cli("doctor", "--healthcheck", *arguments) == Outcome(0, "", "")
        assert fake.seen[-1].path == "/livez"
        fake.always = lambda _: Reply(503)
        got = cli("doctor", "--healthcheck", *arguments)
        assert (got.code, got.err) == (1, f"({url}/livez answers 503)\n")
    got = cli("doctor", "--healthcheck", "--url", "http://127.0.0.1:1")
    assert got.code == 1 and "does not answer" in got.err
