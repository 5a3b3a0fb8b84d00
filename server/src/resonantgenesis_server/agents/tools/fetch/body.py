"""The body of an HTTP answer, read within bounds and decoded to text."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass

from ..base import ToolError

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


@dataclass(frozen=True, slots=True)
class Body:
    """`content_type` without parameters, in lower case; `cut` when there is more than was read."""

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
        """The text; what is not of its encoding becomes U+FFFD. Raises ToolError for binary."""
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


async def read_body(headers: Mapping[str, str], chunks: AsyncIterable[bytes], most: int) -> Body:
    """Reads at most `most` bytes, counted before and after decompression.

    `headers` have lower-case names. Raises ToolError for what is not text, before it is read.
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
        data += chunk if decoder is None else _inflate(decoder, chunk, most - len(data) + 1)
        if len(data) > most or taken > most:
            return Body(content_type, charset, bytes(data[:most]), cut=True)
    return Body(content_type, charset, bytes(data), cut=False)


def _inflate(decoder: zlib._Decompress, chunk: bytes, most: int) -> bytes:
    try:
        return decoder.decompress(chunk, most)
    except zlib.error as exc:
        raise ToolError("the answer is compressed, and broken") from exc


def _decoder(encoding: str) -> zlib._Decompress | None:
    """We ask for none, and some servers compress all the same."""
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
