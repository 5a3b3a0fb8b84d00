"""The commands, called in process against a server of the tests' own, or as processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The test folders are no packages (this one would be taken for the command line's own).
sys.path.insert(0, str(Path(__file__).parent))

from cli_fake import KEY, FakeServer
from cli_process import Cli, Outcome, RealServer
from resonantgenesis._core.retry import Backoff
from resonantgenesis_server.cli import main, nearby
from resonantgenesis_server.cli.doctor import command as doctor

NOBODY = "http://127.0.0.1:1"


def _short_delay(self: Backoff, failures: int, *, floor: float = 0.0, rng: object = None) -> float:
    """Milliseconds on top of what the server asks for."""
    return floor + 0.001


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("RESONANTGENESIS_") or name in {"NO_COLOR", "FORCE_COLOR", "CI"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Backoff, "delay", _short_delay)
    # Where nobody listens, whatever runs on the machine that tests.
    for module in (doctor, nearby):
        monkeypatch.setattr(module, "DEFAULT_URL", NOBODY)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A scripted server that the commands find by their variables."""
    with FakeServer() as server:
        monkeypatch.setenv("RESONANTGENESIS_BASE_URL", server.url)
        monkeypatch.setenv("RESONANTGENESIS_API_KEY", KEY)
        yield server


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command, e.g. `cli("sessions", "list")`."""

    def run(*arguments: str) -> Outcome:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """The server itself, as a process; the tests of a module share it and leave it running."""
    with RealServer(tmp_path_factory.mktemp("real") / "data") as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RealServer]:
    """A server that the test may kill."""
    with RealServer(tmp_path / "own") as server:
        yield server
