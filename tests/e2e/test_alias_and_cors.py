"""`/api/v1` is `/v1`; browsers of other origins may read answers, streams and errors alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.server import ServerProcess
from support.wire import FrameReader, execute

MISSING = "sess_00000000000000000000"
#: Requests of every kind of answer; SESSION is a session of three chunks of text.
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/sessions/execute", {"agent_id": "guide", "goal": "count to 3"}),
    ("POST", "/sessions/execute", {"agent_id": "guide", "goal": "count to 3", "stream": True}),
    ("POST", "/sessions/execute", {"agent_id": "none", "goal": "count to 3"}),
    ("POST", "/sessions/execute", {"goal": "count to 3"}),
    ("POST", "/sessions/SESSION/execute", {"goal": "count to 3", "resume_from": 2}),
    ("POST", "/sessions", {"agent_id": "guide"}),
    ("GET", "/sessions/SESSION", None),
    ("GET", "/sessions/SESSION/stream?resume_from=2", None),
    ("GET", "/sessions/SESSION/stream?resume_from=6", None),
    ("GET", "/sessions/SESSION/stream?resume_from=600", None),
    ("GET", "/sessions/SESSION/events?after=1&compact=true", None),
    ("GET", "/sessions/SESSION/steps", None),
    ("GET", "/sessions/SESSION/export", None),
    ("GET", "/events/export?events=app.none", None),
    ("POST", "/files?name=a.txt", "content"),
    ("POST", "/files?name=a/b", "content"),
    ("GET", "/files?session_id=SESSION", None),
    ("GET", "/files/file_00000000000000000000/content", None),
    ("POST", "/sessions/SESSION/cancel", None),
    ("GET", f"/sessions/{MISSING}/stream", None),
    ("GET", f"/sessions/{MISSING}", None),
    ("GET", "/agents/guide", None),
    ("DELETE", "/sessions/execute", None),
    ("GET", "/nothing", None),
    ("POST", "/tokens", {"scopes": ["sessions:read"], "ttl_seconds": "long"}),
]
_VARYING = re.compile(
    r"sess_\w+|req_\w+|tok_\w+|file_\w+|\d{4}-\d\d-\d\dT[\d:.]+Z|\"duration_ms\":\d+|\"created_at\":[\d.]+"
)


def normal(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """An answer without what differs from one to the next."""
    headers = {
        name: _VARYING.sub("*", value)
        for name, value in answer.headers.items()
        # A refusal closes the connection if it came before the body had, which is chance.
        if name not in {"date", "content-length", "connection"}
    }
    # Where the chunks of one stream are cut is no difference.
    return answer.status_code, headers, _VARYING.sub("*", answer.text)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one[0]} {one[1]}")
async def test_the_alias_answers_the_same(
    server: ServerProcess, request_: tuple[str, str, Any]
) -> None:
    method, path, body = request_
    async with server.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        await client.get(f"/v1/sessions/{session_id}/stream")
        answers = []
        for prefix in ("/v1", "/api/v1"):
            url = prefix + path.replace("SESSION", session_id)
            answers.append(normal(await client.request(method, url, json=body)))
    assert answers[0] == answers[1]


def test_only_the_alias_is_rewritten(server: ServerProcess) -> None:
    for path in ("/api", "/api/", "/api/v2/sessions", "/api/healthz", "/api/api/v1/sessions"):
        answer = httpx.get(server.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND"), path


EXPOSED = {
    "x-session-id", "x-turn", "x-log-epoch", "x-heartbeat-seconds", "x-request-id", "retry-after",
    "etag", "content-range", "content-disposition", "repr-digest",
}  # fmt: skip


def check_exposed(answer: httpx.Response) -> None:
    exposed = answer.headers["access-control-expose-headers"].lower().replace(" ", "").split(",")
    assert set(exposed) >= EXPOSED
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: f"{one[0]} {one[1]}")
async def test_any_origin_may_read_every_answer(
    server: ServerProcess, request_: tuple[str, str, Any]
) -> None:
    method, path, body = request_
    async with server.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        url = "/v1" + path.replace("SESSION", session_id)
        answer = await client.request(method, url, json=body, headers={"Origin": "http://a.test"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    check_exposed(answer)


async def test_without_a_credential_too(server: ServerProcess) -> None:
    async with server.client(headers={"Origin": "http://a.test"}) as client:
        answer = await client.get("/v1/sessions")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")
    check_exposed(answer)


async def test_preflights(server: ServerProcess) -> None:
    wanted = [
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "Last-Event-ID",
        "Prefer",
        "Range",
    ]
    async with server.client(headers={}) as client:
        for path in ("/v1/sessions/execute", "/api/v1/sessions/x/stream", "/v1/anything"):
            answer = await client.options(
                path,
                headers={
                    "Origin": "http://a.test",
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": ", ".join(wanted).lower(),
                },
            )
            assert answer.status_code == 204, path
            allowed = answer.headers["access-control-allow-headers"].lower()
            assert all(name.lower() in allowed for name in wanted)
            assert "POST" in answer.headers["access-control-allow-methods"]
            assert answer.headers["access-control-allow-origin"] == "*"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("listed") / "data",
        cors_origins="http://a.test,https://b.test:8443",
    )
    yield server.start()
    server.stop()


async def test_origins_on_the_list_may_send_credentials_and_others_may_not_read(
    listed: ServerProcess,
) -> None:
    async with listed.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        for path in (f"/v1/sessions/{session_id}/stream?resume_from=0", f"/v1/sessions/{MISSING}"):
            for origin in ("http://a.test", "https://b.test:8443"):
                answer = await client.get(path, headers={"Origin": origin})
                assert answer.headers["access-control-allow-origin"] == origin
                assert answer.headers["access-control-allow-credentials"] == "true"
                assert "Origin" in answer.headers["vary"]
                check_exposed(answer)
            for origin in ("http://c.test", "https://a.test", "null", "http://a.test.evil"):
                answer = await client.get(path, headers={"Origin": origin})
                assert "access-control-allow-origin" not in answer.headers
                assert "Origin" in answer.headers["vary"]
        preflight = {"Origin": "http://c.test", "Access-Control-Request-Method": "POST"}
        answer = await client.options("/v1/sessions/execute", headers=preflight)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


async def test_a_stream_is_frames_and_comments_alone(server: ServerProcess) -> None:
    """Every byte of the body is one or the other, and the first comes before any chunk."""
    async with server.client() as client:
        body = {"agent_id": "silent", "goal": "x", "stream": True, "context": {"seconds": 1.5}}
        answer = await client.post("/v1/sessions/execute", json=body)
    assert answer.content.startswith(b":")
    reader = FrameReader()
    frames = reader.feed(answer.content)
    assert reader.comments >= 2  # the opening one and a heartbeat
    assert frames[-1].event == "done"
    rebuilt = "".join(f"id: {f.id}\nevent: {f.event}\ndata: {f.data}\n\n" for f in frames)
    kept = re.sub(r"^:.*\n\n", "", answer.text, flags=re.MULTILINE)
    assert kept == rebuilt
    for name, value in {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "x-turn": "1",
        "x-heartbeat-seconds": "1",
    }.items():
        assert answer.headers[name] == value
