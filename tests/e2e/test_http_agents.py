"""Agents as HTTP endpoints: what they are asked, what they may answer, what can go wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from resonantgenesis import (
    AgentFailed,
    Conflict,
    InvalidRequest,
    RateLimited,
    ResonantGenesis,
)
from support.credentials import make_tenant, sync_client
from support.server import KEY, PATIENCE, ServerProcess, bearer

pytestmark = pytest.mark.anyio

NDJSON, SSE = "application/x-ndjson", "text/event-stream"
Write = Callable[[bytes], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that may call endpoints on this machine, at 127.0.0.1 alone."""
    made = ServerProcess(
        tmp_path_factory.mktemp("server") / "data", http_agents__allow_hosts="127.0.0.1"
    )
    yield made.start()
    made.stop()
    assert made.errors() == []


@dataclass
class Endpoint:
    """An endpoint that answers as `answer` says; `requests` are those that came."""

    answer: Callable[[Request, Write], Awaitable[None]]
    port: int = 0
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    #: Set when a connection was closed by the server.
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/turns?a=1"

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = listening.sockets[0].getsockname()[1]
        self.scheme = "http" if tls is None else "https"
        try:
            yield self
        finally:
            listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            exact = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
            request = Request(head[0], {k.lower(): v for k, v in exact.items()}, body)
            self.requests.append(request)
            answering = asyncio.ensure_future(self.answer(request, write))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.left.set()
            answering.cancel()
            gone.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def turn(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def head(kind: str = NDJSON, status: str = "200 OK", **more: str) -> bytes:
    fields = {"Content-Type": kind, "Transfer-Encoding": "chunked", **more}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def part(data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return b"%x\r\n%b\r\n" % (len(raw), raw)


LAST = b"0\r\n\r\n"


def nested(levels: int) -> Any:
    value: Any = "inmost"
    for _ in range(levels):
        value = [value]
    return value


def saying(*lines: Any, kind: str = NDJSON) -> Callable[[Request, Write], Awaitable[None]]:
    """Answers with these chunks."""

    async def answer(_request: Request, write: Write) -> None:
        await write(head(kind))
        for line in lines:
            text = line if kind == "text/plain" else json.dumps(line)
            if kind == SSE:
                text = f"data: {text}\n"
            await write(part(text if kind == "text/plain" else f"{text}\n"))
        await write(LAST)

    return answer


def failing(status: str, **more: str) -> Callable[[Request, Write], Awaitable[None]]:
    async def answer(_request: Request, write: Write) -> None:
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
        await write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{fields}\r\n".encode())

    return answer


def in_turn(
    *answers: Callable[[Request, Write], Awaitable[None]],
) -> Callable[[Request, Write], Awaitable[None]]:
    """One after the other; the last one for all that follow."""
    left = list(answers)

    async def answer(request: Request, write: Write) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, write)

    return answer


@asynccontextmanager
async def asking(
    server: ServerProcess, endpoint: Endpoint, **fields: Any
) -> AsyncIterator[tuple[ResonantGenesis, str, str]]:
    """A client, the id of an agent at the endpoint, and its secret."""
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        agent = await sdk.agents.create(
            name="remote", engine="http", **{"url": endpoint.url, **fields}
        )
        assert agent.secret is not None
        yield sdk, agent.id, agent.secret


def is_signed(request: Request, secret: str) -> bool:
    """As the page of Standard Webhooks says."""
    content = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.digest(key, content + request.body, hashlib.sha256)).decode()
    return f"v1,{wanted}" in request.headers["webhook-signature"].split(" ")


EVERY: list[Any] = [
    {"type": "step", "name": "look"},
    {"type": "reasoning", "content": "hm"},
    {"type": "tool_call", "tool": "t", "args": {"a": 1}, "call_id": "c"},
    {"type": "tool_result", "tool": "t", "result": [1], "call_id": "c"},
    {"type": "source", "url": "https://a.example"},
    {"type": "step", "name": "look", "status": "completed"},
    "text ",
    {"type": "text", "content": "more"},
    {"type": "usage", "input_tokens": 3, "output_tokens": 4},
]


