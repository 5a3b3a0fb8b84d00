"""The data directory: private whatever the umask, and kept out of git."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from resonantgenesis_server.datadir import lock as data_lock
from resonantgenesis_server.datadir.lock import lock_data
from resonantgenesis_server.logging.startup import StartupError


@pytest.fixture(params=[0o000, 0o022, 0o777 & ~0o700])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_what_it_makes_is_private(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b" / "data"
    with lock_data(data):
        assert [mode(each) for each in (data, data.parent, data.parent.parent)] == [0o700] * 3
        assert {mode(each) for each in data.iterdir()} == {0o600}


def test_what_was_open_is_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o750)
    (data / "files").mkdir()
    (data / "mine").touch()
    for name in ("api-key", "log.db", "log.db-wal", "records.db"):
        (data / name).touch()
        (data / name).chmod(0o666)
    for name, given in (("files", 0o777), ("mine", 0o644)):
        (data / name).chmod(given)
    with lock_data(data):
        assert mode(data / "files") == 0o700
        assert {mode(data / name) for name in ("api-key", "log.db", "log.db-wal")} == {0o600}
        assert mode(data / "mine") == 0o644  # not ours
        assert mode(data) == 0o750  # somebody may have chosen it


def test_one_server_at_a_time(tmp_path: Path) -> None:
    with lock_data(tmp_path), pytest.raises(StartupError, match="in use"), lock_data(tmp_path):
        pass
    with lock_data(tmp_path):
        pass


@pytest.mark.parametrize("exists", [False, True])
def test_git_sees_nothing_of_it(tmp_path: Path, exists: bool) -> None:
    data = tmp_path / "data"
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    if exists:
        data.mkdir()
    with lock_data(data):
        (data / "api-key").write_text("key")
    seen = subprocess.run(
        ["git", "-C", tmp_path, "status", "--porcelain", "-uall"], check=True, capture_output=True
    )
    assert seen.stdout == b""
    assert (data / ".gitignore").read_text().splitlines()[-1] == "*"


def test_a_project_that_is_the_data_directory_keeps_its_files_in_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q", "."], check=True)
    (tmp_path / "agent.py").touch()
    with lock_data(Path()):
        for name in ("api-key", "secret", "log.db-wal", "records.db", ".api-key.0123"):
            (tmp_path / name).touch()
    seen = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], check=True, capture_output=True
    )
    assert seen.stdout.split() == [b"??", b"agent.py"]


def test_a_gitignore_of_the_users_own_stays(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    with lock_data(tmp_path):
        assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_the_directory_itself_is_synced_at_every_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power takes all of it, whatever was synced in it."""
    synced: list[Path] = []
    monkeypatch.setattr(data_lock, "sync_directory", synced.append)
    data = tmp_path / "a" / "b" / "data"
    with lock_data(data):
        assert sorted(synced) == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    synced.clear()
    with lock_data(data):  # the one before may have died in between
        assert synced == [data.parent]
