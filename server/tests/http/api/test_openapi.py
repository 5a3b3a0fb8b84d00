"""The description matches the server: every route is in it, and its answers conform."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.routing import iter_route_contexts
from http_harness import Service, bearer, open_service, sockets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from resonantgenesis_server.http.api.docs import render
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

pytestmark = pytest.mark.anyio


async def test_every_route_is_described(service: Service) -> None:
    described = (await service.client.get("/openapi.json")).json()["paths"]
    routes = set()
    for context in iter_route_contexts(service.app._app.routes):  # type: ignore[attr-defined]
        for method in context.methods or ():
            if method != "HEAD":
                routes.add((context.path, method.lower()))
    assert routes == {(path, method) for path in described for method in described[path]}
    assert len(routes) > 10


async def test_every_operation_tells_its_errors_in_our_shape(service: Service) -> None:
    document = (await service.client.get("/openapi.json")).json()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            if path.startswith("/v1"):
                assert {"401", "403", "422", "429", "500", "503"} <= answers.keys()
                assert operation["security"] == [{"HTTPBearer": []}]
            if "requestBody" in operation:
                assert {"400", "413", "415"} <= answers.keys()
            for status, answer in answers.items():
                if status >= "400":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"href", "src"}:
                self.targets.add(value or "")
            if name == "id":
                self.ids.add(value or "")


async def test_the_docs_page_needs_nothing_from_outside(service: Service) -> None:
    answer = await service.client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Links()
    page.feed(answer.text)
    assert not page.tags & {"script", "link", "img", "iframe"}
    local = {target for target in page.targets if target.startswith("#")}
    assert page.targets - local == {"openapi.json"}
    assert {target[1:] for target in local} <= page.ids
    document = (await service.client.get("/openapi.json")).json()
    for path in document["paths"]:
        assert path in answer.text


def test_the_docs_page_shows_what_it_is_given_as_text() -> None:
    evil = "<script>alert(1)</script>"
    page = render(
        {
            "info": {"title": evil, "version": evil},
            "paths": {
                evil: {
                    "get": {
                        "description": evil,
                        "tags": [evil],
                        "parameters": [{"name": evil, "in": "query", "description": evil}],
                        "responses": {"200": {"description": evil}},
                    }
                }
            },
            "components": {"schemas": {evil: {"title": evil}}},
        }
    )
    assert "<script" not in page


class Running:
    """A service under a real server in a thread of its own, for a synchronous client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: queue.Queue[tuple[int, Service]] = queue.Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        self.port, self.service = self._ready.get(timeout=20)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        service = await open_service(self._folder)
        async with sockets(service.app) as port:
            self._ready.put((port, service))
            await self._stop.wait()
        await service.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=20)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = Running(tmp_path_factory.mktemp("conformance"))
    yield server
    server.close()


#: Requests of each operation, right ones and wrong ones; `make soak` sends more, over the whole
#: server: tests/e2e/test_description.py. What is generated costs more than what is asked.
EXAMPLES = 3
QUICKLY: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": (Phase.generate,),
    "suppress_health_check": list(HealthCheck),
}
#: Which engines and cursors exist is more than a schema can say; unknown fields are ignored.
_NOT_PROMISED = [positive_data_acceptance, negative_data_rejection]


def test_answers_conform_to_the_description(running: Running) -> None:
    url = f"http://127.0.0.1:{running.port}/openapi.json"
    headers = bearer(running.service.key)
    count = 0
    for result in schemathesis.openapi.from_url(url).get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=EXAMPLES, **QUICKLY)
            def conforms(case: schemathesis.Case) -> None:
                case.call_and_validate(headers=headers, excluded_checks=_NOT_PROMISED)

            with suppress(Unsatisfiable):  # Nothing about GET /healthz can be wrong.
                conforms()
        count += 1
    assert count > 10
