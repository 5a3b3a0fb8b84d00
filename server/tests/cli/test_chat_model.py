"""A conversation with a model, from nothing but its name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import Cli, Process, RealServer, is_ready
from resonantgenesis_server.cli.nearby import free_port

# What all suites share; see tests/conftest.py.
sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from support.models import Call, FakeProvider, Reply


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def test_it_starts_a_server_makes_an_agent_talks_and_leaves_nothing(
    provider: FakeProvider, tmp_path: Path
) -> None:
    call = Call("calculator", {"expression": "6*7"})
    provider.answer(
        "llama3.2", Reply.saying("Let me see.", calls=[call]), Reply.saying("It is 42.\n")
    )
    url = f"http://127.0.0.1:{free_port(0)}"
    variables = {
        "RESONANTGENESIS_BASE_URL": url,
        "OLLAMA_BASE_URL": provider.url,
        "TMPDIR": str(tmp_path),
    }
    with Process("chat", "--model", "ollama:llama3.2", **variables) as chat:
        chat.say("What is 6 times 7?\n")
        chat.wait_for("It is 42.")
        chat.say("Are you sure?\n")
        chat.wait_for("It is 42.", chat.out.index("It is 42.") + 1)
        chat.close_input()
        assert chat.wait() == 0
    assert "→ calculator(" in chat.out
    remembered = [message["content"] for message in provider.seen[2].body["messages"]]
    said = ["Let me see.", '{"expression":"6*7","result":42}', "It is 42.\n"]
    assert remembered[-5:] == ["What is 6 times 7?", *said, "Are you sure?"]
    assert not is_ready(url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_key_it_says_which_variable_to_set(tmp_path: Path) -> None:
    variables = {
        "RESONANTGENESIS_BASE_URL": f"http://127.0.0.1:{free_port(0)}",
        "TMPDIR": str(tmp_path),
        "OPENAI_API_KEY": "",
    }
    with Process("chat", "--model", "openai:gpt-5-mini", **variables) as chat:
        assert chat.wait() == 2
    assert "no key for openai: set OPENAI_API_KEY" in chat.out


def test_a_server_that_runs_is_used_and_one_agent_serves_every_conversation(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.answer("m", Reply.saying("Hello.\n"))
    monkeypatch.setenv("OLLAMA_BASE_URL", provider.url)
    with RealServer(tmp_path / "data") as server:
        for _ in range(2):
            with Process("chat", "--model", "ollama:m", "--no-tools", **server.environment) as chat:
                chat.say("hi\n")
                chat.wait_for("Hello.")
                chat.close_input()
                assert chat.wait() == 0
        with Process("agents", "list", **server.environment) as listed:
            assert listed.wait() == 0
        with Process("sessions", "list", **server.environment) as sessions:
            assert sessions.wait() == 0
    assert "tools" not in provider.seen[0].body
    assert listed.out.count("chat-ollama-m-without-tools-") == 1
    assert sessions.out.count("chat-ollama-m-without-tools-") == 2


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ({}, "no key for the server at {url}: set RESONANTGENESIS_API_KEY, or name its data"),
        ({"RESONANTGENESIS_API_KEY": "of-another"}, "{url} does not take the key here; set"),
    ],
)
@pytest.mark.parametrize("by_option", [False, True])
def test_a_server_that_was_named_is_not_exchanged_for_one_of_its_own(
    real: RealServer, tmp_path: Path, key: dict[str, str], says: str, by_option: bool
) -> None:
    named = {} if by_option else {"RESONANTGENESIS_BASE_URL": real.url}
    arguments = ["--url", real.url] if by_option else []
    variables = {"RESONANTGENESIS_DATA": str(tmp_path), "TMPDIR": str(tmp_path), **named, **key}
    with Process("chat", "--model", "ollama:m", *arguments, **variables) as chat:
        assert chat.wait() == 3
    assert says.format(url=real.url) in chat.out
    assert "Starting a server" not in chat.out


def test_what_cannot_be_meant_together(cli: Cli) -> None:
    for arguments in (("guide", "--model", "a:b"), ("--model", "a:b", "--session", "s")):
        outcome = cli("chat", *arguments)
        assert outcome.code == 2
        assert "name either an agent, or a --model, or a --session" in outcome.err
