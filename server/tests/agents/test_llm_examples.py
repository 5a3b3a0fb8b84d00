"""The examples with models, as a reader would run them, on the provider of the tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.models import Call, FakeProvider, Reply
from support.server import KEY, ServerProcess

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def server(provider: FakeProvider, tmp_path: Path) -> Iterator[ServerProcess]:
    """As its configuration says, but for the address of the model."""
    configured = tomllib.loads((EXAMPLES / "local_model" / "resonantgenesis.toml").read_text())
    names = dict.fromkeys(configured["llm"]["base_urls"], provider.url)
    running = ServerProcess(tmp_path / "data", llm__base_urls=json.dumps(names))
    yield running.start()
    running.stop()
    assert running.errors() == []


def run(server: ServerProcess, script: str, *arguments: str) -> str:
    path = EXAMPLES / script
    done = subprocess.run(
        [sys.executable, path.name, *arguments],
        cwd=path.parent,
        env={
            **os.environ,
            "RESONANTGENESIS_BASE_URL": server.url,
            "RESONANTGENESIS_API_KEY": KEY,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_local_model(provider: FakeProvider, server: ServerProcess) -> None:
    call = Call("calculator", {"expression": "2**10"})
    provider.answer("qwen3", Reply.saying("Well.", calls=[call]), Reply.saying("It is 1024."))
    said = run(server, "local_model/ask.py", "local:qwen3", "What is 2 to the 10th?")
    assert "[calculator {'expression': '2**10'}]" in said
    assert "It is 1024." in said
    assert re.search(r"14 tokens, session sess_\w+", said)
    assert "Answer in three sentences." in str(provider.seen[0].body["messages"])


def test_conversation(provider: FakeProvider, server: ServerProcess) -> None:
    provider.answer("m", Reply.saying("You are Alice."), Reply.saying("You read English."))
    said = run(server, "conversation/conversation.py", "local:m", "Who am I?", "Which language?")
    assert said.split("\n\n") == [
        "You: Who am I?\nAgent: You are Alice.",
        "You: Which language?\nAgent: You read English.",
        "",
    ]
    system, *rest = provider.seen[1].body["messages"]
    assert '"user_name":"Alice"' in system["content"]
    assert [message["content"] for message in rest] == [
        "Who am I?",
        "You are Alice.",
        "Which language?",
    ]


def test_the_files_say_how_they_are_run() -> None:
    for name in ("agent_20_lines", "local_model", "conversation"):
        readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert all(path.name in readme for path in (EXAMPLES / name).glob("*.py"))