@pytest.mark.parametrize("kind", [NDJSON, SSE])
async def test_a_turn_is_posted_and_its_chunks_come_back(server: ServerProcess, kind: str) -> None:
    async with (
        Endpoint(saying(*EVERY, kind=kind)).running() as endpoint,
        asking(server, endpoint, instructions="be kind") as (sdk, agent, secret),
    ):
        stream = sdk.sessions.execute_stream(agent_id=agent, goal="hi", context={"a": 1})
        chunks = [chunk async for chunk in stream]
        assert [chunk.type for chunk in chunks] == [
            "step", "reasoning", "tool_call", "tool_result", "source", "step", "text", "text",
            "done",
        ]  # fmt: skip
        usage = chunks[-1].usage
        assert usage is not None
        assert (chunks[-1].output, usage.input_tokens) == ("text more", 3)
        again = await sdk.sessions.execute(
            agent_id=agent, session_id=chunks[-1].session_id, goal="again"
        )
        assert again.status == "success"
    first, second = endpoint.requests
    assert first.line == "POST /turns?a=1 HTTP/1.1"
    assert first.headers["webhook-id"] == f"{chunks[-1].session_id}.1"
    assert abs(int(first.headers["webhook-timestamp"]) - time.time()) < PATIENCE
    assert is_signed(first, secret)
    turn = first.turn
    assert (turn["goal"], turn["turn"], turn["context"]) == ("hi", 1, {"a": 1})
    assert (turn["agent_id"], turn["instructions"]) == (agent, "be kind")
    assert [past["goal"] for past in second.turn["history"]] == ["hi"]


@pytest.mark.parametrize(
    ("kind", "body", "output"),
    [
        ("text/plain; charset=utf-8", "grüße".encode(), "grüße"),
        (SSE, b': hb\n\ndata: "a"\r\n\r\nevent: x\nid: 1\ndata: "b"\n\ndata: [DONE]\n\nrest', "ab"),
        (SSE, b'data: {"type":\ndata: "text", "content": "two lines"}\n\n', "two lines"),
        (NDJSON, b'"a"\n\n{"type":"done"}\n"never"', "a"),
        (NDJSON, b'"a"\r\n"without a newline"', "awithout a newline"),
    ],
)
async def test_the_forms_of_an_answer(
    server: ServerProcess, kind: str, body: bytes, output: str
) -> None:
    """Byte by byte, as a network may part it."""

    async def answer(_request: Request, write: Write) -> None:
        await write(head(kind))
        for byte in body:
            await write(part(bytes([byte])))
        await write(LAST)

    async with (
        Endpoint(answer).running() as endpoint,
        asking(server, endpoint) as (sdk, agent, _),
    ):
        assert (await sdk.sessions.execute(agent_id=agent, goal="x")).output == output


async def test_a_failure_before_the_first_chunk_is_tried_again(server: ServerProcess) -> None:
    async def cut(_request: Request, write: Write) -> None:
        await write(head())

    answers = in_turn(failing("503 Busy", Retry_After="1"), cut, failing("500 Oh"), saying("well"))
    async with (
        Endpoint(answers).running() as endpoint,
        asking(server, endpoint) as (sdk, agent, secret),
    ):
        assert (await sdk.sessions.execute(agent_id=agent, goal="x")).output == "well"
        assert len({request.headers["webhook-id"] for request in endpoint.requests}) == 1
        assert all(is_signed(request, secret) for request in endpoint.requests)
        assert len(endpoint.requests) == 4


@pytest.mark.parametrize(
    ("answer", "kind", "code", "words", "tries"),
    [
        (failing("404 Not Found"), AgentFailed, "AGENT_FAILED", "answered 404 Not Found", 1),
        (failing("302 Found", Location="/"), AgentFailed, "AGENT_FAILED", "answered 302", 1),
        (failing("503 Busy"), AgentFailed, "MODEL_UNAVAILABLE", "answered 503", 4),
        (
            failing("429 Slow", Retry_After="99"), RateLimited, "RATE_LIMITED",
            "answered 429 Too Many Requests", 1,
        ),
        (saying("x", kind="text/html"), AgentFailed, "AGENT_FAILED", "with text/html", 1),
        (saying({"type": "x"}), AgentFailed, "AGENT_FAILED", "a chunk of type 'x'", 1),
        (saying({"type": "text", "content": "", "parent": "x"}), AgentFailed, "AGENT_FAILED",
         "whose agent_id is not given", 1),
        (saying(7), AgentFailed, "AGENT_FAILED", "neither a text nor an object", 1),
        (
            saying({"type": "data", "name": "d", "data": nested(300)}), AgentFailed,
            "AGENT_FAILED", "a data chunk nests deeper than 200 levels", 1,
        ),
        (
            saying({"type": "error", "message": "full", "retry_after": 1e308}), AgentFailed,
            "AGENT_FAILED", "retry_after is not a number of seconds up to", 1,
        ),
        (
            saying("a", {"type": "error", "message": "no luck", "code": "TIMEOUT"}), Exception,
            "TIMEOUT", "no luck", 1,
        ),
    ],
)  # fmt: skip
async def test_what_fails_a_turn(
    server: ServerProcess,
    answer: Callable[[Request, Write], Awaitable[None]],
    kind: type[Exception],
    code: str,
    words: str,
    tries: int,
) -> None:
    async with (
        Endpoint(answer).running() as endpoint,
        asking(server, endpoint) as (sdk, agent, _),
    ):
        with pytest.raises(kind, match=words) as failed:
            async for _chunk in sdk.sessions.execute_stream(agent_id=agent, goal="x"):
                pass
        assert getattr(failed.value, "code", "") == code
        assert len(endpoint.requests) == tries


