"""The examples of tools, as a reader would run them, with a model of the tests."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.models import Call, FakeProvider, Reply
from support.server import ServerProcess, bearer

EXAMPLES = Path(__file__).parents[4] / "examples"
Ask = Callable[..., tuple[list[dict[str, Any]], str]]


@pytest.fixture
def ask(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Runs the server in a copy of an example's directory and an agent of its tools there: what
    they gave, and the model's last words."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with ExitStack() as stack:

        def run(
            example: str, tools: list[str], calls: list[Call], **more: Any
        ) -> tuple[list[dict[str, Any]], str]:
            place = tmp_path / example
            shutil.copytree(EXAMPLES / example, place)
            urls = json.dumps({"local": provider.url})
            server = ServerProcess(place / "data", log=place / "log", llm__base_urls=urls)
            stack.callback(server.stop)
            server.start()
            provider.answer("m", *(Reply(calls=[call]) for call in calls), Reply.saying("Done."))
            with httpx.Client(base_url=server.url, headers=bearer(), timeout=30) as client:
                agent = {"id": "a", "name": "A", "engine": "llm", "model": "local:m"}
                made = client.post("/v1/agents", json={**agent, "tools": tools})
                assert made.status_code == 201, made.text
                body = {"agent_id": "a", "goal": "Please.", **more}
                done = client.post("/v1/sessions/execute", json=body).json()
                page = client.get(f"/v1/sessions/{done['session_id']}/events", params={"after": 0})
            assert done["status"] == "success", server.log
            events = page.json()["events"]
            return [event for event in events if event["type"] == "tool_result"], done["output"]

        yield run


def test_own_tools(ask: Ask) -> None:
    calls = [
        Call("order_status", {"order": "A-17"}),
        Call("order_status", {"order": "B-5"}),
        Call("delivery_days", {"country": "NO", "express": True}),
        Call("delivery_days", {"country": "DE"}),
    ]
    results, said = ask("own_tools", ["order_status", "delivery_days"], calls, subject="ann")
    assert [(result["result"], result["is_error"]) for result in results[:3]] == [
        ({"order": "A-17", "status": "on its way"}, False),
        ("there is no order B-5", True),
        (1, False),
    ]
    assert results[3]["is_error"]
    assert "country: Input should be 'IS', 'NO' or 'SE'" in results[3]["result"]
    assert said == "Done."


def test_mcp_server(ask: Ask) -> None:
    calls = [
        Call("notes__add_note", {"text": "The key is under the mat."}),
        Call("notes__add_note", {"text": "Water the plants."}),
        Call("notes__find_notes", {"word": "KEY"}),
    ]
    results, said = ask("mcp_server", ["notes__*"], calls)
    assert [result["result"] for result in results] == [1, 2, ["The key is under the mat."]]
    assert said == "Done."


def test_the_files_say_how_they_are_run() -> None:
    for name in ("own_tools", "mcp_server"):
        readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert all(path.name in readme for path in (EXAMPLES / name).glob("*.py"))
        assert "resonantgenesis serve" in readme
