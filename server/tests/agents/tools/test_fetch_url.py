from __future__ import annotations

import asyncio
import gzip
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trustme
from resonantgenesis_server.agents.tools.base import NO_CONTEXT, ToolError
from resonantgenesis_server.agents.tools.fetch.network import PublicNetwork
from resonantgenesis_server.agents.tools.fetch.url import FetchUrl, fetch_tool, read_body
from resonantgenesis_server.agents.tools.settings import AllowedHost
from web_site import Answer, WebSite, open_site

pytestmark = pytest.mark.anyio

Fetch = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def tool() -> AsyncIterator[FetchUrl]:
    """Reaches 127.0.0.1, as somebody's own intranet would be."""
    made = fetch_tool([AllowedHost("127.0.0.1")], max_bytes=50_000)
    yield made
    await made.close()


@pytest.fixture
def fetch(tool: FetchUrl) -> Fetch:
    async def call(url: str, **args: Any) -> dict[str, Any]:
        result: Any = await tool.call({"url": url, **args}, NO_CONTEXT)
        return dict(result)

    return call


async def test_a_page_comes_as_text(site: WebSite, fetch: Fetch) -> None:
    url = site.page("/a", "<title>T</title><p>Hello <a href=b>you</a>", "text/html; charset=utf-8")
    assert await fetch(url + "#part") == {
        "url": url,
        "title": "T",
        "content_type": "text/html",
        "text": f"Hello [you]({site.url('/b')})",
        "length": len(f"Hello [you]({site.url('/b')})"),
    }
    (request,) = site.requests
    assert (request.method, request.path) == ("GET", "/a")
    assert request.headers["host"] == site.host
    assert request.headers["user-agent"].startswith("ResonantGenesis/")
    assert "cookie" not in request.headers
    assert "authorization" not in request.headers


async def test_long_texts_come_in_parts(site: WebSite, fetch: Fetch) -> None:
    url = site.page("/long", "0123456789" * 1000, "text/plain")
    first = await fetch(url, max_length=15)
    assert (first["text"], first["length"], first["next_start"]) == ("012345678901234", 10_000, 15)
    last = await fetch(url, start=9_995, max_length=15)
    assert last["text"] == "56789"
    assert "next_start" not in last
    assert (await fetch(url, start=10_001))["text"] == ""


async def test_only_so_many_bytes_are_read(site: WebSite, fetch: Fetch) -> None:
    site.answers["/endless"] = Answer(
        b"x" * 60_000, headers={"Content-Type": "text/plain"}, hold=True
    )
    found = await fetch(site.url("/endless"))
    assert found["length"] == 50_000
    assert found["note"] == "only the first 50000 bytes were read"
    await site.left()  # and the connection is not kept


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_is_compressed_unasked_is_read_and_bounded(
    site: WebSite, fetch: Fetch, encoding: str
) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    small = site.page("/small", packed(b"hello"), "text/plain", Content_Encoding=encoding)
    assert (await fetch(small))["text"] == "hello"
    assert site.requests[0].headers["accept-encoding"] == "identity"
    bomb = site.page("/bomb", packed(b"x" * 20_000_000), "text/plain", Content_Encoding=encoding)
    assert (await fetch(bomb))["length"] == 50_000
    broken = site.page("/broken", b"not packed", "text/plain", Content_Encoding=encoding)
    with pytest.raises(ToolError, match="compressed, and broken"):
        await fetch(broken)
    with pytest.raises(ToolError, match="encoded as 'br'"):
        await fetch(site.page("/br", b"x", "text/plain", Content_Encoding="br"))


async def test_a_bomb_takes_no_memory() -> None:
    packed = gzip.compress(bytes(100_000_000))

    async def chunks() -> AsyncIterator[bytes]:
        yield packed

    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    tracemalloc.start()
    try:
        body = await read_body(headers, chunks(), 150_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(body.data), body.cut) == (150_000, True)
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "kind",
    (
        *(
            "application/json",
            "application/ld+json",
            "text/csv",
            "application/xml",
            "image/svg+xml",
        ),
        *("application/javascript", "application/yaml", "text/markdown; charset=utf-8", ""),
    ),
)
async def test_texts_of_all_kinds(site: WebSite, fetch: Fetch, kind: str) -> None:
    found = await fetch(site.page("/x", '{"a": "<b>"}', kind))
    assert found["text"] == '{"a": "<b>"}'


@pytest.mark.parametrize(
    "kind", ["application/pdf", "image/png", "application/octet-stream", "video/mp4", "nonsense"]
)
async def test_what_is_no_text_is_refused_before_it_is_read(
    site: WebSite, fetch: Fetch, kind: str
) -> None:
    site.answers["/x"] = Answer(headers={"Content-Type": kind}, hold=True)
    with pytest.raises(ToolError, match="only texts can be fetched"):
        await fetch(site.url("/x"))
    await site.left()


