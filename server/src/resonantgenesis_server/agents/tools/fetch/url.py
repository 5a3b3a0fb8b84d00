"""The tool `fetch_url`: reads a page of the public internet."""

from __future__ import annotations

import asyncio
import codecs
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterable, Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import httpcore
import httpx

from ....model.limits import KIB
from ..base import JsonValue, ToolContext, ToolError, in_thread, number_argument, text_argument
from ..settings import DEFAULT_MAX_BYTES, AllowedHost
from .html_text import HtmlText, load_parser, read_html
from .network import PublicNetwork

MAX_URL = 4 * KIB
MAX_REDIRECTS = 5
#: Characters of text in one result, by default and at most.
DEFAULT_LENGTH = 20_000
MAX_LENGTH = 100_000
#: Seconds for each of: connecting to one address, and a silence.
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 20.0
_MAX_CONNECTIONS = 64
#: Bytes of text that are read on the event loop: well under a millisecond.
_SMALL = 8 * KIB
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_TIMEOUTS = {
    "connect": _CONNECT_SECONDS,
    "read": _SILENCE_SECONDS,
    "write": _SILENCE_SECONDS,
    "pool": _SILENCE_SECONDS,
}
_TEXTUAL = re.compile(
    r"text/.+|application/(.+\+)?(json|xml|yaml)|application/(x-)?(javascript|ecmascript|ndjson"
    r"|json5|jsonlines|json-seq|yaml|toml|sql|graphql|sh|httpd-php|latex|tex|subrip|rss|atom)"
    r"|image/svg\+xml|message/.+",
    re.IGNORECASE,
)
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_META_CHARSET = re.compile(rb"""<meta[^>]{0,256}charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.I)
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.I)
#: Names of Python's codecs, as `codecs.lookup` gives them, for texts in the field's encodings.
_ENCODINGS = re.compile(
    r"utf-8(-sig)?|utf-16(-[lb]e)?|utf-32(-[lb]e)?|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+"
    r"|shift_jis\w*|euc_\w+|iso2022_\w+|gb2312|gbk|gb18030|hz|big5\w*|johab|tis-620|ptcp154"
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class FetchUrl:
    """The tool `fetch_url`.

    It reaches the hosts that `network` allows. `ssl_context` defaults to the trust of the system.
    To be closed.
    """

    name = "fetch_url"
    description = (
        "Fetches a web page or another text by its http or https address and gives it as readable"
        " text. Long texts come in parts: go on with `start`."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "maxLength": MAX_URL},
            "start": {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "Characters of the text to leave out.",
            },
            "max_length": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LENGTH,
                "default": DEFAULT_LENGTH,
                "description": "Characters of the text to give.",
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    }

    def __init__(
        self,
        network: PublicNetwork,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._network = network
        self._max_bytes = max_bytes
        self._ssl_context = ssl_context
        self._opening = asyncio.Lock()
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """`{url, title?, content_type, text, length, next_start?}`: `url` after redirects, `length`
        of the whole text in characters, `next_start` when there is more text."""
        url = _parse(text_argument(args, "url", MAX_URL))
        start = number_argument(args, "start", default=0, minimum=0, maximum=1_000_000_000)
        length = number_argument(
            args, "max_length", default=DEFAULT_LENGTH, minimum=1, maximum=MAX_LENGTH
        )
        url, body = await self._fetch(url)
        if len(body.data) > _SMALL:
            page = await in_thread(lambda: _readable(body, str(url), _pause), "fetch_url reads")
        else:
            page = _readable(body, str(url), lambda: None)
        return _result(str(url), body, page, start, length)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def _fetch(self, url: httpx.URL) -> tuple[httpx.URL, FetchedBody]:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._get(url)
            if isinstance(answer, FetchedBody):
                return url, answer
            url = answer
        raise ToolError(f"more than {MAX_REDIRECTS} redirects, the last one to {_shown(url)}")

    async def _get(self, url: httpx.URL) -> httpx.URL | FetchedBody:
        """The body, or where it says to look instead."""
        pool = await self._open()
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        try:
            async with pool.stream(
                "GET", target, headers=_headers(url), extensions={"timeout": _TIMEOUTS}
            ) as response:
                headers = _as_dict(response.headers)
                if response.status in _REDIRECTS and "location" in headers:
                    return _redirect(url, headers["location"])
                if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                    raise ToolError(f"{_shown(url)} answered {_status(response.status)}")
                return await read_body(headers, response.aiter_stream(), self._max_bytes)
        except httpcore.TimeoutException as exc:
            raise ToolError(f"{_shown(url)} did not answer in time") from exc
        except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
            why = str(exc) or "the connection failed"
            raise ToolError(f"{_shown(url)} could not be fetched: {why[:200]}") from exc

    async def _open(self) -> httpcore.AsyncConnectionPool:
        async with self._opening:
            if self._pool is None:
                trust = await in_thread(self._prepare, "fetch_url reads certificates")
                self._pool = httpcore.AsyncConnectionPool(
                    trust,
                    max_connections=_MAX_CONNECTIONS,
                    max_keepalive_connections=0,
                    network_backend=self._network,
                )
            return self._pool

    def _prepare(self) -> ssl.SSLContext:
        """Do the slow work before the first request, in a thread."""
        load_parser()
        return self._ssl_context or httpcore.default_ssl_context()


def fetch_tool(allowed: Collection[AllowedHost], max_bytes: int = DEFAULT_MAX_BYTES) -> FetchUrl:
    """The tool for the public internet and the `allowed` hosts."""
    return FetchUrl(PublicNetwork(allowed), max_bytes=max_bytes)


def _parse(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text.strip())
        port = url.port
    except (httpx.InvalidURL, ValueError) as exc:
        raise ToolError(f"this is not an address of the web: {exc}") from exc
    if url.scheme not in {"http", "https"} or not url.raw_host:
        raise ToolError("only http:// and https:// addresses can be fetched")
    if url.userinfo:
        raise ToolError("an address with a name or password in it is not fetched")
    if port is not None and not 0 < port <= 65_535:
        raise ToolError(f"there is no port {port}")
    return url.copy_with(fragment=None)


def _redirect(url: httpx.URL, location: str) -> httpx.URL:
    try:
        if len(location) > MAX_URL:
            raise ValueError("too long")
        return _parse(str(url.join(location)))
    except (httpx.InvalidURL, ValueError) as exc:
        raise ToolError(f"{_shown(url)} redirects to what is no address") from exc


def _headers(url: httpx.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"Accept", b"text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", f"ResonantGenesis/{version('resonantgenesis-server')}".encode()),
        (b"Connection", b"close"),
    ]


def _as_dict(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _shown(url: httpx.URL) -> str:
    return str(url)[:200]


def _pause() -> None:
    """Let the event loop have the interpreter's lock, for which it would wait 5 ms each time."""
    time.sleep(0.0002)


def _readable(body: FetchedBody, url: str, pause: Callable[[], None]) -> HtmlText:
    text = body.text()
    return read_html(text, url, pause) if body.is_html else HtmlText("", text)


def _result(url: str, body: FetchedBody, page: HtmlText, start: int, length: int) -> JsonValue:
    part = page.text[start : start + length]
    result: dict[str, JsonValue] = {"url": url}
    if page.title:
        result["title"] = page.title[:500]
    result |= {"content_type": body.content_type, "text": part, "length": len(page.text)}
    if start + len(part) < len(page.text):
        result["next_start"] = start + len(part)
    if body.cut:
        result["note"] = f"only the first {len(body.data)} bytes were read"
    elif page.is_cut:
        result["note"] = "the page is too large to be read whole: its end is missing"
    return result


@dataclass(frozen=True, slots=True)
class FetchedBody:
    """`content_type` without parameters, in lower case. `cut`: there was more than was read."""

    content_type: str
    charset: str | None
    data: bytes
    cut: bool

    @property
    def is_html(self) -> bool:
        return self.content_type in _HTML or (
            not self.content_type and self.data[:512].lstrip()[:1] == b"<"
        )

    def text(self) -> str:
        """The text, with U+FFFD for bytes that are not in its encoding. Raises ToolError for
        binary."""
        named = self.charset or self._own_charset()
        if named is None and b"\0" in self.data[:1024]:
            raise ToolError("the answer is not text")
        return self.data.decode(_encoding(named), "replace")

    def _own_charset(self) -> str | None:
        for mark, name in _BOMS:
            if self.data.startswith(mark):
                return name
        if self.is_html and (match := _META_CHARSET.search(self.data[:1024])):
            return match.group(1).decode("ascii")
        return None


async def read_body(
    headers: Mapping[str, str], chunks: AsyncIterable[bytes], limit: int
) -> FetchedBody:
    """Read at most `limit` bytes, counted before and after decompression.

    `headers` have lower-case names. Raises ToolError for an answer that is not text, before reading
    it.
    """
    declared = headers.get("content-type", "")
    content_type = declared.partition(";")[0].strip().lower()
    if content_type and _TEXTUAL.fullmatch(content_type) is None:
        raise ToolError(f"the answer is {content_type[:100]}; only texts can be fetched")
    match = _CHARSET.search(declared)
    charset = match.group(1) if match else None
    decoder = _decoder(headers.get("content-encoding", "identity"))
    data = bytearray()
    taken = 0
    async for chunk in chunks:
        taken += len(chunk)
        data += chunk if decoder is None else _inflate(decoder, chunk, limit - len(data) + 1)
        if len(data) > limit or taken > limit:
            return FetchedBody(content_type, charset, bytes(data[:limit]), cut=True)
    return FetchedBody(content_type, charset, bytes(data), cut=False)


def _inflate(decoder: zlib._Decompress, chunk: bytes, limit: int) -> bytes:
    try:
        return decoder.decompress(chunk, limit)
    except zlib.error as exc:
        raise ToolError("the answer is compressed, and broken") from exc


def _decoder(encoding: str) -> zlib._Decompress | None:
    """The decoder for an encoding. We ask for none, yet some servers compress."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        case "deflate":
            return zlib.decompressobj()
    raise ToolError(f"the answer is encoded as {encoding[:40]!r}, though it was asked to be plain")


def _encoding(name: str | None) -> str:
    try:
        known = codecs.lookup(name or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    return known if _ENCODINGS.fullmatch(known) else "utf-8"
