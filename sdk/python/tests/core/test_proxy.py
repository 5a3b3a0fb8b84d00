"""Proxy variables: the server is reached, or an error names the variable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from resonantgenesis import (
    ConnectionLost,
    InvalidSettings,
    ResonantGenesis,
    StreamError,
    SyncResonantGenesis,
)
from resonantgenesis._core.proxy import proxy_for
from resonantgenesis._realtime import websocket
from resonantgenesis.streaming import ReconnectingWebSocket, StreamingPool

from ..conftest import KEY, ServerThread
from ..support.fake_server import FakeServer
from ..support.fake_socket import FakeSocketServer

pytestmark = pytest.mark.anyio

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
Env = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: Env) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://h", "h"),
        ("http://h:80", "other, h:80"),
        ("https://h", "h:443"),
        ("http://a.h.example", "h.example"),
        ("http://a.h.example", ".h.example"),
        ("http://a.h.example", "*.h.example"),
        ("http://H.Example.", "h.EXAMPLE"),
        ("http://h", "x y h"),
        ("http://h", "http://h"),
        ("http://anything", "*"),
        ("http://127.0.0.1:8080", "127.0.0.1"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "127.0.0.0/8"),
        ("http://127.0.0.1:8080", "127.*"),
        ("http://10.2.3.4", "192.168.0.0/16,10.0.0.0/8"),
        ("http://[::1]:8080", "::1"),
        ("http://[::1]:8080", "[::1]"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]:8080", "::1/128"),
        ("http://[fd00::7]", "fd00::/8"),
        ("http://[fd00::7]", "[fd00::]/8"),
        ("http://[FD00:0:0::7]", "fd00::7"),
        ("http://[::ffff:10.0.0.1]", "10.0.0.0/8"),
        ("ws://h/v1/ws", "h"),
        ("wss://h/v1/ws", "h:443"),
    ],
)
def test_an_excluded_server_has_no_proxy(monkeypatch: Env, url: str, no_proxy: str) -> None:
    # What would be used is none at all: nobody looks.
    monkeypatch.setenv("ALL_PROXY", "socks5://:nonsense")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for(url) is None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://h", ""),
        ("http://h", ",, ,"),
        ("http://xh", "h"),
        ("http://h", "a.h"),
        ("http://h:81", "h:80"),
        ("http://h", "h:port"),
        ("http://127.0.0.1:8080", "127.0.0.1:8081"),
        ("http://127.0.0.1", "1"),
        ("http://127.0.0.1", ".0.0.1"),
        ("http://11.0.0.1", "10.0.0.0/8"),
        ("http://[::1]:8080", "[::1]:80"),
        ("http://[::1]:8080", "[::2], ::2/128, [::1, ::1], [, ]:80, /8, ::/x"),
        ("http://h", "fd00::/8"),
    ],
)
def test_another_server_has_one(monkeypatch: Env, url: str, no_proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://p:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxy = proxy_for(url)
    assert proxy is not None and proxy.url == "http://p:3128"


@pytest.mark.parametrize(
    ("variables", "url", "source"),
    [
        ({"HTTP_PROXY": "p:3128"}, "http://p:3128", "HTTP_PROXY"),
        ({"http_proxy": " http://p "}, "http://p:80", "http_proxy"),
        ({"http_proxy": "http://a", "HTTP_PROXY": "http://b"}, "http://a:80", "http_proxy"),
        ({"ALL_PROXY": "socks5://p"}, "socks5://p:1080", "ALL_PROXY"),
        ({"all_proxy": "socks://p:1/"}, "socks5://p:1", "all_proxy"),
        ({"all_proxy": "socks5h://u:p%40@[::1]:1"}, "socks5h://u:p%40@[::1]:1", "all_proxy"),
        ({"HTTP_PROXY": "http://u@p:1", "ALL_PROXY": "x://"}, "http://u:@p:1", "HTTP_PROXY"),
        ({"HTTPS_PROXY": "nonsense://"}, None, ""),
        ({"HTTP_PROXY": "  "}, None, ""),
    ],
)
def test_which_variable_counts(
    monkeypatch: Env, variables: dict[str, str], url: str | None, source: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for("http://h")
    assert (proxy and proxy.url) == url
    assert proxy is None or proxy.source == f"the variable {source}"
    assert "p%40" not in repr(proxy)


MALFORMED = [
    "ftp://p:1",
    "socks4://p:1",
    "http://",
    "http://p:port",
    "http://p:99999",
    "http://p:0",
    "http://[::1",
    "http://u:secret/1@p:1",
    "http://u:secret#1@p:1",
    "http://u:secret@p p:1",
    "http://p..x:1",
    "http://" + "x" * 80,
    "://p",
    "http://p\x7f:1",
]


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy"])
def test_what_names_no_proxy_is_an_error_of_ours(monkeypatch: Env, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    for make in (ResonantGenesis, SyncResonantGenesis):
        with pytest.raises(InvalidSettings, match=f"the variable {name} ") as caught:
            make(api_key=KEY, base_url="http://h")
        assert isinstance(caught.value, StreamError) and isinstance(caught.value, ValueError)
        assert "secret" not in str(caught.value)
    # It stands in nobody's way whose server needs no proxy.
    monkeypatch.setenv("NO_PROXY", "h")
    SyncResonantGenesis(api_key=KEY, base_url="http://h").close()


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://h:port", "http://a..b", "http://" + "x" * 80]
)
def test_an_address_that_is_none_too(url: str) -> None:
    with pytest.raises(InvalidSettings, match="base_url"):
        ResonantGenesis(api_key=KEY, base_url=url)


def test_certificates_that_cannot_be_read_too(monkeypatch: Env) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    with pytest.raises(InvalidSettings, match="SSL_CERT_FILE"):
        ResonantGenesis(api_key=KEY, base_url="http://h")


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "127.0.0.0/8", "[::1],127.0.0.1:*", "*"])
async def test_a_server_that_is_excluded_is_reached(
    server: FakeServer, monkeypatch: Env, no_proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", no_proxy.replace(":*", f":{server.port}"))
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        assert len([chunk async for chunk in client.sessions.execute_stream("a", "9")]) == 9


async def test_a_client_may_go_around_them(server: FakeServer, monkeypatch: Env) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    async with ResonantGenesis(api_key=KEY, base_url=server.url, trust_env=False) as client:
        assert list(await client.agents.list()) == []


def test_by_the_synchronous_client_as_well(served: ServerThread, monkeypatch: Env) -> None:
    monkeypatch.setenv("HTTP_PROXY", "nonsense://")
    monkeypatch.setenv("no_proxy", "fd00::/8,[::1],127.0.0.1/32")
    with SyncResonantGenesis(api_key=KEY, base_url=served.server.url) as client:
        assert len(list(client.sessions.execute_stream("a", "9"))) == 9


#: The lowest release of `websockets` that the package takes knows none.
with_proxies = pytest.mark.skipif(
    not websocket.KNOWS_PROXIES, reason="websockets before 15 knows no proxies"
)


async def test_a_websockets_library_that_knows_no_proxies(monkeypatch: Env) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1080")
    monkeypatch.setattr(websocket, "KNOWS_PROXIES", False)
    with pytest.raises(InvalidSettings, match=r"ALL_PROXY.*websockets 15"):
        await ReconnectingWebSocket("ws://h", KEY).connect()


@with_proxies
async def test_socks_without_its_library(monkeypatch: Env) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://u:secret@127.0.0.1:1080")
    # As if it was not installed, whether it is or not.
    monkeypatch.setattr("resonantgenesis._http.adapter.find_spec", lambda name: None)
    with pytest.raises(InvalidSettings, match=r"ALL_PROXY.*httpx\[socks\]") as caught:
        ResonantGenesis(api_key=KEY, base_url="http://h")
    assert "secret" not in str(caught.value)
    monkeypatch.setattr("resonantgenesis._realtime.websocket.find_spec", lambda name: None)
    pool = StreamingPool(api_key=KEY, base_url="http://h")
    with pytest.raises(InvalidSettings, match=r"ALL_PROXY.*python-socks"):
        async with pool.get_connection():
            pass
    with pytest.raises(InvalidSettings, match=r"ALL_PROXY.*python-socks"):
        await ReconnectingWebSocket("ws://h", KEY).connect()


class Tunnel:
    """An HTTP proxy: CONNECT, and absolute targets; `used` says what for."""

    def __init__(self, target: int) -> None:
        self.used: list[str] = []
        self._target = target

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.used.append(head.split(b"\r\n")[0].decode())
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            method, target, rest = head.split(b" ", 2)
            path = b"/" + target.split(b"/", 3)[3]
            back.write(b" ".join([method, path, rest]))
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while block := await source.read(65536):
            sink.write(block)
            await sink.drain()
    except ConnectionError:
        pass
    sink.close()


@pytest.fixture
async def sockets() -> AsyncIterator[FakeSocketServer]:
    fake = FakeSocketServer()
    await fake.start()
    yield fake
    await fake.stop()


async def test_requests_go_through_the_proxy(server: FakeServer, monkeypatch: Env) -> None:
    tunnel = Tunnel(server.port)
    await tunnel.start()
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{tunnel.port}")
    async with ResonantGenesis(api_key=KEY, base_url="http://rg.example") as client:
        assert (await client.agents.list()).data == []
    assert tunnel.used == ["GET http://rg.example/v1/agents HTTP/1.1"]
    await tunnel.stop()
    with pytest.raises(ConnectionLost, match=f"rg.example:80 .*{tunnel.port}.*http_proxy"):
        async with ResonantGenesis(
            api_key=KEY, base_url="http://rg.example", max_retries=0
        ) as client:
            await client.agents.list()


@with_proxies
async def test_sockets_go_through_the_proxy(sockets: FakeSocketServer, monkeypatch: Env) -> None:
    tunnel = Tunnel(sockets.port)
    await tunnel.start()
    monkeypatch.setenv("ALL_PROXY", f"http://u@127.0.0.1:{tunnel.port}")
    client = ResonantGenesis(api_key=KEY, base_url="http://rg.example")
    async with client.realtime():
        assert len(sockets.handshakes) == 1
    assert tunnel.used == ["CONNECT rg.example:80 HTTP/1.1"]
    await tunnel.stop()
