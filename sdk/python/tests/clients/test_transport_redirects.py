"""Nothing of the SDK follows a redirection: the credential would go along."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis import InvalidRequest, ResonantGenesis, SyncResonantGenesis
from resonantgenesis.streaming import StreamingPool

from ..conftest import KEY, MakeClient

pytestmark = pytest.mark.anyio

STATUSES = (301, 302, 303, 307, 308)
#: A file's lookup comes first; only its content is answered with a redirection.
FILE = {"id": "file_1", "name": "a.bin", "size": 3, "sha256": "0" * 64}


class Redirector:
    """Answers everything with a redirection; `other` is where it points, and hears who comes."""

    def __init__(self) -> None:
        self.status = 302
        self.heads: list[str] = []
        self.strangers: list[str] = []
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        for serve in (self._redirect, self._stranger):
            self._servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()

    def port(self, index: int) -> int:
        port: int = self._servers[index].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port(0)}"

    async def _redirect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        target = head.split()[1]
        if head.startswith("GET /v1/files/file_1 "):
            body = json.dumps(FILE)
            start = (
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            )
            writer.write(f"{start}\r\nConnection: close\r\n\r\n{body}".encode())
        else:
            scheme = "ws" if "upgrade: websocket" in head.lower() else "http"
            place = f"{scheme}://user:secret@localhost:{self.port(1)}{target}?token=secret#secret"
            start = f"HTTP/1.1 {self.status} Elsewhere\r\nLocation: {place}\r\nContent-Length: 0"
            writer.write(f"{start}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def _stranger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.strangers.append((await reader.read(65536)).decode())
        writer.close()


@pytest.fixture
async def redirector() -> AsyncIterator[Redirector]:
    made = Redirector()
    await made.start()
    yield made
    await made.stop()


async def _iterated(stream: Any) -> None:
    async for _ in stream:
        pass


async def _entered(context: Any) -> None:
    async with context:
        pass


CALLS: dict[str, Callable[[ResonantGenesis, Path], Awaitable[Any]]] = {
    "call": lambda client, _: client.agents.list(),
    "post": lambda client, _: client.tokens.create(["sessions:read"]),
    "stream": lambda client, _: _iterated(client.sessions.execute_stream("a", "9")),
    "join": lambda client, _: _iterated(client.sessions.join("s")),
    "events": lambda client, _: _iterated(client.events.subscribe(since="c1")),
    "upload": lambda client, _: client.files.upload(b"abc", name="a.bin"),
    "download": lambda client, folder: client.files.download("file_1", folder),
    "socket": lambda client, _: _entered(client.realtime()),
}


def _check(error: InvalidRequest, redirector: Redirector) -> None:
    assert f"localhost:{redirector.port(1)}/v1/" in str(error)
    assert "secret" not in str(error) and KEY not in str(error)
    assert "secret" not in str(error.details) and KEY not in str(error.details)
    assert error.status == redirector.status and not error.retryable
    assert redirector.heads and redirector.strangers == []


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", CALLS)
async def test_no_redirection_is_followed(
    redirector: Redirector, make_client: MakeClient, tmp_path: Path, name: str, status: int
) -> None:
    redirector.status = status
    client = make_client(redirector.url)
    with pytest.raises(InvalidRequest) as caught:
        await CALLS[name](client, tmp_path)
    _check(caught.value, redirector)
    assert list(tmp_path.iterdir()) == []


async def test_nor_by_a_pool(redirector: Redirector) -> None:
    pool = StreamingPool(api_key=KEY, base_url=redirector.url)
    with pytest.raises(InvalidRequest) as caught:
        async with pool.get_connection():
            pass
    _check(caught.value, redirector)


async def test_nor_by_the_synchronous_client(redirector: Redirector, tmp_path: Path) -> None:
    def calls(client: SyncResonantGenesis) -> list[Callable[[], Any]]:
        return [
            client.agents.list,
            lambda: list(client.sessions.execute_stream("a", "9")),
            lambda: list(client.events.subscribe(since="c1")),
            lambda: client.files.upload(b"abc", name="a.bin"),
            lambda: client.files.download("file_1", tmp_path),
        ]

    def run() -> None:
        with SyncResonantGenesis(api_key=KEY, base_url=redirector.url) as client:
            for call in calls(client):
                with pytest.raises(InvalidRequest) as caught:
                    call()
                _check(caught.value, redirector)

    await asyncio.to_thread(run)


async def test_a_body_of_ours_hides_no_redirection(
    server: Any, client: ResonantGenesis, make_client: MakeClient
) -> None:
    body = {"error": {"code": "UNAVAILABLE", "message": "try again"}}
    for location in ("/elsewhere?key=secret", "//other/x", "http://[", ""):
        server.fail_next(r"/v1/agents", 302, body, {"Location": location})
        with pytest.raises(InvalidRequest, match="redirects") as caught:
            await client.agents.list()
        assert "secret" not in str(caught.value)
    assert len(server.requests) == 4


SAMPLE = """
import asyncio, sys
from resonantgenesis import ResonantGenesis, StreamError

async def main():
    client = ResonantGenesis(api_key="rg_test_key", base_url=sys.argv[1])
    try:
        async with client.realtime():
            print("connected")
    except StreamError as error:
        print(type(error).__name__, error)

asyncio.run(main())
"""


async def test_nor_with_the_oldest_sockets(redirector: Redirector) -> None:
    """`websockets` of .venv-guide is the oldest release that the SDK takes."""
    root = Path(__file__).resolve().parents[4]
    python = root / ".venv-guide" / "bin" / "python"
    assert python.exists(), "make .venv-guide/.done"
    ran = await asyncio.to_thread(
        subprocess.run,
        [python, "-c", textwrap.dedent(SAMPLE), redirector.url],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "sdk" / "python" / "src")},
        timeout=30,
    )
    assert ran.stdout.startswith("InvalidRequest"), ran
    assert redirector.strangers == []
