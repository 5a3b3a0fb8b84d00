"""How other people's streams end where the turn has not: never as a success."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from support.credentials import make_key, make_token, sync_client
from support.server import KEY, PATIENCE, ServerProcess, bearer, running

#: The end of an answer that is whole, in each protocol.
SUCCESS = (
    '"finishReason":"stop"', "response.completed", '"finish_reason":"stop"', '"type":"success"',
    '"status":"success"', '"event":"completed"', "TASK_STATE_COMPLETED",
)  # fmt: skip
_SAY = {"role": "user", "content": "word"}


def asks(name: str, pace: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The requests of each protocol for a turn of `paced`, or of `slow` without a context."""
    part = {"type": "text", "text": "word"}
    chat = {"id": name, "context": {"pace": pace, "count": 10_000}}
    chat["messages"] = [{"id": "m", "role": "user", "parts": [part]}]
    slow = {"model": "slow", "stream": True}
    run = {"threadId": name, "runId": "r", "messages": [_SAY]}
    graph = {"assistant_id": "slow", "input": {"messages": [_SAY]}}
    ask = {"name": "ask_slow", "arguments": {"goal": "word"}, "_meta": {"progressToken": 1}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ask}
    message = {"messageId": name, "role": "ROLE_USER", "parts": [{"text": "word"}]}
    return {
        "mcp": ("/mcp", call),
        "ai-sdk": ("/v1/agents/paced/chat", chat),
        "responses": ("/openai/v1/responses", {**slow, "input": "word"}),
        "completions": ("/openai/v1/chat/completions", {**slow, "messages": [_SAY]}),
        "ag-ui": ("/v1/agents/slow/ag-ui", run),
        "copilotkit": ("/copilotkit/agent/slow/run", run),
        "langgraph": ("/langgraph/runs/stream", {**graph, "stream_mode": "messages-tuple"}),
        "a2a": ("/a2a/slow/message:stream", {"message": message}),
        "threads": (f"/langgraph/threads/{uuid4()}/stream/events", graph),
    }


