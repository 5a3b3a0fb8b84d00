"""The own client of Durable Streams, unmodified, reads sessions and turns."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.credentials import sync_client
from support.node import run_client, run_page
from support.server import ServerProcess, bearer


@pytest.fixture(scope="module")
def found(server: ServerProcess) -> dict[str, Any]:
    return run_client("durable_streams.mjs", server)


def test_a_whole_turn_in_every_mode(found: dict[str, Any]) -> None:
    whole = found["whole"]
    assert whole["live"] == {mode: ["done", True, True] for mode in ("sse", "long-poll", "true")}
    assert {"step", "tool_call", "tool_result", "text", "done"} <= set(whole["types"])
    assert whole["text"] is True


def test_a_cut_anywhere_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    assert len(found["cuts"]) == 8
    assert all(each == [True, True, 30] for each in found["cuts"])


def test_a_reload_in_mid_answer_goes_on_in_two_tabs(found: dict[str, Any]) -> None:
    assert found["reload"] == [[True, 40], [True, 40]]


def test_a_stream_goes_on_where_its_turn_waits(found: dict[str, Any]) -> None:
    assert found["waits"] == ["Looking. Paid.", True]


def test_cancelled_and_failed_turns_say_so(found: dict[str, Any]) -> None:
    assert found["ends"] == ["cancelled", "failed", "the shop is closed"]


def test_what_is_refused(found: dict[str, Any]) -> None:
    assert found["head"] == [True, True, "application/json"]
    assert found["refusals"] == [405, 404, 401, 422]


def test_the_program_of_the_page(server: ServerProcess) -> None:
    assert run_page("durable-streams.md", server).split() == ["1", "2", "3"]


@pytest.fixture
def session(server: ServerProcess) -> str:
    with sync_client(server, headers=bearer()) as client:
        asked = {"agent_id": "paced", "goal": "word", "context": {"count": 3}}
        made: str = client.post("/v1/sessions/execute", json=asked).json()["session_id"]
        return made


def test_headers_of_the_pages(server: ServerProcess, session: str) -> None:
    path = f"/v1/sessions/{session}/durable"
    with sync_client(server, headers=bearer()) as client:
        whole = client.get(path, params={"turn": 1})
        offset = whole.headers["stream-next-offset"]
        assert whole.headers["stream-closed"] == whole.headers["stream-up-to-date"] == "true"
        same = {"If-None-Match": whole.headers["etag"]}
        assert client.get(path, params={"turn": 1}, headers=same).status_code == 304
        assert [chunk["position"] for chunk in whole.json()] == list(
            range(1, len(whole.json()) + 1)
        )
        rest = client.get(path, params={"turn": 1, "offset": offset, "live": "long-poll"})
        assert (rest.status_code, rest.headers["stream-closed"]) == (204, "true")
        # The session may have further turns.
        open_end = client.get(path, params={"offset": "now"})
        assert (open_end.json(), open_end.headers["stream-up-to-date"]) == ([], "true")
        assert "stream-closed" not in open_end.headers
        assert client.head(path).headers["stream-next-offset"] == offset
        live = client.get(path, params={"turn": 1, "offset": offset, "live": "sse"})
        assert '"streamClosed":true' in live.text


def test_a_queued_turn_begins_when_it_runs(server: ServerProcess) -> None:
    with sync_client(server, headers=bearer()) as client:
        asked = {"agent_id": "paced", "goal": "a", "context": {"count": 1_000, "pace": 20}}
        prefer = {"Prefer": "respond-async"}
        made = client.post("/v1/sessions/execute", json=asked, headers=prefer).json()
        path = f"/v1/sessions/{made['session_id']}"
        following = {"goal": "b", "if_busy": "enqueue", "context": {"count": 2, "pace": 0}}
        client.post(f"{path}/execute", json=following, headers=prefer)
        early = client.get(f"{path}/durable", params={"turn": 2})
        assert (early.json(), early.headers["stream-up-to-date"]) == ([], "true")
        query = {"turn": 2, "offset": early.headers["stream-next-offset"]}
        with client.stream("GET", f"{path}/durable", params=query | {"live": "sse"}) as live:
            client.post(f"{path}/cancel", json={"turn": 1})
            text = "".join(live.iter_text())
        assert "b-000001" in text and "a-00" not in text and '"streamClosed":true' in text
        assert client.get(f"{path}/durable", params=query).headers["stream-closed"] == "true"


def test_places_that_are_none(server: ServerProcess, session: str) -> None:
    path = f"/v1/sessions/{session}/durable"
    with sync_client(server, headers=bearer()) as client:
        offset = client.get(path).headers["stream-next-offset"]
        for query, status in (
            ({"offset": "1"}, 422),
            ({"offset": f"{10**11}_{offset.split('_')[1]}"}, 422),
            ({"offset": f"{1:012d}_{'f' * 32}"}, 410),
            ({"live": "poll"}, 422),
            ({"turn": 2}, 422),
            ({"turn": 0}, 422),
        ):
            assert client.get(path, params=query).status_code == status, query
        for method in ("PUT", "POST", "DELETE", "PATCH"):
            refused: httpx.Response = client.request(method, path, json=[])
            assert refused.status_code == 405
            assert refused.headers["allow"] == "GET, HEAD"


def test_a_cursor_moves_on(server: ServerProcess, session: str) -> None:
    path = f"/v1/sessions/{session}/durable"
    with sync_client(server, headers=bearer()) as client:
        query = {"live": "long-poll", "cursor": "0"}
        first = client.get(path, params=query).headers["stream-cursor"]
        second = client.get(path, params=query | {"cursor": first}).headers["stream-cursor"]
        assert int(second) > int(first) > 0
