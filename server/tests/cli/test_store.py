"""`resonantgenesis store`, on both kinds of store."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from cli_process import Cli
from resonantgenesis_server.datadir.lock import lock_data
from resonantgenesis_server.records.credentials import load_secrets


@pytest.fixture(params=["embedded", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """Options that name a store which is not there yet."""
    if request.param == "embedded":
        return "--data", str(tmp_path / "data")
    return "--store", request.getfixturevalue("postgres")


def test_a_store_is_made_once_and_checked(cli: Cli, where: tuple[str, ...]) -> None:
    missing = cli("store", "check", *where)
    assert missing.code == 1
    assert "resonantgenesis store init" in missing.err and missing.err.count("\n") == 1
    made = cli("store", "init", *where)
    assert made.code == 0 and made.out.startswith("the store is made (revision ")
    for command in ("init", "upgrade"):
        again = cli("store", command, *where)
        assert again.code == 0 and "newest version already" in again.out
    checked = cli("store", "check", *where)
    assert checked.code == 0 and checked.out.startswith("records: revision ")


def test_what_a_commit_survives_is_said(cli: Cli, postgres: str) -> None:
    cli("store", "init", "--store", postgres)
    checked = cli("store", "check", "--store", postgres)
    assert "log: version 2; commits are none: the database may lose everything" in checked.out
    assert "nodes: 0 alive" in checked.out and "a commit takes " in checked.out
    assert "warning: the database runs with fsync or full_page_writes off" in checked.out


def test_a_database_that_cannot_be_used_is_one_line(cli: Cli, postgres: str) -> None:
    url = postgres.replace("postgres@/", "postgres:secret-word@/none_")
    for command in ("init", "upgrade", "check"):
        refused = cli("store", command, "--store", url)
        assert refused.code == 1
        assert "the database does not exist" in refused.err and refused.err.count("\n") == 1
        assert "secret-word" not in refused.err


def test_a_database_that_is_not_there_is_named(cli: Cli) -> None:
    with socket.socket() as held:  # bound, and nobody listens
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        for command in ("init", "upgrade", "check"):
            url = f"postgresql://postgres:secret-word@127.0.0.1:{port}/d"
            refused = cli("store", command, "--store", url)
            assert refused.code == 4
            assert str(port) in refused.err and "RESONANTGENESIS_STORE" in refused.err
            assert "secret-word" not in refused.err and refused.err.count("\n") == 1


def test_a_store_in_use_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    with lock_data(tmp_path / "data"):
        refused = cli("store", "upgrade", "--data", str(tmp_path / "data"))
    assert refused.code == 2 and "in use by another server" in refused.err


def test_a_store_is_copied_and_what_to_set_is_said(cli: Cli, tmp_path: Path, postgres: str) -> None:
    old = tmp_path / "old"
    assert cli("store", "init", "--data", str(old)).code == 0
    load_secrets(old / "secret")  # as the first start does
    done = cli("store", "copy", f"sqlite:{old}", postgres)
    assert done.code == 0, done.err
    assert done.out.startswith("copied and compared 0 streams, 0 entries and ")
    assert f"RESONANTGENESIS_SECRET_FILE={old / 'secret'}" in done.out
    assert "entries: 0 of 0" in done.err
    wrong = cli("store", "copy", "mysql:x", postgres)
    assert wrong.code == 2 and "neither like sqlite:DIR" in wrong.err
    missing = cli("store", "copy", f"sqlite:{tmp_path / 'none'}", postgres)
    assert missing.code == 1 and "there is no store in" in missing.err
