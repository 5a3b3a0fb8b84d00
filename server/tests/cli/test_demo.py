"""The first thing a newcomer sees: it works by itself, leaves nothing behind, and what it prints
can be pasted."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from cli_process import Process, RealServer, is_ready
from resonantgenesis_server.cli.nearby import free_port

FAST = {"RESONANTGENESIS_WORDS_PER_SECOND": "0"}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_in_a_pipe_it_answers_and_ends(tmp_path: Path) -> None:
    port = free_port(0)
    with Process("demo", "--port", str(port), TMPDIR=str(tmp_path), **FAST) as demo:
        assert demo.wait() == 0
    for expected in ("→ calculator(", "→ docs_search(", "= 300\n", "success, 3 steps"):
        assert expected in demo.out
    assert re.search(r"session sess_\w+, turn 1, positions 1 to \d+\n", demo.out)
    assert re.search(r"\(`[^`{]+ demo --keep` keeps the server running for it\)", demo.out)
    assert is_free(port)
    assert list(tmp_path.iterdir()) == []


def test_what_it_prints_can_be_pasted(tmp_path: Path) -> None:
    port = free_port(0)
    data = tmp_path / "with space"
    arguments = ["--port", str(port), "--data", str(data), "--keep", "count to 30"]
    with Process("demo", *arguments, **FAST) as demo:
        demo.wait_for("until Ctrl-C.")
        exports = re.findall(r"^  (export .*)$", demo.out, re.MULTILINE)
        commands = re.findall(r"^  (curl (?:.*\\\n)?.*)$", demo.out, re.MULTILINE)
        assert (len(exports), len(commands)) == (2, 5)
        script = "\n".join(["set -e", *exports, *commands])
        got = subprocess.run(
            ["bash", "-c", script], check=False, capture_output=True, text=True, timeout=30
        )
        assert got.returncode == 0, got.stderr
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
    assert f"a WebSocket at ws://127.0.0.1:{port}/v1/ws carries the same\n" in demo.out
    assert re.search(r"^  \S.* events tail$", demo.out, re.MULTILINE)
    assert '"error"' not in got.stdout
    # A turn of its own, the session from its start and from its middle, the poll, the cancel.
    assert got.stdout.count("event: done\n") == 3
    assert got.stdout.count("id: 1\n") == 2
    assert '"done":true}' in got.stdout
    assert '"cancelled":[]' in got.stdout
    assert is_free(port)
    assert (data / "api-key").exists()
    assert (data / "api-key").read_text().strip() not in (data / "demo-server.log").read_text()


def test_on_a_terminal_the_server_stays_until_ctrl_c(tmp_path: Path) -> None:
    port = free_port(0)
    arguments = ["--port", str(port), "What is 6 * 7?"]
    with Process("demo", *arguments, terminal=True, TMPDIR=str(tmp_path), **FAST) as demo:
        demo.wait_for("until Ctrl-C.")
        assert is_ready(f"http://127.0.0.1:{port}")
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
    assert is_free(port)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_runs_is_asked_and_left_running(real: RealServer) -> None:
    with Process("demo", "What is 6 * 7?", **real.environment) as demo:
        assert demo.wait() == 0
    assert f"Asking the server that runs at {real.url}." in demo.out
    assert "= 42\n" in demo.out
    assert is_ready(real.url)


def test_a_server_of_somebody_else_is_not_in_the_way(real: RealServer) -> None:
    variables = {**real.environment, **FAST, "RESONANTGENESIS_API_KEY": "not-a-key-of-this-one"}
    with Process("demo", "What is 6 * 7?", **variables) as demo:
        assert demo.wait() == 0
    assert "not with a key that is known here" in demo.out
    assert "Starting a server at " in demo.out
    assert "= 42\n" in demo.out
    assert is_ready(real.url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_its_server_however_it_is_ended(tmp_path: Path, number: int) -> None:
    port = free_port(0)
    arguments = ["--port", str(port), "count to 1000000"]
    with Process("demo", *arguments, TMPDIR=str(tmp_path), **FAST) as demo:
        demo.wait_for("1 2 3 ")
        demo.signal(number)
        assert demo.wait() == 128 + number
    assert is_free(port)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "records.db").write_text("this is no database, whatever its name says")
    with Process("demo", "--port", str(free_port(0)), "--data", str(tmp_path / "data")) as demo:
        assert demo.wait() == 1
    assert "the server did not start: " in demo.out
    assert "file is not a database" in demo.out


def test_a_port_that_was_asked_for_and_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Process("demo", "--port", str(port)) as demo:
            assert demo.wait() == 1
    assert f"port {port} is taken" in demo.out
