"""`serve` as people start it, and what it says when it cannot."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest
from cli_process import Process, RealServer, wait_until_ready
from resonantgenesis_server.cli.nearby import free_port

#: Each is large, and needed by some servers only, or by their first request of a kind.
LATE = {
    "aiohttp",
    "alembic",
    "asyncpg",
    "cryptography",
    "jsonschema",
    "jwt",
    "lxml",
    "mcp",
    "openai",
    "pydantic_ai",
    "resonantgenesis",
    "resonantgenesis_server.agents.engines.llm.engine",
    "sqlalchemy.dialects.postgresql",
}


def test_a_plain_server_imports_only_what_it_needs(tmp_path: Path) -> None:
    port = free_port(0)
    arguments = ["--port", str(port), "--data", str(tmp_path / "d")]
    with Process("serve", *arguments, PYTHONPROFILEIMPORTTIME="1") as serve:
        wait_until_ready(f"http://127.0.0.1:{port}", serve)
        serve.signal(signal.SIGTERM)
        assert serve.wait() == 0
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", serve.out, re.MULTILINE))
    assert "resonantgenesis_server.serve" in imported
    assert not imported & LATE


@pytest.mark.parametrize("terminal", [True, False])
def test_the_first_start_shows_its_key_once_on_a_terminal(tmp_path: Path, terminal: bool) -> None:
    port, path = free_port(0), tmp_path / "d" / "api-key"
    for is_first in (True, False):
        arguments = ["--port", str(port), "--data", str(tmp_path / "d")]
        with Process("serve", *arguments, terminal=terminal) as serve:
            wait_until_ready(f"http://127.0.0.1:{port}", serve)
            serve.signal(signal.SIGTERM)
            assert serve.wait() == 0
        # What is no terminal keeps what it is told.
        assert serve.out.count(path.read_text().strip()) == (is_first and terminal)
        assert (str(path) in serve.out) == is_first
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_key_can_be_chosen(tmp_path: Path) -> None:
    data = tmp_path / "d"
    chosen = {"RESONANTGENESIS_BOOTSTRAP_KEY": "chosen-by-a-person-1"}
    port = str(free_port(0))
    with Process("serve", "--port", port, "--data", str(data), **chosen) as serve:
        serve.wait_for("serving")
        with Process("agents", "list", "--url", f"http://127.0.0.1:{port}", **chosen) as listed:
            assert listed.wait() == 0
        assert listed.out.startswith("guide\t")
    assert "chosen-by-a-person-1" not in serve.out


def test_an_agent_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_agent.py").write_text("def answer(turn):\n    yield f'You: {turn.goal}'\n")
    monkeypatch.chdir(tmp_path)
    url = f"http://127.0.0.1:{(port := free_port(0))}"
    with Process("serve", "--port", str(port), "--agent", "mine=my_agent:answer") as serve:
        serve.wait_for("serving")
        with Process("chat", "mine", "--url", url) as chat:
            chat.say("hello\n")
            chat.close_input()
            assert chat.wait() == 0
    assert "You: hello\n" in chat.out


def test_what_a_file_names_is_looked_for_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "app", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    (folder / "beside_agent.py").write_text(
        "import beside_tools\n\ndef answer(turn):\n    yield beside_tools.shout(turn.goal)\n"
    )
    (folder / "beside_tools.py").write_text(
        "def shout(text: str) -> str:\n    'Loud.'\n    return text.upper()\n"
    )
    port = free_port(0)
    config = folder / "resonantgenesis.toml"
    config.write_text(
        f'port = {port}\n[agents]\nmine = "beside_agent:answer"\n'
        '[tools.functions]\nshout = "beside_tools:shout"\n'
    )
    monkeypatch.chdir(elsewhere)
    with Process("serve", "--config", "../app/resonantgenesis.toml") as serve:
        serve.wait_for("serving")
        with Process("chat", "mine", "--url", f"http://127.0.0.1:{port}") as chat:
            chat.say("hello\n")
            chat.close_input()
            assert chat.wait() == 0
    assert "HELLO\n" in chat.out
    (folder / "beside_agent.py").unlink()
    with Process("serve", "--config", str(config)) as serve:
        assert serve.wait() == 2
    assert str(folder) in serve.out and str(elsewhere) in serve.out


def test_what_keeps_it_from_starting_is_one_line_and_2(real: RealServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = [
        (["--port", str(real.port)], "cannot listen on 127.0.0.1"),
        (["--port", "0", "--data", str(real.data)], "is in use by another server"),
        (["--port", "0", "--data", str(tmp_path / "file" / "below")], "cannot write to"),
        (["--port", "0", "--agent", "x=no_such_module:f"], "no_such_module"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
    ]
    for arguments, says in cases:
        with Process("serve", *arguments) as serve:
            assert serve.wait() == 2, serve.out
        # Before it there may be the key of a first start, and nothing else.
        *before, last = serve.out.splitlines()
        assert last.startswith("resonantgenesis: ") and says in last, serve.out
        assert all(line.startswith("API key ") for line in before), serve.out


def test_only_the_address_asked_for_is_bound(real: RealServer) -> None:
    with socket.create_server(("127.0.0.2", real.port)):
        pass
