"""LangGraph's own SDKs, unmodified, with this server in the place of LangGraph's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.credentials import sync_client
from support.node import run_client, run_page
from support.server import KEY, ServerProcess, bearer

ROOT = Path(__file__).resolve().parents[2]
#: LangGraph's SDK for Python stands beside LangGraph.
PYTHON = ROOT / ".venv-frameworks" / "bin" / "python"


@pytest.fixture(scope="module")
def found(server: ServerProcess) -> dict[str, Any]:
    return run_client("langgraph.mjs", server)


def test_a_whole_run_with_a_tool_call(found: dict[str, Any]) -> None:
    assert found["assistant"] == ["guide", "guide"]
    whole = found["whole"]
    assert whole["events"][:2] == ["metadata", "values"]
    assert {"messages", "updates", "custom"} < set(whole["events"])
    assert whole["nodes"] == ["agent", "tools", "agent"]
    assert whole["types"] == ["human", "ai", "tool", "ai"]
    assert "= 30" in whole["text"] and whole["same"] and whole["created"]
    assert whole["run"] == "success"


def test_a_thread_has_state_history_and_runs(found: dict[str, Any]) -> None:
    assert found["state"] == {
        "last": ["ai", "1 2 3"],
        "messages": 6,
        "history": [6, 4],
        "parents": True,
        "found": [[True, "idle", "What is 12% of 250?"]],
        "runs": ["success", "success"],
    }
    assert found["copy"] == 6


def test_a_cut_anywhere_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    whole = [["human", "count to 4"], ["ai", "1 2 3 4"]]
    assert len(found["cuts"]) > 14
    assert all(each == [True, ["1 2 3 4"], whole, True] for each in found["cuts"])


def test_a_reload_in_mid_answer_goes_on(found: dict[str, Any]) -> None:
    assert found["reload"] == [300, True]
    assert found["other_modes"] is True, "an event's id means the same with other modes"


def test_a_cancel_ends_the_run_for_both_tabs(found: dict[str, Any]) -> None:
    assert found["cancel"] == ["interrupted", True, "UserInterrupt"]


def test_two_tabs_make_one_thread(found: dict[str, Any]) -> None:
    assert found["tabs"] == [[2, 4], 4]
    # A run that waited shows the answer before it, which was not whole when it began to wait.
    assert found["queued"] == [["human", 1], ["ai", 21], ["human", 1], ["ai", 21]]


def test_failures_show_as_failures(found: dict[str, Any]) -> None:
    event, message, status, waited = found["failed"]
    assert (event, message, status) == ("error", "the shop is closed", "error")
    assert waited == "AGENT_FAILED: the shop is closed"
    assert found["refusals"] == [401, 404, 404, 422]


def test_interrupts_are_answered(found: dict[str, Any]) -> None:
    asked = ["refund", ["agent"], True, False]
    assert found["interrupts"] == [
        [*asked, ["Looking. ", "paid", "Paid."], "idle"],
        [*asked, ["Looking. ", "denied", "Not paid."], "idle"],
    ]


def test_use_stream_in_a_page(server: ServerProcess) -> None:
    page = run_client("langgraph_react.mjs", server)
    assert page["whole"] == [["human", "count to 3"], ["ai", "1 2 3"]]
    assert page["asked"] == "refund" and page["answered"] == "Paid."
    assert page["reload"] == [["human", "ai"], True]
    assert "the shop is closed" in page["failed"]


@pytest.fixture(scope="module")
def threads(server: ServerProcess) -> dict[str, Any]:
    return run_client("langgraph_threads.mjs", server)


def test_a_thread_streams_whole_runs(threads: dict[str, Any]) -> None:
    whole = threads["whole"]
    assert whole["types"] == ["human", "ai", "tool", "ai"] and whole["status"] == "success"
    assert whole["call"] == ["calculator", 30] and whole["texts"][-1] == whole["last"]
    assert threads["again"] == ["human", "ai", "tool", "ai", "human", "ai"]


def test_a_cut_of_a_threads_stream_loses_and_doubles_nothing(threads: dict[str, Any]) -> None:
    words = "".join(f"word-{number:06d} " for number in range(1, 9))
    assert len(threads["cuts"]) == 12
    assert all(
        each[:2] == [[words], [["human", "word"], ["ai", words]]] for each in threads["cuts"]
    )
    assert sum(again for _, _, again in threads["cuts"]) >= 10, "a stream was opened again"


def test_a_threads_run_is_cancelled_fails_and_is_refused(threads: dict[str, Any]) -> None:
    assert threads["cancel"] == [["running", "text", "interrupted"], True, 0, "interrupted"]
    assert threads["failed"] == ["failed", "the shop is closed"]
    assert threads["refusals"] == [
        401, "no_such_run", "invalid_argument", "invalid_argument", "no_such_interrupt",
        "not_supported",
    ]  # fmt: skip


def test_what_is_said_to_a_threads_run_stands_where_it_was_heard(threads: dict[str, Any]) -> None:
    """In the page that says it, in another page, and in the state."""
    before = [["human", "go"], ["ai", ""], ["tool", "done"], ["ai", "Turn 1. "]]
    whole = [*before, ["human", "hurry"], ["ai", "You said: hurry."]]
    shown, late = threads["injected"]
    assert shown == [whole] * 3 and late[0] == "no_such_run"


def test_a_threads_interrupt_is_answered_from_another_page(threads: dict[str, Any]) -> None:
    seen = ["running", "input.requested", "interrupted", "input.answered", "running", "completed"]
    said = [["human", "o"], ["ai", "Looking. "]]
    assert threads["interrupts"] == [
        ["refund", 2, seen, [*said, ["tool", "paid"], ["ai", "Paid."]]],
        ["refund", 2, seen, [*said, ["tool", "denied"], ["ai", "Not paid."]]],
    ]


def test_the_newer_use_stream_in_a_page(server: ServerProcess) -> None:
    page = run_client("langgraph_use_stream.mjs", server)
    messages, calls = page["whole"]
    assert [kind for kind, _ in messages] == ["human", "ai", "tool", "ai"]
    assert calls == ["calculator"] and "= 30" in messages[-1][1]
    assert page["second"] == [["human", "count to 3"], ["ai", "1 2 3"]]
    assert page["interrupt"] == ["refund", ["human", "ai", "tool", "ai"], 0]
    assert page["reload"] == [["human", "ai"], True], "the text goes on growing"
    assert page["stopped"] == [True, True]
    assert page["cuts"] == [[True, ["human", "ai"]]] * 5
    assert page["failed"] == ["Error: the shop is closed", False]


def test_the_python_sdk(server: ServerProcess) -> None:
    given = json.dumps({"base": server.url, "key": KEY})
    program = Path(__file__).with_name("langgraph_client.py")
    ended = subprocess.run(
        [PYTHON, program], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["whole"] == ["success", "1 2 3 4", "1 2 3 4"]
    assert all(each == ["1 2 3 4", True] for each in found["cuts"]) and len(found["cuts"]) == 5
    assert found["interrupt"] == ["refund", "Paid."]
    assert found["refused"] == ["AuthenticationError", "ConflictError", "NotFoundError"]
    assert found["failed"] == "the shop is closed"


def test_a_run_that_is_sent_again_with_its_key_joins(server: ServerProcess) -> None:
    body = {"assistant_id": "guide", "input": {"messages": "count to 2"}}
    with sync_client(server, headers={**bearer(), "Idempotency-Key": "once"}) as client:
        first, again = (client.post("/langgraph/runs", json=body).json() for _ in range(2))
    assert [first[name] for name in ("run_id", "thread_id")] == [
        again[name] for name in ("run_id", "thread_id")
    ]


def test_a_limit_above_the_most_is_refused(server: ServerProcess) -> None:
    path = "/langgraph/threads/6a1e6b1c-0d4e-4b8c-9f5e-0a1b2c3d4e5f/history?limit=1001"
    with sync_client(server, headers=bearer()) as client:
        assert client.get(path).status_code == 422


def test_the_program_of_the_page(server: ServerProcess) -> None:
    assert run_page("langgraph.md", server).split() == ["1", "2", "3"]
