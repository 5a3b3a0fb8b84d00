"""MCP's own clients, unmodified: two generations of the TypeScript SDK, and Python's."""

from __future__ import annotations

from typing import Any

import pytest
from support.node import run_client
from support.server import ServerProcess


@pytest.fixture(scope="module", params=["sdk", "client"])
def sdk(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def found(
    server: ServerProcess, sdk: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    paid = tmp_path_factory.mktemp("paid") / "paid"
    return run_client("mcp.mjs", server, sdk=sdk, paid=str(paid)) | {"paid": paid.read_text()}


def test_agents_are_tools(found: dict[str, Any]) -> None:
    assert {"ask_guide", "ask_refunds", "execute", "list_sessions"} < set(found["tools"])


def test_a_whole_answer_with_a_tool_call(found: dict[str, Any]) -> None:
    whole, further = found["whole"], found["further"]
    assert "= 30" in whole["text"] and whole["said"] == whole["text"]
    assert whole["answer"]["status"] == "success"
    assert further["text"] == "1 2 3" and further["answer"]["turn"] == 2


def test_failures_show_as_failures(found: dict[str, Any]) -> None:
    failed = found["failed"]
    assert failed["isError"] and failed["text"] == "the shop is closed"
    assert failed["answer"]["error"]["code"] == "AGENT_FAILED"
    assert "ask_nobody" in found["nobody"]["error"]
    assert found["bad"]["isError"] and "goal" in found["bad"]["text"]


def test_two_calls_at_once(found: dict[str, Any]) -> None:
    a, b = found["two"]
    assert a["text"].startswith("a-") and b["text"].startswith("b-")


def test_answers_that_break_off(found: dict[str, Any], sdk: str) -> None:
    whole = "n-000001 n-000002 n-000003 n-000004 "
    assert found["unborn"]["error"] and len(found["cuts"]) > 1
    for each in found["cuts"]:
        if sdk == "sdk":  # goes on from the last message that it has
            assert (each["text"], each["said"]) == (whole, whole)
        else:  # 2026-07-28 has no way to go on
            assert each["text"] == whole if "text" in each else each["error"]


def test_cancel(found: dict[str, Any]) -> None:
    assert found["cancelled"]["error"] and found["cancelled"]["status"] == "cancelled"


def test_a_person_is_asked(found: dict[str, Any]) -> None:
    assert found["approvals"] == ["Looking. Paid.", "Looking. Not paid.", "Looking. Not paid."]
    assert found["paid"].count("\n") == 1
    assert found["form"]["message"] == 'Pay it back?\nrefund {"order":"o"}'
    assert found["questions"]["text"] == "7 7 7"
    waits = found["waits"]
    assert not waits["isError"] and waits["answer"]["status"] == "waiting"
    assert "Pay it back?" in waits["text"]


def test_a_wrong_key(found: dict[str, Any]) -> None:
    assert "UNAUTHENTICATED" in found["wrong"] or "401" in found["wrong"]


def test_sessions_are_looked_at(found: dict[str, Any]) -> None:
    sessions = found["sessions"]
    assert sessions["types"][-1] == "done" and sessions["output"] == "1 2 3"
    assert sessions["roles"] == ["user", "assistant"]
    assert sessions["listed"] and sessions["more"]


def test_sessions_are_resources(found: dict[str, Any], sdk: str) -> None:
    resources = found["resources"]
    assert (resources["messages"], resources["template"], resources["updated"]) == (2, True, True)
    assert resources["missing"] == (-32002 if sdk == "sdk" else -32602)
    assert (resources["honored"] is None) == (sdk == "sdk")


def test_agents_are_tasks(found: dict[str, Any], sdk: str) -> None:
    if sdk == "client":  # the newer package does not know the extension for tasks
        assert "tasks" not in found
        return
    assert found["tasks"] == {
        "whole": ["taskCreated", ["result", "1 2 3"]],
        "asked": [True, ["result", "Looking. Paid."]],
        "failed": ["failed", "error"],
        "message": "the shop is closed",
        "stopped": ["cancelled", -32602],
        "listed": True,
        "missing": -32602,
    }
