"""That fetch_url reaches nothing inside, whatever names and redirects say."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore
import pytest
from resonantgenesis_server.agents.tools.base import NO_CONTEXT, ToolError
from resonantgenesis_server.agents.tools.fetch.network import (
    AddressRefused,
    PublicNetwork,
)
from resonantgenesis_server.agents.tools.fetch.url import FetchUrl, fetch_tool
from resonantgenesis_server.agents.tools.settings import AllowedHost
from web_site import WebSite

pytestmark = pytest.mark.anyio

PUBLIC = "93.184.216.34"


class Dns:
    """Answers each lookup of a name with its next list of addresses, the last one for ever."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answers = self.names.get(host.lower().rstrip("."))
        if answers is None:
            return [host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Stream(httpcore.AsyncNetworkStream):
    """A connection that says it is with `peer`."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, ours: str, peer: str) -> None:
        self._inner, self._ours, self._peer = inner, ours, peer
        self.written = b""
        self.closed = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.written += buffer
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        self.closed = True
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return {"client_addr": (self._ours, 1), "server_addr": (self._peer, 80)}.get(info)


class Internet(httpcore.AnyIOBackend):
    """Every public address is the test's web server; `ours` is this machine's address there."""

    def __init__(self, port: int, ours: str = "198.51.100.7") -> None:
        self.port, self.ours = port, ours
        self.connected: list[str] = []
        self.streams: list[Stream] = []
        self.peer: str | None = None
        self.dead: set[str] = set()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        if host in self.dead:
            raise httpcore.ConnectError("refused")
        inner = await super().connect_tcp("127.0.0.1", self.port, timeout)
        self.streams.append(Stream(inner, self.ours, self.peer or host))
        return self.streams[-1]


class World:
    def __init__(self, site: WebSite) -> None:
        self.site = site
        self.dns = Dns()
        self.internet = Internet(site.port)
        self.tool = FetchUrl(PublicNetwork([], self.dns, self.internet))

    async def fetch(self, url: str) -> str:
        result: Any = await self.tool.call({"url": url}, NO_CONTEXT)
        return str(result["text"])


@pytest.fixture
async def world(site: WebSite) -> AsyncIterator[World]:
    site.page("/", "reached", "text/plain")
    made = World(site)
    yield made
    await made.tool.close()


async def test_a_public_name_is_reached_at_the_address_that_was_checked(world: World) -> None:
    world.dns.names["a.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert await world.fetch("http://a.example/") == "reached"
    assert world.internet.connected == [PUBLIC]
    assert world.dns.asked == ["a.example"]  # once: what it says the second time changes nothing
    assert world.site.requests[0].headers["host"] == "a.example"


@pytest.mark.parametrize(
    "address",
    (
        *("127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1"),
        *("::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "fe80::1%lo", "2002:7f00:1::"),
    ),
)
async def test_a_name_that_points_inside_is_refused(world: World, address: str) -> None:
    world.dns.names["a.example"] = [[address]]
    with pytest.raises(AddressRefused, match=r"a\.example is not on the public internet"):
        await world.fetch("http://a.example/")
    assert world.internet.connected == []


async def test_a_name_that_changes_its_mind_is_checked_each_time(world: World) -> None:
    world.dns.names["a.example"] = [[PUBLIC], ["127.0.0.1"]]
    await world.fetch("http://a.example/")
    with pytest.raises(AddressRefused):
        await world.fetch("http://a.example/")
    assert world.internet.connected == [PUBLIC]


async def test_of_several_addresses_only_public_ones_are_tried(world: World) -> None:
    world.dns.names["a.example"] = [["127.0.0.1", "2606:4700::1", "10.0.0.1", PUBLIC, "::1"]]
    world.internet.dead = {"2606:4700::1"}
    assert await world.fetch("http://a.example/") == "reached"
    assert world.internet.connected == ["2606:4700::1", PUBLIC]


async def test_only_so_many_addresses_are_tried(world: World) -> None:
    many = [f"93.184.216.{n}" for n in range(40)]
    world.dns.names["a.example"] = [many]
    world.internet.dead = set(many)
    with pytest.raises(ToolError, match="could not be fetched"):
        await world.fetch("http://a.example/")
    assert world.internet.connected == many[:4]


@pytest.mark.parametrize(
    "host",
    (
        *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "0.0.0.0", "[::1]"),
        *("localhost", "LOCALHOST.", "[::ffff:7f00:1]", "[::]", "[::ffff:0:0]"),
    ),
)
async def test_this_machine_by_any_spelling_is_refused(site: WebSite, host: str) -> None:
    """With the system's own resolver and real connections."""
    tool = fetch_tool([])
    with pytest.raises(
        ToolError, match=r"not on the public internet|does not resolve|not an address"
    ):
        await tool.call({"url": site.url("/", host)}, NO_CONTEXT)
    await tool.close()
    assert site.requests == []


async def test_a_redirect_to_the_inside_is_refused(world: World) -> None:
    world.site.redirect("/away", "http://127.0.0.1/admin")
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1 is not on the public internet"):
        world.dns.names["a.example"] = [[PUBLIC]]
        await world.fetch("http://a.example/away")
    assert world.internet.connected == [PUBLIC]


async def test_a_redirect_to_a_name_that_points_inside_is_refused(world: World) -> None:
    world.dns.names |= {"a.example": [[PUBLIC]], "b.example": [["10.0.0.1"]]}
    world.site.redirect("/away", "http://b.example/")
    with pytest.raises(AddressRefused, match=r"b\.example is not on the public internet"):
        await world.fetch("http://a.example/away")


async def test_a_redirect_to_the_same_name_is_looked_up_again(world: World) -> None:
    world.dns.names["a.example"] = [[PUBLIC], ["127.0.0.1"]]
    world.site.redirect("/away", "/")
    with pytest.raises(AddressRefused):
        await world.fetch("http://a.example/away")
    assert world.dns.asked == ["a.example", "a.example"]
    assert world.internet.connected == [PUBLIC]


async def test_a_public_address_of_this_machine_gets_nothing(world: World) -> None:
    world.internet.ours = PUBLIC
    world.dns.names["a.example"] = [[PUBLIC]]
    with pytest.raises(AddressRefused, match="leads back to this server's own network"):
        await world.fetch("http://a.example/")
    (stream,) = world.internet.streams
    assert (stream.written, stream.closed) == (b"", True)


async def test_a_connection_that_ends_up_inside_gets_nothing(world: World) -> None:
    world.internet.peer = "10.0.0.1"
    world.dns.names["a.example"] = [[PUBLIC]]
    with pytest.raises(AddressRefused, match="own network"):
        await world.fetch("http://a.example/")
    assert world.internet.streams[0].written == b""


async def test_a_name_that_does_not_resolve_is_said() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    tool = FetchUrl(PublicNetwork([], lookup))
    with pytest.raises(ToolError, match=r"the name gone\.example does not resolve"):
        await tool.call({"url": "http://gone.example/"}, NO_CONTEXT)
    await tool.close()


async def test_proxies_of_the_environment_are_not_used(
    site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", site.url())
    monkeypatch.setenv("ALL_PROXY", site.url())
    tool = fetch_tool([])
    with pytest.raises(AddressRefused):
        await tool.call({"url": "http://127.0.0.1:1/"}, NO_CONTEXT)
    await tool.close()
    assert site.requests == []


async def test_an_allowed_host_is_reached_by_its_name_and_port_only(site: WebSite) -> None:
    site.page("/", "inside", "text/plain")
    dns = Dns(wiki_intra=[["127.0.0.1"]])
    allowed = [AllowedHost.parse(f"Wiki.intra:{site.port}")]
    tool = FetchUrl(PublicNetwork(allowed, dns))
    found: Any = await tool.call({"url": site.url("/", "WIKI.intra.")}, NO_CONTEXT)
    assert found["text"] == "inside"
    for url in (site.url(), "http://wiki.intra:1/", site.url("/", "x.wiki.intra")):
        dns.names["x.wiki.intra"] = [["127.0.0.1"]]
        with pytest.raises(AddressRefused):
            await tool.call({"url": url}, NO_CONTEXT)
    site.redirect("/away", site.url("/", "127.0.0.1"))
    with pytest.raises(AddressRefused):
        await tool.call({"url": site.url("/away", "wiki.intra")}, NO_CONTEXT)
    await tool.close()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Wiki.Intra", "wiki.intra", None),
        ("wiki.intra.:80", "wiki.intra", 80),
        ("10.0.0.1:8080", "10.0.0.1", 8080),
        ("::1", "::1", None),
        ("[::1]", "::1", None),
        ("[::1]:8080", "::1", 8080),
    ],
)
def test_hosts_of_the_settings(text: str, host: str, port: int | None) -> None:
    assert AllowedHost.parse(text) == AllowedHost(host, port)


@pytest.mark.parametrize(
    "text", ["", ":80", "a:0", "a:65536", "a:x", "http://a", "a/b", "u@a", "*.a", "[::1]x", "a b"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST or HOST:PORT"):
        AllowedHost.parse(text)


async def test_local_sockets_are_no_internet() -> None:
    with pytest.raises(AddressRefused):
        await PublicNetwork().connect_unix_socket("/run/docker.sock")
