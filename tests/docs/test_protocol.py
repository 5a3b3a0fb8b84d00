"""Every example of PROTOCOL.md, sent to a server from top to bottom: its answers are as shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.server import KEY, ServerProcess, bearer
from websockets.sync.client import ClientConnection, connect

PAGE = Path(__file__).resolve().parents[2] / "PROTOCOL.md"
_FENCE = re.compile(r"^```(http|websocket)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REQUEST = re.compile(r"^(GET|HEAD|POST|PATCH|DELETE) (/\S+)$")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
#: What differs each time, such as `sess_…`: kept, and put into the requests that follow.
_NAME = re.compile(r"[a-z]+_…")
#: Numbers that are the same each time; of others the type alone counts.
_EXACT = {"position", "turn", "step", "from", "former", "earliest", "size", "order", "id"}


@dataclass
class Exchange:
    """A request and its answer as the page shows them."""

    method: str
    path: str
    headers: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    status: int = 0
    answer_headers: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)


def exchanges_in(text: str) -> list[Exchange]:
    found: list[Exchange] = []
    lines: list[str] = []
    for line in text.splitlines():
        if match := _REQUEST.match(line):
            found.append(Exchange(match[1], match[2]))
            lines = found[-1].headers
        elif line.startswith("HTTP/1.1 "):
            found[-1].status = int(line.split()[1])
            lines = found[-1].answer_headers
        elif not line and lines is found[-1].headers:
            lines = found[-1].body
        elif not line and lines is found[-1].answer_headers:
            lines = found[-1].answer
        else:
            lines.append(line)
    return found


class Reader:
    """Somebody who tries the page's examples."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open = ExitStack()
        self._http = self._open.enter_context(
            httpx.Client(base_url=url, headers=bearer(), timeout=20)
        )
        self._socket: ClientConnection | None = None
        self._names = {"your_key": KEY}

    def close(self) -> None:
        self._open.close()

    # -- HTTP ------------------------------------------------------------------------------

    def exchange(self, shown: Exchange) -> None:
        headers = dict(line.split(": ", 1) for line in shown.headers)
        body = self._filled("".join(f"{line}\n" for line in shown.body).rstrip("\n"))
        if body and "Content-Type" not in headers:
            headers["Content-Type"] = "application/json"
        elif body:
            body += "\n"
        with self._http.stream(
            shown.method, self._filled(shown.path), headers=headers, content=body or None
        ) as answer:
            assert answer.status_code == shown.status, answer.read()
            for line in shown.answer_headers:
                name, value = line.split(": ", 1)
                self._same(value, answer.headers.get(name), name)
            self._body("\n".join(shown.answer).strip("\n"), answer)

    def _body(self, shown: str, answer: httpx.Response) -> None:
        kind = answer.headers.get("content-type", "")
        if not shown:
            assert not answer.read() or answer.status_code >= 400
        elif kind.startswith("text/event-stream"):
            blocks = blocks_of(answer.iter_lines())
            for block in shown.split("\n\n"):
                self._frame(block.splitlines(), next(blocks))
        elif kind == "application/x-ndjson":
            for line, given in zip(shown.splitlines(), answer.iter_lines(), strict=False):
                if line != "…":
                    self._same(json.loads(line), json.loads(given))
        elif kind == "application/json":
            self._same(json.loads(shown), json.loads(answer.read()))
        else:
            assert answer.read().decode() == shown

    def _frame(self, shown: list[str], given: list[str]) -> None:
        assert len(shown) == len(given), given
        for line, other in zip(shown, given, strict=True):
            if line.startswith("data: {"):
                self._same(json.loads(line[6:]), json.loads(other[6:]))
            else:
                self._same(line, other)

    # -- WebSocket -------------------------------------------------------------------------

    def message(self, line: str) -> None:
        if self._socket is None:
            url = self._url.replace("http", "ws", 1) + "/v1/ws"
            self._socket = self._open.enter_context(connect(url))
        if line.startswith("→ "):
            self._socket.send(self._filled(line[2:]))
        else:
            self._same(json.loads(line[2:]), json.loads(self._socket.recv(timeout=20)))

    # -- what is the same ------------------------------------------------------------------

    def _filled(self, text: str) -> str:
        for name, value in self._names.items():
            text = text.replace(name, value)
        return text

    def _same(self, shown: Any, given: Any, where: str = "") -> None:
        match shown:
            case dict():
                assert list(shown) == list(given), where
                for name, value in shown.items():
                    self._same(value, given[name], f"{where}.{name}")
            case list():
                # A list is shown from its beginning.
                assert len(shown) <= len(given) and bool(shown) == bool(given), where
                for value, other in zip(shown, given, strict=False):
                    self._same(value, other, f"{where}[]")
            case str():
                assert isinstance(given, str), where
                self._same_text(shown, given, where)
            case int() | float() if not isinstance(shown, bool):
                assert isinstance(given, int | float), where
                assert shown == given or where.rpartition(".")[2] not in _EXACT, where
            case _:
                assert shown is given, where

    def _same_text(self, shown: str, given: str, where: str) -> None:
        if _TIME.fullmatch(shown):
            assert _TIME.fullmatch(given), where
            return
        pattern = re.escape(shown).replace("…", ".+")
        assert re.fullmatch(pattern, given, re.DOTALL), f"{where}: {shown} is {given}"
        if _NAME.fullmatch(shown):
            self._names[shown] = given


def blocks_of(lines: Iterator[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
        else:
            yield block
            block = []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("protocol") / "data")
    try:
        yield running.start()
    finally:
        running.stop()


def test_the_examples_are_what_the_server_does(server: ServerProcess) -> None:
    page = PAGE.read_text(encoding="utf-8")
    reader = Reader(server.url)
    try:
        for fence in _FENCE.finditer(page):
            place = f"PROTOCOL.md, line {page[: fence.start()].count(chr(10)) + 1}"
            try:
                if fence[1] == "http":
                    for exchange in exchanges_in(fence[2]):
                        reader.exchange(exchange)
                else:
                    for line in fence[2].splitlines():
                        reader.message(line)
            except (AssertionError, TimeoutError, StopIteration) as error:
                raise AssertionError(f"{place}: {error}") from error
    finally:
        reader.close()


def test_every_endpoint_and_message_is_described(server: ServerProcess) -> None:
    page = PAGE.read_text(encoding="utf-8")
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            endpoint = f"{method.upper()} {re.sub(r'{[a-z]+_id}', '{id}', path)}"
            assert re.search(rf"{re.escape(endpoint)}(?![\w/.])", page), endpoint
    schemas = httpx.get(f"{server.url}/asyncapi.json").json()["components"]["schemas"]
    kinds = {
        schema["properties"]["type"]["const"]
        for schema in schemas.values()
        if "const" in schema.get("properties", {}).get("type", {})
    }
    assert {"subscribe", "subscribed", "cursor", "draining"} <= kinds
    for kind in kinds:
        assert f'"type": "{kind}"' in page, kind