def _asked(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body of the stream's request; a thread's run is started by a command before."""
    if not path.endswith("/stream/events"):
        return body
    command = {"id": 1, "method": "run.start", "params": body}
    started = client.post(path.replace("stream/events", "commands"), json=command)
    assert started.json()["type"] == "success", started.text
    return {"channels": ["messages", "lifecycle", "values"]}


class Viewers:
    """One client of each protocol, each in mid-answer, and what it got."""

    def __init__(self, server: ServerProcess, credential: str) -> None:
        self._server, self._credential = server, credential
        self._begun = threading.Barrier(len(asks("", 1)) + 1, timeout=PATIENCE)
        self.texts: dict[str, str] = {}
        self.cuts: set[str] = set()
        self.threads = [
            threading.Thread(target=self._read, args=(protocol, *asked))
            for protocol, asked in asks(credential[-9:], 20).items()
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()
        self._begun.wait()

    def _read(self, protocol: str, path: str, body: dict[str, Any]) -> None:
        text = ""
        headers = bearer(self._credential)
        with (
            sync_client(self._server, headers=headers) as client,
            client.stream("POST", path, json=_asked(client, path, body)) as answer,
        ):
            assert answer.status_code == 200
            try:
                for piece in answer.iter_text():
                    begun = "word-000003" in text
                    text += piece
                    if not begun and "word-000003" in text:
                        self._begun.wait()
            except httpx.RemoteProtocolError:
                self.cuts.add(protocol)
        self.texts[protocol] = text

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)


def check(viewers: Viewers) -> None:
    viewers.join()
    assert set(viewers.texts) == set(asks("", 1))
    for text in viewers.texts.values():
        assert not any(end in text for end in SUCCESS)


AGENTS = {name: f"support.agents:{name}" for name in ("paced", "slow", "refunds")}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("ends") / "data", agents=AGENTS) as server:
        yield server


def test_a_drain_in_mid_answer_is_no_success(tmp_path: Path) -> None:
    """It cancels the turns that take too long, and each client is told so."""
    with running(tmp_path / "data", agents=AGENTS, drain_seconds=0) as server:
        viewers = Viewers(server, KEY)
        viewers.start()
        server.terminate()
        check(viewers)
        told = ("abort", "response.incomplete", "cancelled", "TASK_STATE_CANCELED")
        for protocol, text in viewers.texts.items():
            assert protocol in viewers.cuts or any(word in text for word in told)


def test_a_credential_that_ends_in_mid_answer_is_no_success(ours: ServerProcess) -> None:
    with sync_client(ours, headers=bearer()) as client:
        key = make_key(client, "*", credential=KEY)
        viewers = Viewers(ours, key.key)
        viewers.start()
        assert client.delete(f"/v1/keys/{key.id}").status_code in {200, 204}
        check(viewers)
        assert viewers.cuts == set(viewers.texts)


def test_an_answer_behind_the_expiry_shows_what_came_of_it(ours: ServerProcess) -> None:
    """The ask has expired and the turn has gone on: each client gets the rest, or is told."""
    with sync_client(ours, headers=bearer()) as client:
        names = []
        for _ in range(3):
            context = {"paid": "/dev/null", "seconds": 1}
            made = client.post("/v1/sessions", json={"agent_id": "refunds", "context": context})
            names.append(made.json()["session_id"])
            asked = {"goal": "order 7"}
            client.post(f"/v1/sessions/{names[-1]}/execute", json=asked)
        deadline = time.monotonic() + PATIENCE
        for name in names:
            while client.get(f"/v1/sessions/{name}").json()["status"] == "waiting":
                assert time.monotonic() < deadline
                time.sleep(0.05)
        approval = {"approved": True}
        part = {"type": "tool-refund", "toolCallId": "refund", "state": "approval-responded"}
        chat = {"id": names[0], "messages": [_SAY, {"role": "assistant", "parts": []}]}
        chat["messages"][1]["parts"] = [{**part, "approval": approval}]  # type: ignore[index]
        assert "Not paid." in client.post("/v1/agents/refunds/chat", json=chat).text
        said = {"type": "mcp_approval_response", "approval_request_id": "mcpr_refund"}
        body = {"model": "refunds", "conversation": f"conv_{names[1]}"}
        body["input"] = [{**said, "approve": True}]  # type: ignore[assignment]
        answer = client.post("/openai/v1/responses", json=body).json()
        assert "Not paid." in str(answer["output"]) and answer["id"].endswith(".1.1")
        run = {"threadId": names[2], "runId": "2", "messages": [_SAY]}
        run["resume"] = [{"interruptId": "refund", "status": "resolved", "payload": approval}]
        late = client.post("/v1/agents/refunds/ag-ui", json=run)
        assert (late.status_code, late.json()["error"]["code"]) == (409, "CONFLICT")


def test_slow_readers_get_every_frame(ours: ServerProcess) -> None:
    """They take nothing until the turn is over, and megabytes wait for them in the log."""
    with sync_client(ours, headers=bearer()) as client, contextlib.ExitStack() as stack:
        context = {"count": 20_000}
        body = {"agent_id": "paced", "goal": "word", "context": context}
        prefer = {"Prefer": "respond-async"}
        made = client.post("/v1/sessions/execute", json=body, headers=prefer).json()
        session = made["session_id"]
        run = {"threadId": session, "runId": "r", "messages": []}
        reads: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", f"/openai/v1/responses/resp_{session}.1?stream=true", {}),
            ("GET", f"/v1/agents/paced/chat/{session}/stream?startIndex=0", {}),
            ("POST", "/copilotkit/agent/paced/connect", {"json": run}),
        ]
        slow = [stack.enter_context(client.stream(*read[:2], **read[2])) for read in reads]
        client.get(f"/v1/sessions/{session}/stream")  # to its end
        for answer, read in zip(slow, reads, strict=True):
            frames = [each for each in answer.read().split(b"\n\n") if b"data: " in each]
            after = client.request(*read[:2], **read[2]).content.split(b"\n\n")
            assert frames == [each for each in after if b"data: " in each]
            assert len(frames) > 20_000


def test_a_token_of_one_session_has_that_session_alone(ours: ServerProcess) -> None:
    with sync_client(ours, headers=bearer()) as client:
        mine, other = (
            client.post("/v1/sessions", json={"agent_id": "guide"}).json()["session_id"]
            for _ in range(2)
        )
        token = make_token(
            client,
            "sessions:read",
            "sessions:write",
            "agents:read",
            credential=KEY,
            session_id=mine,
        )
    url = f"{ours.url}/openai/v1"
    with openai.OpenAI(base_url=url, api_key=token, max_retries=0) as sdk:
        first = sdk.responses.create(model="guide", input="count to 3", conversation=f"conv_{mine}")
        assert first.id == f"resp_{mine}.1" and first.output_text == "1 2 3"
        with pytest.raises(openai.PermissionDeniedError):
            sdk.responses.create(model="guide", input="count to 3")
        with pytest.raises(openai.PermissionDeniedError):
            sdk.responses.create(model="guide", input="x", conversation=f"conv_{other}")
    with sync_client(ours, headers=bearer(token)) as bound:
        part = {"type": "text", "text": "count to 2"}
        body = {"id": mine, "messages": [{"id": "m", "role": "user", "parts": [part]}]}
        answer = bound.post("/v1/agents/guide/chat", json=body)
        assert answer.headers["x-workflow-run-id"] == f"{mine}.2"
        shown = bound.get(f"/v1/agents/guide/chat/{mine}/messages").json()
        assert [each["metadata"]["turn"] for each in shown] == [1, 1, 2, 2]
        assert bound.get(f"/v1/agents/guide/chat/{other}/messages").json() == []
        assert bound.get(f"/v1/agents/guide/chat/{other}/stream?startIndex=0").status_code == 204
        assert bound.post("/v1/agents/refunds/chat", json=body).status_code in {403, 422}
        run = {
            "threadId": mine,
            "runId": "r",
            "messages": [{"role": "user", "content": "count to 1"}],
        }
        assert "RUN_FINISHED" in bound.post("/v1/agents/guide/ag-ui", json=run).text
        run["threadId"] = other
        assert bound.post("/copilotkit/agent/guide/connect", json=run).content == b""
        assert bound.post("/v1/agents/guide/ag-ui", json=run).status_code in {403, 404}
