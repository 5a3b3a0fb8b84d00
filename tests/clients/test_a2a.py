"""A2A's own clients, unmodified, of 1.0 and of 0.3; and bare requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.credentials import make_key, sync_client
from support.node import run_client
from support.server import KEY, ServerProcess, bearer


@pytest.fixture(
    scope="module",
    params=[
        (sdk, binding) for sdk in ("@a2a-js/sdk", "a2a03") for binding in ("JSONRPC", "HTTP+JSON")
    ],
    ids="-".join,
)
def found(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    paid = tmp_path_factory.mktemp("paid") / "paid"
    sdk, binding = request.param
    return run_client("a2a.mjs", server, sdk=sdk, binding=binding, paid=str(paid))


def test_a_whole_answer_with_a_tool_call(found: dict[str, Any]) -> None:
    whole, further, blocking = found["whole"], found["further"], found["blocking"]
    assert found["card"] == "Guide" and whole["error"] is None
    assert whole["kinds"][0] == "task" and whole["states"][-1] == "completed"
    assert "= 30" in whole["text"]
    assert further["text"] == "1 2 3" and further["context"] == whole["context"]
    assert further["id"].rpartition(".")[0] == whole["id"].rpartition(".")[0]
    assert (blocking["state"], blocking["text"]) == ("completed", "1 2 3")
    assert blocking["asked"] == "count to 3" and blocking["context"].startswith("mine-")
    assert found["again"] == {"same": True}
    assert [each["text"] for each in found["two"]] == ["1 2", "1 2"]


def test_failures_show_as_failures(found: dict[str, Any]) -> None:
    failed = found["failed"]
    assert failed["states"][-1] == "failed" and failed["said"] == "the shop is closed"
    assert "task" in found["missing"].lower()
    assert "UNAUTHENTICATED" in found["wrong"]


def test_answers_that_break_off(found: dict[str, Any]) -> None:
    assert len(found["cuts"]) > 3
    for cut in found["cuts"]:
        assert cut["error"]
        if "state" in cut:  # else the client did not even learn its task
            assert (cut["state"], len(cut["text"].split())) == ("completed", 10)
            assert cut["text"].startswith(cut["before"])
            assert cut["rest"] in {None, cut["text"]}


def test_a_task_is_taken_up_again_and_cancelled(found: dict[str, Any]) -> None:
    assert found["cancelled"]["states"] == ["canceled", "canceled"]
    assert found["resubscribed"] == {"text": found["cancelled"]["text"], "first": "task"}
    assert found["ended"]["error"] and not found["ended"]["kinds"]


def test_what_a_task_asks(found: dict[str, Any]) -> None:
    for (state, said, text, states, ended), answer in zip(
        found["approvals"], ["Paid.", "Not paid."], strict=True
    ):
        assert state == "input-required" and said.startswith("Pay it back?")
        assert text  # a text approves nothing
        assert states == ["working", "working", "completed"] and ended == f"Looking. {answer}"
    assert found["questions"] == ["input-required", "0 1 2"]


def test_push_notification_configs(found: dict[str, Any]) -> None:
    config = {"id": "mine", "url": "http://127.0.0.1:9/", "ofTask": True}
    assert found["configs"] == [config, config, config, 0]


# -- bare requests -------------------------------------------------------------------------


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    with sync_client(server, headers=bearer()) as client:
        yield client


def send(method: str, text: str, message_id: str) -> dict[str, Any]:
    message = {"messageId": message_id, "role": "user", "parts": [{"kind": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}


def error_of(answer: httpx.Response) -> int:
    code: int = answer.json()["error"]["code"]
    return code


def test_a_message_sent_again_joins_its_task(http: httpx.Client) -> None:
    first, again, other = (
        http.post("/a2a/guide", json=send("message/send", "count to 2", name)).json()["result"]
        for name in ("one", "one", "two")
    )
    assert first == again and first["id"] != other["id"]


def test_what_is_refused(http: httpx.Client) -> None:
    call = send("message/send", "", "empty")
    assert error_of(http.post("/a2a/guide", json=call)) == -32005
    config = {"jsonrpc": "2.0", "id": 1, "method": "CreateTaskPushNotificationConfig"}
    assert error_of(http.post("/a2a/guide", json=config)) == -32602
    assert error_of(http.post("/a2a/guide", json=call | {"method": "no"})) == -32601
    late = http.post("/a2a/guide", json=call, headers={"A2A-Version": "9.1"})
    assert error_of(late) == -32009
    assert error_of(http.post("/a2a/guide", json=[])) == -32600
    assert http.post("/a2a/nobody", json=call).status_code == 404


def test_an_answer_to_what_is_not_asked(http: httpx.Client) -> None:
    asked = http.post("/a2a/refunds", json=send("message/send", "1", "asked")).json()["result"]
    call = send("message/send", "", "said")
    call["params"]["message"]["taskId"] = asked["id"]
    for call_id in ("other", 1, ["refund"], {"refund": 1}):
        part = {"kind": "data", "data": {"call_id": call_id, "approved": True}}
        call["params"]["message"]["parts"] = [part]
        assert error_of(http.post("/a2a/refunds", json=call)) == -32602, call_id
    cancel = {"jsonrpc": "2.0", "id": 1, "method": "tasks/cancel", "params": {"id": asked["id"]}}
    assert "result" in http.post("/a2a/refunds", json=cancel).json()


def test_cards(server: ServerProcess, http: httpx.Client) -> None:
    path = "/a2a/{}/.well-known/agent-card.json"
    with sync_client(server) as stranger:
        for agent in ("guide", "nobody"):  # a stranger does not learn which agents there are
            card = stranger.get(path.format(agent)).json()
            assert card["url"] == f"{server.url}/a2a/{agent}"
            assert card["description"] == f"The agent {agent}."
    extended = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard"}
    assert http.post("/a2a/guide", json=extended).json()["result"]["name"] == "Guide"


def test_the_tasks_of_a_context(http: httpx.Client) -> None:
    for number in range(3):
        call = send("message/send", "count to 1", f"n{number}")
        call["params"]["message"]["contextId"] = "listed"
        assert "result" in http.post("/a2a/guide", json=call).json()
    listing = {"contextId": "listed", "pageSize": 2}
    body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": listing}
    page = http.post("/a2a/guide", json=body).json()["result"]
    assert (page["totalSize"], len(page["tasks"])) == (3, 2)
    listing["pageToken"] = page["nextPageToken"]
    rest = http.post("/a2a/guide", json=body).json()["result"]
    assert len(rest["tasks"]) == 1 and rest["nextPageToken"] == ""


def test_a_key_that_ends_is_no_end_of_the_answer(http: httpx.Client) -> None:
    key = make_key(http, "*", credential=KEY)
    body = send("message/stream", "go", "slow")
    body["params"]["metadata"] = {"count": 1000, "pace": 20}
    with (
        http.stream("POST", "/a2a/paced", json=body, headers=bearer(key.key)) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        for number, _ in enumerate(answer.iter_bytes()):
            if not number:
                assert http.delete(f"/v1/keys/{key.id}").status_code == 204