@pytest.mark.parametrize("framed", [True, False])
async def test_a_cut_after_the_first_chunk_loses_the_turn(
    server: ServerProcess, framed: bool
) -> None:
    async def answer(_request: Request, write: Write) -> None:
        if framed:
            await write(head() + part('"begun "\n'))
        else:
            plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
            await write(plain + b'"begun "\n')

    async with (
        Endpoint(answer).running() as endpoint,
        asking(server, endpoint) as (sdk, agent, _),
    ):
        with pytest.raises(AgentFailed) as lost:
            async for _chunk in sdk.sessions.execute_stream(agent_id=agent, goal="x"):
                pass
        assert (lost.value.code, lost.value.retryable) == ("RUNNER_LOST", True)
        assert len(endpoint.requests) == 1


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_the_end_of_a_turn_closes_the_connection(server: ServerProcess, how: str) -> None:
    async def answer(_request: Request, write: Write) -> None:
        await write(head() + part('"waiting"\n'))
        await asyncio.sleep(3600)

    async with (
        Endpoint(answer).running() as endpoint,
        asking(server, endpoint) as (sdk, agent, _),
    ):
        stream = sdk.sessions.execute_stream(
            agent_id=agent,
            goal="x",
            timeout_seconds=0.5 if how == "timeout" else 60,
            raise_on_error=False,
        )
        async for chunk in stream:
            if chunk.type == "text" and how == "cancel":
                await sdk.sessions.cancel(stream.session_id)
        await asyncio.wait_for(endpoint.left.wait(), PATIENCE)


async def test_a_turn_asks_and_is_posted_again_with_the_answer(server: ServerProcess) -> None:
    asks = saying("asking ", {"type": "ask", "kind": "input", "message": "Why?", "call_id": "why"})
    async with (
        Endpoint(in_turn(asks, saying("done"))).running() as endpoint,
        asking(server, endpoint) as (sdk, agent, _),
    ):
        stream = sdk.sessions.execute_stream(agent_id=agent, goal="x")
        assert [chunk.type async for chunk in stream][-1] == "waiting"
        await sdk.sessions.input(stream.session_id, "why", payload="so")
        chunks = [
            c async for c in sdk.sessions.join(stream.session_id, resume_from=stream.position)
        ]
        assert chunks[-1].output == "asking done"
    first, second = endpoint.requests
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert (first.turn["answers"], second.turn["answers"]["why"]["payload"]) == ({}, "so")


# -- addresses -----------------------------------------------------------------------------


async def test_addresses_inside_are_refused_also_behind_names_and_redirects(
    server: ServerProcess,
) -> None:
    async with Endpoint(saying("secret")).running() as inside:
        # `localhost` is this machine, and is not on the list; nor are other addresses of it.
        hosts = ("localhost", "127.0.0.2", "[::1]", "169.254.169.254", "2130706433")
        for host in hosts:
            await refused(server, f"https://{host}:{inside.port}/", "not on the public internet")
        target = f"https://localhost:{inside.port}/"
        redirecting = failing("307 Elsewhere", Location=target)
        async with Endpoint(redirecting).running() as endpoint:
            await refused(server, endpoint.url, "not on the public internet")
        for location in (f"http://localhost:{inside.port}/", "ftp://a", "http://a:b@127.0.0.1/"):
            redirecting = failing("308 Elsewhere", Location=location)
            async with Endpoint(redirecting).running() as endpoint:
                await refused(server, endpoint.url, "redirects to what is no address")
        assert inside.requests == []
        redirecting = failing("307 Elsewhere", Location=inside.url)
        async with (
            Endpoint(redirecting).running() as endpoint,
            asking(server, endpoint) as (sdk, agent, secret),
        ):
            assert (await sdk.sessions.execute(agent_id=agent, goal="x")).output == "secret"
            assert is_signed(inside.requests[0], secret)


