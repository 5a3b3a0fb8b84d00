"""No server: said at once, once an outage, with the address."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable

import httpx
import pytest
from resonantgenesis import ConnectionLost, ResonantGenesis, SyncResonantGenesis
from resonantgenesis._core.actions import Lost
from resonantgenesis._core.settings import Settings
from resonantgenesis._http.adapter import outcome_of
from resonantgenesis.streaming import StreamingPool

from ..conftest import KEY, MakeClient, hasten
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def nowhere() -> str:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [r for r in caplog.records if r.name == "resonantgenesis"]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


async def _stream(client: ResonantGenesis) -> None:
    async for _ in client.sessions.execute_stream("a", "9"):
        pass


async def _socket(client: ResonantGenesis) -> None:
    async with client.realtime():
        pass


@pytest.mark.parametrize("use", [_stream, _socket, lambda client: client.agents.list()])
async def test_the_address_is_said_at_once_and_in_the_error(
    nowhere: str,
    make_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
    use: Callable[[ResonantGenesis], Awaitable[object]],
) -> None:
    client = make_client(f"http://{nowhere}", max_retries=3)
    with pytest.raises(ConnectionLost, match=f"could not connect to {nowhere}"):
        await use(client)
    [said] = warnings(caplog)
    assert nowhere in said and "default" not in said and KEY not in caplog.text
    assert "refused" in said or "Connect call failed" in said


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), os.strerror(errno.ECONNREFUSED)),
        (ExceptionGroup("", [OSError(errno.ENETUNREACH, "x")]), os.strerror(errno.ENETUNREACH)),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "the library's words"),
        (None, "the library's words"),
    ],
)
def test_the_reason_is_the_systems(cause: BaseException | None, said: str) -> None:
    error = httpx.ConnectError("the library's words")
    error.__context__ = httpx.ConnectError("the one below")
    error.__cause__ = OSError("all attempts failed")
    error.__cause__.__cause__ = cause
    settings = Settings("http://h", "k")
    lost = outcome_of(error, settings)
    assert lost == Lost(f"could not connect to h:80: {said}")


async def test_it_is_said_before_the_first_wait(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With waits of seconds, the word is there long before the error."""
    said = asyncio.Event()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.set()  # type: ignore[method-assign]
    logging.getLogger("resonantgenesis").addHandler(handler)
    client = ResonantGenesis(api_key=KEY, base_url=f"http://{nowhere}", max_retries=100)
    task = asyncio.create_task(_stream(client))
    try:
        async with asyncio.timeout(20):
            await said.wait()
        assert not task.done()
    finally:
        logging.getLogger("resonantgenesis").removeHandler(handler)
        task.cancel()
        await asyncio.wait([task])
        await client.aclose()


async def test_once_an_outage_and_when_it_is_over(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    server = FakeServer()
    await server.start()
    client = make_client(server.url, max_retries=2)
    place = f"127.0.0.1:{server.port}"
    await client.agents.list()
    assert warnings(caplog) == []
    await server.stop()
    for _ in range(3):
        with pytest.raises(ConnectionLost, match=place):
            await client.agents.list()
    assert len(warnings(caplog)) == 1
    await server.start()
    await _stream(client)
    await client.agents.list()
    assert warnings(caplog)[1:] == [f"connected again to http://{place}"]
    await server.stop()
    with pytest.raises(ConnectionLost, match=place):
        await client.agents.list()
    assert len(warnings(caplog)) == 3


def test_by_the_synchronous_client_too(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    client = hasten(SyncResonantGenesis(api_key=KEY, base_url=f"http://{nowhere}", max_retries=2))
    with client, pytest.raises(ConnectionLost, match=nowhere):
        list(client.sessions.execute_stream("a", "9"))
    assert len(warnings(caplog)) == 1


async def test_by_a_pool_too(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    pool = StreamingPool(api_key=KEY, base_url=f"http://{nowhere}", max_retries=1)
    with pytest.raises(ConnectionLost, match=nowhere):
        async with pool.get_connection():
            pass
    assert len(warnings(caplog)) == 1


async def test_the_default_address_is_named_as_one(
    nowhere: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RESONANTGENESIS_BASE_URL", raising=False)
    monkeypatch.setattr("resonantgenesis._core.settings.DEFAULT_BASE_URL", f"http://{nowhere}")
    named = rf"{nowhere} \(the default.*base_url.*RESONANTGENESIS_BASE_URL"
    async with ResonantGenesis(api_key=KEY, max_retries=0) as client:
        with pytest.raises(ConnectionLost, match=named):
            await client.agents.list()
    assert "RESONANTGENESIS_BASE_URL" in warnings(caplog)[0]
    monkeypatch.setenv("RESONANTGENESIS_BASE_URL", f"http://{nowhere}")
    async with ResonantGenesis(api_key=KEY, max_retries=0) as client:
        with pytest.raises(ConnectionLost) as caught:
            await client.agents.list()
    assert "default" not in str(caught.value)
