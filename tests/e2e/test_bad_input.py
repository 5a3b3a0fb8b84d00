"""Bad input of every kind to every endpoint: a documented code, in our shape, never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.refusals import GOOD, LENIENT, check_refusal
from support.server import KEY, ServerProcess
from support.wire import execute

MEBIBYTE = 1 << 20
DEEP = b'{"goal":' + b"[" * 40 + b"]" * 40 + b"}"
DEEPER = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("strict") / "data", limits__answer_wait=2, limits__poll_wait=1
    )
    yield server.start()
    server.stop()
    assert server.errors() == []


@pytest.fixture(scope="module")
def operations(strict: ServerProcess) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of everything in `/openapi.json`."""
    paths = httpx.get(f"{strict.url}/openapi.json").json()["paths"]
    return [
        (method.upper(), path, operation)
        for path, known in paths.items()
        for method, operation in known.items()
    ]


def filled(path: str, value: str = "sess_00000000000000000000") -> str:
    """The path with every parameter replaced."""
    parts = path.split("/")
    return "/".join(value if part.startswith("{") else part for part in parts)


def has_body(operation: dict[str, Any]) -> bool:
    """One of JSON; a file may be anything."""
    return "application/json" in operation.get("requestBody", {}).get("content", {})


def test_a_sessions_own_execute_takes_its_name_in_the_body_too(strict: ServerProcess) -> None:
    """Clients that are out there send both; another session's name is refused."""
    with httpx.Client(base_url=strict.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        made = client.post("/v1/sessions", json={"agent_id": "guide"}).json()["session_id"]
        body = {"goal": "g", "session_id": made}
        assert client.post(f"/v1/sessions/{made}/execute", json=body).status_code in (200, 202)
        other = client.post(f"/v1/sessions/{made}/execute", json={**body, "session_id": "sess_x"})
        assert other.status_code == 422
        assert "session_id" in other.json()["error"]["details"]["fields"]


BODIES: list[tuple[bytes, str, set[str]]] = [
    (b"{", "application/json", {"INVALID_JSON"}),
    (b"not json", "application/json", {"INVALID_JSON"}),
    (b'{"goal": NaN}', "application/json", {"INVALID_JSON"}),
    (b'{"goal": Infinity}', "application/json", {"INVALID_JSON"}),
    (b'{"goal": "\xff\xfe"}', "application/json", {"INVALID_JSON"}),
    (b'{"goal": "\\ud800"}', "application/json", {"INVALID_JSON", "INVALID_REQUEST"}),
    (b'{"a": 1} trailing', "application/json", {"INVALID_JSON"}),
    (DEEP, "application/json", {"PAYLOAD_TOO_LARGE"}),
    (DEEPER, "application/json", {"PAYLOAD_TOO_LARGE"}),
    (b"[]", "application/json", {"INVALID_REQUEST"}),
    (b'"text"', "application/json", {"INVALID_REQUEST"}),
    (b"17", "application/json", {"INVALID_REQUEST"}),
    (b"{}", "text/plain", {"UNSUPPORTED_MEDIA_TYPE"}),
    (b"a=1", "application/x-www-form-urlencoded", {"UNSUPPORTED_MEDIA_TYPE"}),
    (b"{}", "application/jsonp", {"UNSUPPORTED_MEDIA_TYPE"}),
    (b"{}", "", {"UNSUPPORTED_MEDIA_TYPE"}),
    (b"[" + b"{}," * 20_000 + b"{}]", "application/json", {"PAYLOAD_TOO_LARGE"}),
    (b'{"goal":[' + b"1," * 20_000 + b"1]}", "application/json", {"PAYLOAD_TOO_LARGE"}),
    (b" " * MEBIBYTE + b"{}", "application/json", {"PAYLOAD_TOO_LARGE"}),
]


@pytest.mark.parametrize("number", range(len(BODIES)))
async def test_bodies_that_cannot_be(
    strict: ServerProcess, operations: list[tuple[str, str, dict[str, Any]]], number: int
) -> None:
    data, kind, codes = BODIES[number]
    headers = {"Content-Type": kind} if kind else {}
    async with strict.client() as client:
        for method, path, operation in operations:
            if has_body(operation):
                # No route looks for the object before it has looked at the body.
                answer = await client.request(method, filled(path), content=data, headers=headers)
                check_refusal(answer, *codes)
                assert str(answer.status_code) in operation["responses"], (path, answer.text)


WRONG = [None, True, -1, 2**31, 2**63, 10**400, 1.5, "", "x" * 300_000, "a\u0000b", [], {}, [[]]]


async def test_wrong_types_in_every_field(
    strict: ServerProcess, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    """Each field of each body in turn with each value; what is right by chance is answered."""
    document = httpx.get(f"{strict.url}/openapi.json").json()
    async with strict.client() as client:
        for method, path, operation in operations:
            if not has_body(operation):
                continue
            schema = json.dumps(operation["requestBody"]["content"]["application/json"]["schema"])
            name = schema.partition("#/components/schemas/")[2].partition('"')[0]
            fields = document["components"]["schemas"][name]["properties"]
            for field in fields:
                for value in WRONG:
                    body = json.dumps(GOOD | {field: value})
                    answer = await client.request(
                        method,
                        filled(path),
                        content=body,
                        headers={
                            "Content-Type": "application/json",
                            "Prefer": "respond-async, handling=lenient",
                        },
                    )
                    assert str(answer.status_code) in operation["responses"], (path, answer.text)
                    if answer.status_code >= 400:
                        check_refusal(answer)


FEW = 19_000
LISTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/events/replay", {"since": "2026-01-01", "events": [1] * FEW}),
    ("/v1/events/replay", {"since": "2026-01-01", "events": ["app.*"] * FEW}),
    ("/v1/events/replay", {"since": "2026-01-01", "filters": {f"a{n}": n for n in range(9_000)}}),
    ("/v1/events/replay", {"since": "2026-01-01", "filters": {"a" * 300: 1}}),
    ("/v1/events/replay", {"since": "2026-01-01", "filters": {"a.b." * 40 + "c": 1}}),
    ("/v1/events/replay", {"since": "2026-01-01", "filters": {"a": ["x" * 1_000] * 20}}),
    ("/v1/sessions/execute", {"agent_id": "guide", "goal": "g", "tools": [1] * FEW}),
    ("/v1/keys", {"name": "n", "scopes": [{}] * 6_000}),
    ("/v1/tokens", {"scopes": ["nothing"] * FEW}),
]


@pytest.mark.parametrize("number", range(len(LISTS)))
async def test_what_is_too_long_is_told_in_few_words(strict: ServerProcess, number: int) -> None:
    path, body = LISTS[number]
    async with strict.client() as client:
        answer = await client.post(path, json=body)
        assert answer.status_code == 422
        check_refusal(answer, "INVALID_REQUEST")
        assert len(answer.json()["error"]["details"]["fields"]) <= 20
        assert len(answer.content) < 5_000


async def test_filters_of_a_query_are_bounded_alike(strict: ServerProcess) -> None:
    async with strict.client() as client:
        for path in ("/v1/events", "/v1/events/subscribe", "/v1/events/export"):
            for filters in ({"a." * 16 + "a": 1}, {"a" * 201: 1}, {"a": "x" * 1_001}):
                answer = await client.get(path, params={"filters": json.dumps(filters)})
                assert answer.status_code == 422
                check_refusal(answer, "INVALID_REQUEST")


JUNK = [
    "sess_00000000000000000000",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%00",
    "a%00b",
    "%ff%fe",
    "%F0%9F%98%80",
    "%25",
    "x" * 5_000,
    "'; DROP TABLE sessions; --",
    "sess_\u2028",
    "-1",
    "%0d%0aX-Injected: 1",
    "sess_00000000000000000000/turns",
    "*",
    "sess_00000000000000000000%20",
]


async def test_ids_that_cannot_be(
    strict: ServerProcess, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    async with strict.client() as client:
        for method, path, operation in operations:
            if "{" not in path:
                continue
            for junk in JUNK:
                body = {"json": GOOD} if has_body(operation) else {}
                answer = await client.request(method, filled(path, junk), headers=LENIENT, **body)
                check_refusal(
                    answer,
                    "SESSION_NOT_FOUND", "AGENT_NOT_FOUND", "NOT_FOUND", "METHOD_NOT_ALLOWED",
                    "INVALID_REQUEST",
                )  # fmt: skip
                assert "x-injected" not in answer.headers


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]


async def test_methods_that_a_path_does_not_know(
    strict: ServerProcess, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    known: dict[str, set[str]] = {}
    for method, path, _ in operations:
        known.setdefault(path, set()).add(method)
    async with strict.client() as client:
        for path, methods in known.items():
            for method in METHODS:
                if method in methods:
                    continue
                answer = await client.request(method, filled(path))
                check_refusal(answer, "METHOD_NOT_ALLOWED")
                allowed = {one.strip() for one in answer.headers["allow"].split(",")}
                assert allowed - {"HEAD"} >= methods, (path, method)
                assert method not in allowed


async def test_head_says_what_get_would(strict: ServerProcess) -> None:
    async with strict.client() as client:
        for path in ("/healthz", "/readyz"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
        for path in ("/v1/sessions", "/v1/nothing", "/nothing"):
            answer = await client.head(path)
            assert answer.status_code in {200, 404, 405}, path
            assert answer.content == b"" and answer.headers["x-request-id"]


PATHS = [
    "/nowhere", "/v1", "/v1/", "/v2/sessions", "/v1/sessionz", "/v1/sessions/", "/v1//sessions",
    "/V1/sessions", "/favicon.ico", "/v1/sessions/a/b/c", "/%76%31/sessions/x/y", "/api", "/v1//",
    "/v1/sessions/execute/", "/\u00e9",
]  # fmt: skip


async def test_paths_that_are_not_there(strict: ServerProcess) -> None:
    async with strict.client() as client:
        for path in PATHS:
            answer = await client.get(path)
            check_refusal(answer, "NOT_FOUND", "SESSION_NOT_FOUND", "METHOD_NOT_ALLOWED")


async def test_credentials_that_are_none(
    strict: ServerProcess, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    bad: list[dict[str, str]] = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ,"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY} {KEY}"},
        {"Authorization": "Bearer " + "x" * 9_000},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."},
        {"Cookie": f"rg_token={KEY}"},
        {"X-Api-Key": KEY},
    ]
    async with strict.client(headers={}) as client:
        for method, path, operation in operations:
            if not path.startswith("/v1"):
                continue
            for headers in bad:
                body = {"json": GOOD} if has_body(operation) else {}
                answer = await client.request(method, filled(path), headers=headers, **body)
                check_refusal(answer, "UNAUTHENTICATED")
                assert KEY not in answer.text


QUERIES = [
    "resume_from=-1", "resume_from=x", "resume_from=1e3", "resume_from=99999999999",
    "resume_from=%00", "resume_from=1.0", "resume_from=%D9%A1", "turn=0", "turn=x", "turn=99",
    "follow=maybe", "compact=2", "after=-1", "after=x", "limit=0", "limit=99999", "limit=x",
    "wait=-1", "wait=9999", "wait=nan", "wait=inf", "wait=x", "cursor=%00", "cursor=nonsense",
    "status=sleeping", "resume_from=7777", "after=7777", "agent_id=%20",
    "&".join(f"p{number}=1" for number in range(200)),
]  # fmt: skip


async def test_query_parameters_that_cannot_be(strict: ServerProcess) -> None:
    async with strict.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        refused = 0
        for path in ("stream", "events", "steps", ""):
            for query in QUERIES:
                url = f"/v1/sessions/{session_id}/{path}".rstrip("/")
                answer = await client.get(f"{url}?{query}")
                if answer.status_code >= 400:
                    check_refusal(answer, "INVALID_REQUEST", "NOT_FOUND")
                    refused += 1
        for query in QUERIES:
            answer = await client.get(f"/v1/sessions?{query}")
            if answer.status_code >= 400:
                check_refusal(answer, "INVALID_REQUEST")
                refused += 1
    assert refused > 35


@pytest.mark.parametrize("bad", ["-1", "x", "1.5", "99999999999", "7777", "\u0661", "1 2", "+1"])
async def test_a_last_event_id_that_cannot_be(strict: ServerProcess, bad: str) -> None:
    async with strict.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        headers = {"Last-Event-ID": bad.encode()}
        answer = await client.get(f"/v1/sessions/{session_id}/stream", headers=headers)
        check_refusal(answer, "INVALID_REQUEST")


async def test_resume_positions_of_execute(strict: ServerProcess) -> None:
    async with strict.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        await client.get(f"/v1/sessions/{session_id}/stream")
        fresh = (await client.post("/v1/sessions", json={"agent_id": "guide"})).json()["session_id"]
        base = {"agent_id": "guide", "goal": "count to 3"}
        for change, code in [
            ({"resume_from": 3}, "INVALID_REQUEST"),
            ({"resume_from": 7777, "session_id": session_id, "stream": True}, "INVALID_REQUEST"),
            ({"resume_from": -1}, "INVALID_REQUEST"),
            ({"resume_from": "3"}, "INVALID_REQUEST"),
            ({"resume_from": 1.5}, "INVALID_REQUEST"),
            ({"resume_from": 2**40}, "INVALID_REQUEST"),
            ({"resume_from": 0, "session_id": fresh}, "INVALID_REQUEST"),
            ({"resume_from": 1, "session_id": session_id, "goal": "another"}, "CONFLICT"),
            ({"session_id": session_id, "agent_id": "none"}, "INVALID_REQUEST"),
            ({"session_id": "sess_00000000000000000000"}, "SESSION_NOT_FOUND"),
        ]:
            answer = await client.post("/v1/sessions/execute", json=base | change)
            check_refusal(answer, code)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\u00e9"])
async def test_an_idempotency_key_that_cannot_be(strict: ServerProcess, key: str) -> None:
    async with strict.client() as client:
        headers: dict[str, Any] = {"Idempotency-Key": key.encode(), **LENIENT}
        for path in ("/v1/sessions", "/v1/agents", "/v1/tokens", "/v1/keys"):
            check_refusal(await client.post(path, json=GOOD, headers=headers), "INVALID_REQUEST")
        for stream in (False, True):
            body = {"agent_id": "guide", "goal": "count to 1", "stream": stream}
            answer = await client.post("/v1/sessions/execute", json=body, headers=headers)
            check_refusal(answer, "INVALID_REQUEST")


async def test_an_idempotency_key_with_another_body(strict: ServerProcess) -> None:
    async with strict.client() as client:
        headers = {"Idempotency-Key": "one-body"}
        body = {"agent_id": "guide", "goal": "count to 1"}
        first = await client.post("/v1/sessions/execute", json=body, headers=headers)
        again = await client.post("/v1/sessions/execute", json=body, headers=headers)
        assert first.json() == again.json()
        other = body | {"goal": "count to 2"}
        answer = await client.post("/v1/sessions/execute", json=other, headers=headers)
        check_refusal(answer, "CONFLICT")