async def test_binary_without_a_type_is_refused(site: WebSite, fetch: Fetch) -> None:
    with pytest.raises(ToolError, match="is not text"):
        await fetch(site.page("/x", b"\x7fELF\0\0", ""))


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("grün".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grün"),
        ("grün".encode(), "text/plain", "grün"),
        ("grün".encode("utf-16"), "text/plain", "grün"),
        (b"\xef\xbb\xbfgr\xc3\xbcn", "text/plain", "grün"),
        (b'<meta charset="windows-1252">gr\xfcn', "text/html", "grün"),
        ("<meta charset=shift_jis>緑".encode("shift_jis"), "text/html", "緑"),
        (b"gr\xfcn", "text/plain", "gr\ufffdn"),
        (b"gr\xc3\xbcn", "text/plain; charset=zlib_codec", "grün"),
        (b"gr\xc3\xbcn", "text/plain; charset=punycode", "grün"),
        (b"gr\xc3\xbcn", "text/plain; charset=nothing-known", "grün"),
    ],
)
async def test_encodings(site: WebSite, fetch: Fetch, body: bytes, kind: str, text: str) -> None:
    assert (await fetch(site.page("/x", body, kind)))["text"] == text


async def test_redirects_are_followed(site: WebSite, fetch: Fetch) -> None:
    site.page("/end", "here", "text/plain")
    site.redirect("/1", "/2", "301 Moved")
    site.redirect("/2", "3?x=1", "307 Temporary Redirect")
    site.redirect("/3", site.url("/end"), "308 Permanent Redirect")
    found = await fetch(site.url("/1"))
    assert (found["url"], found["text"]) == (site.url("/end"), "here")


async def test_redirects_are_bounded(site: WebSite, fetch: Fetch) -> None:
    site.redirect("/round", "/round")
    with pytest.raises(ToolError, match="more than 5 redirects"):
        await fetch(site.url("/round"))
    assert len(site.requests) == 6


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("ftp://127.0.0.1/x", "only http:// and https://"),
        ("file:///etc/passwd", "only http:// and https://"),
        ("http://user:secret@127.0.0.1/", "a name or password"),
        ("http://a:b/", "redirects to what is no address"),
        ("/" + "x" * 5_000, "redirects to what is no address"),
    ],
)
async def test_where_redirects_must_not_lead(
    site: WebSite, fetch: Fetch, location: str, says: str
) -> None:
    with pytest.raises(ToolError, match=says) as raised:
        await fetch(site.redirect("/x", location))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "status", ["404 Not Found", "500 Internal Server Error", "304 Not Modified"]
)
async def test_an_answer_that_is_no_success_is_said(
    site: WebSite, fetch: Fetch, status: str
) -> None:
    site.answers["/x"] = Answer(b"details", status)
    with pytest.raises(ToolError, match=f"/x answered {status}"):
        await fetch(site.url("/x"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must be a text"),
        ("nothing", "only http:// and https://"),
        ("ftp://example.org/", "only http:// and https://"),
        ("file:///etc/passwd", "only http:// and https://"),
        ("gopher://127.0.0.1:70/", "only http:// and https://"),
        ("http://", "only http:// and https://"),
        ("http:///path", "only http:// and https://"),
        ("http://user@127.0.0.1/", "a name or password"),
        ("http://127.0.0.1:0/", "no port 0"),
        ("http://127.0.0.1:99999/", "no port 99999"),
        ("http://127.0.0.1/" + "x" * 5_000, "too long"),
        ("http://a\nb/", "not an address"),
    ],
)
async def test_addresses_that_are_not_fetched(fetch: Fetch, url: str, says: str) -> None:
    with pytest.raises(ToolError, match=says):
        await fetch(url)


@pytest.mark.parametrize(
    "args", [{"start": -1}, {"start": "1"}, {"max_length": 0}, {"max_length": 100_001}]
)
async def test_bounds_of_parts(site: WebSite, fetch: Fetch, args: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="must be a whole number"):
        await fetch(site.page("/x", "x", "text/plain"), **args)


async def test_a_server_that_does_not_end_is_left_when_the_call_is(
    site: WebSite, fetch: Fetch
) -> None:
    site.answers["/x"] = Answer(b"beginning", headers={"Content-Type": "text/plain"}, hold=True)
    call = asyncio.create_task(fetch(site.url("/x")))
    await site.came()
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    await site.left()


async def test_nobody_there(site: WebSite, fetch: Fetch) -> None:
    with pytest.raises(ToolError, match="could not be fetched"):
        await fetch("http://127.0.0.1:1/")
    site.answers["/x"] = Answer(status="nonsense")
    with pytest.raises(ToolError, match="could not be fetched"):
        await fetch(site.url("/x"))


async def test_tls_is_for_the_name_though_the_connection_is_for_the_address() -> None:
    authority = trustme.CA()
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("named.example").configure_cert(there)
    here = ssl.create_default_context()
    authority.configure_trust(here)

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    allowed = [AllowedHost("named.example"), AllowedHost("other.example")]
    tool = FetchUrl(PublicNetwork(allowed, lookup), ssl_context=here)
    async with open_site(there) as site:
        site.page("/x", "safe", "text/plain")
        found: Any = await tool.call({"url": site.url("/x", "named.example")}, NO_CONTEXT)
        assert found["text"] == "safe"
        with pytest.raises(ToolError, match="certificate"):
            await tool.call({"url": site.url("/x", "other.example")}, NO_CONTEXT)
    await tool.close()


async def test_many_at_once(site: WebSite, fetch: Fetch) -> None:
    urls = [site.page(f"/{n}", f"<p>page {n}</p>" + "x" * 9_000) for n in range(100)]
    pages = await asyncio.gather(*(fetch(url, max_length=9) for url in urls))
    assert [page["text"].split()[1] for page in pages] == [str(n) for n in range(100)]
