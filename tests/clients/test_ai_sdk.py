"""The AI SDK's own chat, unmodified, in the versions that people have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.node import run_client
from support.server import ServerProcess

#: `vue` is the chat of `@ai-sdk/vue`.
VERSIONS = ["ai5", "ai6", "ai7", "vue"]


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(server: ServerProcess, version: str) -> dict[str, Any]:
    return run_client("ai_sdk.mjs", server, version=version)


def test_a_whole_answer_with_a_tool_call(found: dict[str, Any]) -> None:
    whole = found["whole"]
    assert whole["status"] == "ready" and whole["ends"] == 2
    asked, answer, asked_again, counted = whole["messages"]
    assert [each["role"] for each in whole["messages"]] == ["user", "assistant"] * 2
    assert [part["type"] for part in answer["parts"]] == [
        "step-start", "tool-calculator", "step-start", "text",
    ]  # fmt: skip
    call = answer["parts"][1]
    assert call["state"] == "output-available" and call["output"]["result"] == 30
    assert counted["parts"][-1]["text"] == "1 2 3"
    place = answer["metadata"]
    assert answer["id"] == f"msg_{place['session_id']}.1"
    assert counted["id"] == f"msg_{place['session_id']}.2"
    assert asked["id"] != asked_again["id"] and place["usage"]["steps"] == 2


def test_a_cut_anywhere_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    cuts = found["cuts"]
    assert cuts["cuts"] >= 18
    assert cuts["texts"] == ["1 2 3 4"]


def test_a_reload_in_mid_answer_goes_on(found: dict[str, Any]) -> None:
    reload = found["reload"]
    assert reload["text"] == reload["output"]
    assert reload["text"].startswith(reload["seen"]) and reload["text"]
    assert reload["status"] == ["ready", "ready"]
    assert reload["messages"] == 2


def test_a_page_that_is_loaded_in_mid_answer(found: dict[str, Any]) -> None:
    page = found["page"]
    assert page["loaded"] == ["user", "assistant", "user"]
    assert (page["live"], page["after"], page["ids"]) == (True, True, True)
    assert page["status"] == [None, "success", None, "cancelled"]
    assert page["never"] == []


def test_the_last_answer_anew(found: dict[str, Any]) -> None:
    again = found["regenerate"]
    assert again["shown"] == again["loaded"] == [1, 4] and again["text"] == "1 2 3"
    assert again["replaced"] == [0, 0, 3, 3, 4, 4, 0, 0]
    (error,) = again["errors"]
    assert json.loads(error)["error"]["code"] == "CONFLICT"


def test_data_that_is_not_kept_is_seen_live(found: dict[str, Any]) -> None:
    transient = found["transient"]
    assert transient["types"] == ["data-progress"] and transient["text"] == "So "
    assert transient["parts"] == ["step-start", "text"]


def test_a_cancel_ends_the_answer(found: dict[str, Any]) -> None:
    assert found["cancel"] == {"status": "ready", "ends": 1}


def test_failures_show_as_failures(found: dict[str, Any]) -> None:
    (failed, why), (wrong, refusal), (nobody, missing) = found["failures"]
    assert failed == wrong == nobody == "error"
    assert why == "the shop is closed"
    assert json.loads(refusal)["error"]["code"] == "UNAUTHENTICATED"
    assert json.loads(missing)["error"]["code"] == "AGENT_NOT_FOUND"


def test_two_tabs_make_one_session(found: dict[str, Any]) -> None:
    tabs = found["tabs"]
    assert tabs["answers"] == 1 and len(tabs["errors"]) == 1
    assert json.loads(tabs["errors"][0])["error"]["code"] == "SESSION_BUSY"
    assert tabs["again"] is True, "a message that is posted again joins its turn"


def test_approvals_are_asked_and_answered(found: dict[str, Any], version: str) -> None:
    """Version 5 has none: it shows them as data, and a denied call as one that failed."""
    asked, refused = "approval-requested", "output-denied"
    if version == "ai5":
        asked, refused = "data-approval", "output-error"
    approved, denied = found["approvals"]["true"], found["approvals"]["false"]
    for each in (approved, denied):
        assert each["asked"] == asked
        assert each["messages"] == 2 and each["errors"] == []
    assert approved["state"] == "output-available" and approved["text"] == "Looking. Paid."
    assert denied["state"] == refused and denied["text"] == "Looking. Not paid."


def test_a_tool_that_the_page_runs(found: dict[str, Any]) -> None:
    assert found["tools"] == {"text": "In Ulm.", "messages": 2, "errors": []}


@pytest.mark.parametrize("version", ["ai7"], indirect=True)
class TestWorkflowsTransport:
    """It is made for version 7."""

    def test_it_goes_on_from_a_frame(self, found: dict[str, Any]) -> None:
        workflow, expected = found["workflow"], " ".join(map(str, range(1, 31)))
        shown = (workflow["text"], workflow["again"], workflow["errors"])
        assert shown == (expected, expected, [])
        assert workflow["requests"] >= 4

    def test_it_goes_on_behind_an_approval(self, found: dict[str, Any]) -> None:
        for text, errors, requests in found["workflowApprovals"]:
            assert (text, errors) == ("Looking. Paid.", 0)
            assert requests >= 3, "the answer was not cut"

    def test_a_cancel_and_a_reload_in_mid_answer(self, found: dict[str, Any]) -> None:
        ends = found["workflowEnds"]
        assert ends["cancel"] == [["ready", 0], ["ready", 0]]
        assert ends["same"] == [True, True] and ends["status"] == "cancelled"

    def test_failures_show_as_failures(self, found: dict[str, Any]) -> None:
        failed, wrong, busy = found["workflowEnds"]["failures"]
        assert failed == ["error", "the shop is closed"]
        assert wrong[0] == busy[0] == "error"
        assert "UNAUTHENTICATED" in wrong[1] and "SESSION_BUSY" in busy[1]


def test_the_chat_for_vue(server: ServerProcess) -> None:
    assert run_client("vue.mjs", server) == {
        "shown": ["count to 3", "1 2 3"],
        "page": ["count to 3", "1 2 3", "count to 4", "1 2 3 4"],
        "status": ["ready", "ready"],
        "tool": ["output-available", 30],
        "failures": ["the shop is closed", "UNAUTHENTICATED"],
    }


@pytest.fixture(scope="module")
def assistant_ui(server: ServerProcess) -> dict[str, Any]:
    """Its runtime posts messages of another shape to the same address."""
    return run_client("assistant_ui.mjs", server)


def test_assistant_uis_data_stream(assistant_ui: dict[str, Any]) -> None:
    first, answer, second, counted = assistant_ui["messages"]
    assert [each["role"] for each in (first, second)] == ["user", "user"]
    call, text = answer["content"]
    assert call["toolName"] == "calculator" and call["result"]["result"] == 30
    assert "= 30" in text["text"]
    assert [part["text"] for part in counted["content"]] == ["1 2 3"]
    assert answer["status"]["type"] == counted["status"]["type"] == "complete"


def test_assistant_ui_shows_no_failure_as_a_whole_answer(assistant_ui: dict[str, Any]) -> None:
    failed, wrong = assistant_ui["ends"]
    assert failed[0] == wrong[0] == "incomplete"
    assert "the shop is closed" in failed[1] and "401" in wrong[1]
    assert len(assistant_ui["cuts"]) >= 18
    for status, text in assistant_ui["cuts"]:
        assert status == "incomplete" or (status, text) == ("complete", "1 2 3 4")
    assert "SESSION_BUSY" in assistant_ui["tabs"]
    stopped, cancelled = assistant_ui["cancels"]
    assert stopped == {"type": "incomplete", "reason": "cancelled"}
    assert cancelled == {"type": "incomplete", "reason": "other"}


def test_assistant_uis_approvals(assistant_ui: dict[str, Any]) -> None:
    approved, denied = assistant_ui["approvals"]
    paid = ["complete", "Looking. Paid.", "refund", "paid", False, 0]
    assert approved == assistant_ui["waiting"] == paid
    assert denied[:3] == ["complete", "Looking. Not paid.", "refund"]
    assert denied[3:] == [{"error": "so"}, True, 0]


def test_assistant_uis_frontend_tools(assistant_ui: dict[str, Any]) -> None:
    assert assistant_ui["tools"] == [["In Ulm.", 1, 2], ["Nowhere.", 1, 2]]


def test_a_page_with_assistant_ui_that_is_loaded_in_mid_answer(
    assistant_ui: dict[str, Any],
) -> None:
    assert assistant_ui["reload"] == {
        "roles": ["user", "assistant"] * 2,
        "result": 30,
        "same": [True, True],
        "output": True,
    }
