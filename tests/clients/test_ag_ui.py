"""AG-UI's own HttpAgent, unmodified, and the endpoints of CopilotKit's runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from support.credentials import sync_client
from support.node import run_client
from support.server import ServerProcess, bearer


@pytest.fixture(scope="module")
def found(server: ServerProcess) -> dict[str, Any]:
    with sync_client(server, headers=bearer()) as client:
        make_team(client)
    return run_client("ag_ui.mjs", server)


def make_team(client: httpx.Client) -> None:
    members = [{"agent_id": name} for name in ("refusing", "refunds")]
    team = {"id": "duo", "name": "Duo", "strategy": "parallel", "on_failure": "continue"}
    client.post("/v1/teams", json={**team, "members": members})


def test_a_whole_run_with_a_tool_call(found: dict[str, Any]) -> None:
    whole = found["whole"]
    assert whole["errors"] == [None, None]
    assert whole["types"][0] == "RUN_STARTED" and whole["types"][-1] == "RUN_FINISHED"
    assert {"STEP_STARTED", "TOOL_CALL_START", "TOOL_CALL_RESULT"} < set(whole["types"])
    assert whole["outcome"] == {"type": "success"}
    assert whole["texts"][-1] == "1 2 3" and any("= 30" in text for text in whole["texts"])
    assert whole["tools"] == 1


def test_failures_show_as_failures(found: dict[str, Any]) -> None:
    last = found["failed"]["last"]
    assert (last["type"], last["message"]) == ("RUN_ERROR", "the shop is closed")
    assert last["code"] == "AGENT_FAILED"
    assert "404" in found["nobody"]["error"]


def test_a_tool_that_the_page_runs(found: dict[str, Any]) -> None:
    assert found["tool"] == [None, None, "In Ulm."]


def test_a_wrong_key_and_two_tabs(found: dict[str, Any]) -> None:
    assert "401" in found["wrong"] and "409" in found["tabs"]["refused"]
    assert found["tabs"]["outcomes"] == ["cancelled", None]


def test_a_cut_is_never_a_success(found: dict[str, Any]) -> None:
    assert len(found["cuts"]) >= 18 and all(found["cuts"])


def test_members_of_a_team_are_sub_agents(found: dict[str, Any]) -> None:
    team = found["team"]
    assert team["errors"] == [None, None] and team["of"] == "refunds"
    ids = dict(each for each in team["subs"] if len(each) == 2)
    assert sorted(ids) == ["refunds", "refusing"]
    said = [each[0] for each in team["subs"]]
    assert said.count("refunds") == 2  # it goes on in the run that answers, under the same id
    assert ["the shop is closed"] in team["subs"] and ["suspended"] in team["subs"]
    assert team["subs"][-1] == ["Looking. Paid."]
    assert "reasoning" in team["said"] and "assistant" not in team["said"]


def test_approvals_are_asked_and_answered(found: dict[str, Any]) -> None:
    assert found["approvals"] == [
        ["approval", None, "RUN_FINISHED", "Looking. Paid."],
        ["approval", None, "RUN_FINISHED", "Looking. Not paid."],
    ]


def test_a_thread_is_read_again_after_a_cut(found: dict[str, Any]) -> None:
    assert found["connect"] == {
        "cut": True,
        "first": "RUN_STARTED",
        "asked": "count to 12",
        "text": "1 2 3 4 5 6 7 8 9 10 11 12",
        "last": "RUN_FINISHED",
    }


def test_the_runtime_of_copilotkit(found: dict[str, Any]) -> None:
    runtime = found["runtime"]
    assert {"guide", "refusing"} <= set(runtime["agents"])
    assert runtime["stopped"] == {"stopped": False}  # the run is over
    assert runtime["never"] == [200, ""]


def test_copilotkits_own_client(server: ServerProcess) -> None:
    """Runs, a page that is loaded again, one that is loaded in mid-run, and its stop; failures, an
    approval, and a tool of the page."""
    with sync_client(server, headers=bearer()) as client:
        make_team(client)
    found = run_client("copilotkit.mjs", server)
    first, _, answer, second, counted = found["whole"]["texts"]
    assert (first, second, counted) == ("What is 12% of 250?", "count to 3", "1 2 3")
    assert "= 30" in answer and "guide" in found["whole"]["agents"]
    assert found["again"]["texts"] == found["whole"]["texts"]
    assert found["stopped"] == [True, True]
    assert set(found["refused"]) == {True}, "a second run of a busy thread"
    assert found["never"] == 0
    assert found["team"]["text"] == found["team"]["again"] and "Looking." in found["team"]["text"]
    failed, wrong_key = found["errors"]
    assert failed == ["agent_run_error_event", "the shop is closed"]
    assert wrong_key[0] == "runtime_info_fetch_failed"
    assert found["approved"] == ["approval", "success", "pay backLooking. Paid."]
    assert "In Ulm." in found["tool"]
    assert len(found["cuts"]) >= 18
    assert all(each == [True, ["count to 4", "1 2 3 4"]] for each in found["cuts"])
    assert found["loaded"] == [True, "pay backLooking. "]


@pytest.mark.parametrize(
    "payload",
    [
        "no",
        1,
        [],
        {},
        {"approve": False},
        {"approved": "false"},
        {"approved": True, "reason": "x" * 4_001},
    ],
)
def test_only_a_boolean_approves(server: ServerProcess, tmp_path: Path, payload: object) -> None:
    paid = tmp_path / "paid"
    run: dict[str, object] = {"threadId": str(tmp_path), "runId": "1"}
    run["messages"] = [{"role": "user", "content": "o"}]
    run["context"] = [{"description": "paid", "value": str(paid)}]
    with sync_client(server, headers=bearer()) as client:
        assert "interrupt" in client.post("/v1/agents/refunds/ag-ui", json=run).text
        run |= {"runId": "2", "resume": [{"interruptId": "refund", "status": "resolved"}]}
        run["resume"][0]["payload"] = payload  # type: ignore[index]
        refused = client.post("/v1/agents/refunds/ag-ui", json=run)
        assert (refused.status_code, paid.exists()) == (422, False)
        run["resume"][0]["payload"] = False  # type: ignore[index]
        assert "Not paid." in client.post("/v1/agents/refunds/ag-ui", json=run).text
