"""`/openapi.json` tells the truth: every route is in it, and no generated request gets an answer
that is not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from resonantgenesis_server.app import open_parts
from resonantgenesis_server.config.settings import Settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.server import KEY, ServerProcess, bearer

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
#: A stream that stays open (`follow`) is left after so many seconds without a byte.
PATIENCE = 1.0
LONGEST_URL = 60_000


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("described") / "data",
        limits__answer_wait=1,
        limits__poll_wait=1,
    )
    yield server.start()
    server.stop()
    assert server.errors() == []


class Real:
    """Names of things that exist, since generated ones hardly ever do."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._turns = itertools.count()

    def session_id(self) -> str:
        body = {"agent_id": "guide", "goal": "count to 3"}
        answer = httpx.post(
            f"{self._server.url}/v1/sessions/execute", json=body, headers=bearer(), timeout=20
        )
        return str(answer.json()["session_id"])

    def file_id(self) -> str:
        answer = httpx.post(
            f"{self._server.url}/v1/files?name=a.bin", content=b"content", headers=bearer()
        )
        return str(answer.json()["id"])

    def put_into(self, case: schemathesis.Case) -> None:
        """Every second request concerns a session, a file, and an agent, that exist."""
        if next(self._turns) % 2:
            return
        if "file_id" in (case.path_parameters or {}):
            case.path_parameters["file_id"] = self.file_id()
        if "session_id" in (case.path_parameters or {}):
            case.path_parameters["session_id"] = self.session_id()
        body = case.body
        if isinstance(body, dict) and isinstance(body.get("agent_id"), str):
            body["agent_id"] = "guide"


@pytest.fixture(scope="module")
def real(described: ServerProcess) -> Real:
    return Real(described)


def check(case: schemathesis.Case, real: Real) -> None:
    real.put_into(case)
    try:
        response = case.call(headers=bearer(KEY), timeout=PATIENCE)
    except requests.RequestException as error:
        assert "follow" in (case.query or {}) and "timed out" in str(error).lower(), error
        return
    if len(response.request.url or "") > LONGEST_URL:
        return  # refused by the HTTP parser; no path of ours was asked
    case.validate_response(response, checks=CHECKS)


def run_all(server: ServerProcess, real: Real, examples: int) -> None:
    """So many requests of every operation, right ones and wrong ones."""
    operations, failures = 0, []
    for result in schemathesis.openapi.from_url(f"{server.url}/openapi.json").get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                phases=(Phase.explicit, Phase.generate),  # a failure is clear enough unshrunk
                suppress_health_check=list(HealthCheck),
            )
            def conforms(case: schemathesis.Case) -> None:
                check(case, real)

            try:
                conforms()
            except Unsatisfiable:
                continue  # nothing about GET /healthz can be wrong
            except (AssertionError, BaseExceptionGroup) as error:
                failures.append(error)
        operations += 1
    assert operations > 15
    if failures:
        raise BaseExceptionGroup("answers that are not as described", failures)


def test_answers_are_as_described(described: ServerProcess, real: Real) -> None:
    run_all(described, real, 2)


@pytest.mark.soak
def test_many_answers_are_as_described(described: ServerProcess, real: Real) -> None:
    run_all(described, real, 100)


#: By method and template; the table of endpoints fills in ids.
_OF_CLIENTS = {
    ("POST", "/v1/agents/{agent_id}/ag-ui"),
    ("GET", "/copilotkit/info"),
    *((method, "/mcp") for method in ("POST", "GET", "DELETE")),
    *(
        ("POST", f"/copilotkit/agent/{{agent_id}}/{verb}")
        for verb in ("run", "connect", "stop/{thread_id}")
    ),
    ("GET", "/openai/v1/models"),
    ("GET", "/openai/v1/models/{model}"),
    ("POST", "/openai/v1/chat/completions"),
    ("POST", "/openai/v1/responses"),
    ("GET", "/openai/v1/responses/{response_id}"),
    ("DELETE", "/openai/v1/responses/{response_id}"),
    ("POST", "/openai/v1/responses/{response_id}/cancel"),
    ("GET", "/openai/v1/responses/{response_id}/input_items"),
    ("POST", "/openai/v1/conversations"),
    ("GET", "/openai/v1/conversations/{conversation_id}"),
    ("DELETE", "/openai/v1/conversations/{conversation_id}"),
    ("GET", "/openai/v1/conversations/{conversation_id}/items"),
}


async def test_every_route_is_described(tmp_path: Path) -> None:
    """Those of the framework and those that are answered before it."""
    async with open_parts(Settings(data=tmp_path, bootstrap_key=KEY)) as parts:
        app = parts.app._app
        described = {
            (method.upper(), path)
            for path, operations in app.openapi()["paths"].items()
            for method in operations
        }
        answered = {
            (method, context.path)
            for context in iter_route_contexts(app.routes)
            for method in context.methods or ()
        }
        streams = {(route.method, route.path) for route in parts.app._fast}
    # HEAD is GET without a body, and OpenAPI knows no sockets: they are in /asyncapi.json.
    # A plain GET of a socket's path is only told so.
    sockets = "/v1/ws", "/v1/agents/{agent_id}/serve"
    streams -= {one for path in sockets for one in (("WEBSOCKET", path), ("GET", path))}
    # Those of other people's protocols are described there.
    streams = {
        one
        for one in streams
        if one not in _OF_CLIENTS and not one[1].startswith(("/langgraph/", "/a2a/"))
    }
    assert {one for one in answered | streams if one[0] != "HEAD"} == described
    assert len(streams) >= 3
    assert streams <= answered


async def test_the_protocols_endpoints_are_there(described: ServerProcess) -> None:
    """What PROTOCOL.md names in sections 2, 4, 7 and 8, as far as it is built."""
    paths = httpx.get(f"{described.url}/openapi.json").json()["paths"]
    one = "/v1/sessions/{session_id}"
    expected = {
        "/v1/tokens": {"post"},
        "/v1/sessions/execute": {"post"},
        "/v1/sessions/cancel": {"post"},
        "/v1/sessions": {"get", "post"},
        one: {"get", "delete"},
        f"{one}/execute": {"post"},
        f"{one}/stream": {"get"},
        f"{one}/events": {"get"},
        f"{one}/steps": {"get"},
        f"{one}/cancel": {"post"},
        f"{one}/export": {"get"},
        "/v1/events/export": {"get"},
        "/v1/files": {"get", "post"},
        "/v1/files/{file_id}": {"get", "delete"},
        "/v1/files/{file_id}/content": {"get"},
        "/v1/agents": {"get", "post"},
        "/healthz": {"get"},
        "/readyz": {"get"},
    }
    for path, methods in expected.items():
        assert methods <= paths[path].keys(), path