async def refused(server: ServerProcess, url: str, words: str) -> None:
    async with asking(server, Endpoint(saying()), url=url) as (sdk, agent, _):
        with pytest.raises(AgentFailed, match=words):
            async for _chunk in sdk.sessions.execute_stream(agent_id=agent, goal="x"):
                pass


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "url"),
        ({"url": "http://agent.example/"}, "url"),
        ({"url": "ftp://agent.example/"}, "url"),
        ({"url": "https://a:b@agent.example/"}, "url"),
        ({"url": "https://agent.example:0/"}, "url"),
        ({"url": "nonsense"}, "url"),
        ({"url": "https://agent.example/", "secret": "whsec_short"}, "secret"),
        ({"url": "https://agent.example/", "secret": "nonsense"}, "secret"),
        ({"engine": "guide", "url": "https://agent.example/"}, "url"),
        ({"engine": "guide", "secret": "whsec_" + "A" * 32}, "secret"),
    ],
)
async def test_bad_endpoints_are_refused(
    server: ServerProcess, fields: dict[str, Any], name: str
) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        with pytest.raises(InvalidRequest) as bad:
            await sdk.agents.create(**{"name": "n", "engine": "http", **fields})
        assert list(bad.value.details["fields"]) == [name]


async def test_certificates_are_verified(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with Endpoint(saying("private")).running(tls) as endpoint:
        async with asking(server, endpoint) as (sdk, agent, _):
            with pytest.raises(AgentFailed, match=r"(?i)certificate") as failed:
                async for _chunk in sdk.sessions.execute_stream(agent_id=agent, goal="x"):
                    pass
            assert failed.value.code == "MODEL_UNAVAILABLE"
        assert endpoint.requests == []
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        trusting = ServerProcess(tmp_path / "data", http_agents__allow_hosts="127.0.0.1")
        try:
            await asyncio.to_thread(trusting.start)
            async with asking(trusting, endpoint) as (sdk, agent, _):
                assert (await sdk.sessions.execute(agent_id=agent, goal="x")).output == "private"
        finally:
            trusting.stop()


# -- secrets -------------------------------------------------------------------------------


async def test_a_secret_is_shown_once_and_rotated(server: ServerProcess) -> None:
    own = "whsec_" + base64.b64encode(b"x" * 24).decode()
    async with (
        Endpoint(saying("x")).running() as endpoint,
        asking(server, endpoint, secret=own) as (sdk, agent, secret),
    ):
        assert secret == own
        assert own not in repr(await sdk.agents.update(agent, name="other"))
        for shown in (await sdk.agents.get(agent), *(await sdk.agents.list()).data):
            assert "secret" not in shown.raw
        rotated = (await sdk.agents.update(agent, secret=None)).secret
        assert rotated not in {None, own}
        await sdk.sessions.execute(agent_id=agent, goal="x")
        (request,) = endpoint.requests
        assert is_signed(request, own)
        assert is_signed(request, rotated or "")
        # With its engine it loses its address, and the secret with it.
        changed = await sdk.agents.update(agent, engine="guide")
        assert (changed.url, changed.secret) == (None, None)
        back = await sdk.agents.update(agent, engine="http", url=endpoint.url)
        assert back.secret not in {None, own, rotated}
    store = b"".join(path.read_bytes() for path in server.data.rglob("*") if path.is_file())
    for secret in (own, rotated or "", back.secret or ""):
        assert secret.encode() not in store
        assert base64.b64decode(secret.removeprefix("whsec_")) not in store


async def test_a_repeat_shows_no_secret(server: ServerProcess) -> None:
    body = {"name": "once", "engine": "http", "url": "https://agent.example/"}
    headers = {**bearer(), "Idempotency-Key": "an-agent"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        first = await client.post("/v1/agents", json=body)
        assert first.status_code == 201
        again = await client.post("/v1/agents", json=body)
        assert again.status_code == 409
        assert again.json()["error"]["details"] == {"id": first.json()["id"]}
        assert "whsec_" not in again.text


async def test_events_show_the_address_and_no_secret(server: ServerProcess) -> None:
    with sync_client(server, headers=bearer()) as admin:
        tenant = make_tenant(admin, "events of endpoints")
    async with ResonantGenesis(api_key=tenant.key.key, base_url=server.url) as sdk:
        agent = await sdk.agents.create(name="n", engine="http", url="https://a.example/")
        await sdk.agents.update(agent.id, url="https://b.example/", secret=None)
        found = await sdk.request("GET", "/v1/events", params={"events": "agent.*"})
    changes = [event["data"]["changes"] for event in found["events"]]
    assert changes == [{}, {"url": "https://b.example/"}]
    assert "secret" not in json.dumps(found)


async def test_another_organization_has_its_own(server: ServerProcess) -> None:
    with sync_client(server, headers=bearer()) as admin:
        tenant = make_tenant(admin, "endpoints")
    async with Endpoint(saying("x")).running() as endpoint:
        async with ResonantGenesis(api_key=tenant.key.key, base_url=server.url) as other:
            await other.agents.create(id="ours", name="n", engine="http", url=endpoint.url)
        async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
            with contextlib.suppress(Conflict):
                await sdk.agents.create(id="ours", name="n", engine="guide")
            result = await sdk.sessions.execute(agent_id="ours", goal="count to 1")
            assert result.output == "1"
    assert endpoint.requests == []
