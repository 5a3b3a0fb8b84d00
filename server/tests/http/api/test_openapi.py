"""The description matches the server: every route is in it, and its answers conform."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from http_harness import Service, bearer, open_service, sockets
from httpx import ASGITransport, AsyncClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from resonantgenesis_server.http.api.docs import docs_router
from resonantgenesis_server.model.errors import NotFound
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


@pytest.mark.parametrize("folder", [".", "missing"])
async def test_without_the_site_the_pages_say_how_to_build_it(tmp_path: Path, folder: str) -> None:
    app = FastAPI()
    app.include_router(docs_router(app, tmp_path / folder))
    with pytest.raises(NotFound, match="make site"):
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            await client.get("/docs/")


async def test_paths_of_the_console_that_no_file_can_have_are_its_own_pages(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("the console")
    app = FastAPI()
    app.include_router(docs_router(app, console=tmp_path))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        for path in ("sessions", "%00", "a" * 300, "%2e%2e/etc/passwd"):
            answer = await client.get(f"/console/{path}")
            assert (answer.status_code, answer.text) == (200, "the console"), path
        for path in ("%00", "a" * 300):
            assert (await client.get(f"/console/assets/{path}")).status_code == 404, path


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


async def test_a_browser_gets_a_page_for_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("the documentation")
    (tmp_path / "site" / "policy.txt").write_text("default-src 'none'")
    app = FastAPI()
    app.include_router(docs_router(app, tmp_path / "site", console=tmp_path / "missing"))
    browser = {"Accept": "text/html,application/xhtml+xml"}
    async with AsyncClient(
        transport=ASGITransport(app), base_url="http://test", headers=browser
    ) as client:
        for path, start in (("nothing.html", "./"), ("a/b/c", "../../")):
            answer = await client.get(f"/docs/{path}")
            assert answer.status_code == 404
            assert answer.headers["content-type"].startswith("text/html")
            assert f'href="{start}"' in answer.text
        assert "make site" in (await client.get("/console/")).text
