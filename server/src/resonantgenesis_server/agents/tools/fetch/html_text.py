"""HTML as text that people and models can read: Markdown, roughly.

The tokenizer is ours: `html.parser` takes time quadratic in the length of hostile input.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

_SKIPPED_NAMES = """
    script style template svg math noscript iframe object canvas select button textarea xmp
    noembed noframes
"""
_BLOCK_NAMES = """
    address article aside blockquote body dd details div dl dt fieldset figcaption figure footer
    form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section summary table tr ul
"""
_SKIPPED = frozenset(_SKIPPED_NAMES.split())
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_SPACE = re.compile(r"[ \t\n\f\r\u00a0]+")
#: Characters of a link's address; a longer one is left out.
_MAX_LINK = 500
#: Links of a page that are given with their address.
_MAX_LINKS = 10_000
#: Characters of text after which a page is not read any further; links make it grow.
_MAX_TEXT = 2_000_000
#: Tags and texts of a page that are read; the largest pages of the web have a fifth of that.
_MAX_TOKENS = 200_000
#: Tags and texts between two pauses, about 2 ms of work.
_BETWEEN_PAUSES = 1_000


@dataclass(frozen=True, slots=True)
class Page:
    """`text` is that of `<main>` if the page has one; `is_cut`: the page has more than was read."""

    title: str
    text: str
    is_cut: bool = False


def read_html(source: str, base: str, pause: Callable[[], None] = lambda: None) -> Page:
    """The text of a page; `base` is its address, against which links are read.

    Takes CPU: use a thread for large pages, with a `pause` that lets other threads run.
    """
    writer = _Writer(base)
    for number, token in enumerate(tokens(source.replace("\0", ""))):
        if number % _BETWEEN_PAUSES == _BETWEEN_PAUSES - 1:
            pause()
        if number >= _MAX_TOKENS or writer.size > _MAX_TEXT:
            return writer.page(is_cut=True)
        if isinstance(token, str):
            writer.text(token)
        elif token.is_end:
            writer.end(token.name)
        else:
            writer.start(token)
    return writer.page()


class _Writer:
    """Puts text together while tags go by; an end without a start changes nothing."""

    def __init__(self, base: str) -> None:
        self.size = 0
        self._base = base
        self._parts: list[str] = []
        self._title: list[str] = []
        self._skipping = ""
        self._skip_depth = 0
        self._in_title = False
        self._pre = 0
        self._break = 0  # line breaks due before the next text
        self._space = False
        self._link: tuple[str, int] | None = None
        self._links = 0
        self._main: tuple[int, int] | None = None

    def start(self, tag: Tag) -> None:
        name = tag.name
        if self._skipping:
            self._skip_depth += name == self._skipping
        elif name in _SKIPPED or (name == "title" and self._title):
            self._skipping, self._skip_depth = name, 1
        elif name == "title":
            self._in_title = True
        elif name == "a":
            self._close_link()
            self._open_link(tag.attribute("href"))
        elif name == "img":
            self.text(tag.attribute("alt") or "")
        elif name == "main" and self._main is None:
            self._block()
            self._main = len(self._parts), -1
        else:
            self._start_layout(name)

    def _start_layout(self, name: str) -> None:
        if name == "br":
            self._break += 1
        elif name in {"td", "th"}:
            if not self._break:
                self._parts.append(" | ")
        elif name in _BLOCKS:
            self._block(1 if name in {"li", "tr", "dt", "dd"} else 2)
            self._pre += name == "pre"
            if name == "li":
                self._write("- ")
            elif name in _HEADINGS:
                self._write(_HEADINGS[name] + " ")

    def end(self, name: str) -> None:
        if self._skipping:
            self._skip_depth -= name == self._skipping
            if not self._skip_depth:
                self._skipping = ""
        elif name == "title":
            self._in_title = False
        elif name == "a":
            self._close_link()
        elif name == "main" and self._main is not None and self._main[1] < 0:
            self._main = self._main[0], len(self._parts)
            self._block()
        elif name in _BLOCKS:
            self._pre = max(0, self._pre - (name == "pre"))
            self._block(1 if name in {"li", "tr", "dt", "dd"} else 2)

    def text(self, text: str) -> None:
        if self._skipping:
            return
        if self._in_title:
            self._title.append(text)
            return
        if self._pre:
            self._write(text)
            return
        plain = _SPACE.sub(" ", text)
        if plain.startswith(" "):
            self._space = True
        words = plain.strip(" ")
        if words:
            self._write(words)
            self._space = plain.endswith(" ")

    def page(self, *, is_cut: bool = False) -> Page:
        self._close_link()
        first, last = self._main or (0, -1)
        parts = self._parts[first:] if last < 0 else self._parts[first:last]
        title = _SPACE.sub(" ", "".join(self._title)).strip()
        return Page(title, "".join(parts).strip(), is_cut)

    # -- inside ----------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        if self._break:
            self._parts.append("\n" * min(self._break, 2))
        elif self._space and self._parts and not self._parts[-1].endswith((" ", "\n")):
            self._parts.append(" ")
        self._break, self._space = 0, False
        self._parts.append(text)
        self.size += len(text)

    def _block(self, lines: int = 2) -> None:
        self._break = max(self._break, lines)

    def _open_link(self, href: str | None) -> None:
        address = self._absolute(href) if self._links < _MAX_LINKS else None
        if address is not None:
            self._links += 1
            self._write_nothing()
            self._link = address, len(self._parts)

    def _write_nothing(self) -> None:
        """What is due before the next text stands before the link, not in it."""
        if self._break or self._space:
            self._write("")

    def _close_link(self) -> None:
        if self._link is None:
            return
        address, start = self._link
        self._link = None
        if start < len(self._parts) and any(part.strip() for part in self._parts[start:]):
            self._parts.insert(start, "[")
            self._parts.append(f"]({address})")
            self.size += len(address)

    def _absolute(self, href: str | None) -> str | None:
        if not href or href.startswith("#") or len(href) > _MAX_LINK:
            return None
        try:
            address = urljoin(self._base, href.strip())
        except ValueError:
            return None
        is_plain = address.startswith(("http://", "https://")) and " " not in address
        return address if is_plain and len(address) <= _MAX_LINK else None


#: Where markup begins; any other "<" is text.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])")
_TAG = re.compile(r"</?([A-Za-z][^\s/>]*)")
_TAG_PUNCTUATION = re.compile(r"[>\"']")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=<>`]+)))?""")
#: Elements whose content is no markup.
_RAW = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
#: Characters of a tag that are looked through for attributes.
_ATTRIBUTES_WITHIN = 8_192


@dataclass(frozen=True, slots=True)
class Tag:
    """`<name …>` or `</name>`; the name in lower case."""

    name: str
    is_end: bool
    _source: str

    def attribute(self, name: str) -> str | None:
        """The value of an attribute, if it has one among the tag's first characters."""
        for match in _ATTRIBUTE.finditer(self._source[:_ATTRIBUTES_WITHIN]):
            if match.group(1).lower() == name:
                return unescape(match.group(2) or match.group(3) or match.group(4) or "")
        return None


def tokens(source: str) -> Iterator[Tag | str]:
    """Tags, and the texts between them with their character references replaced."""
    position = 0
    while position < len(source):
        found = _MARKUP.search(source, position)
        start = len(source) if found is None else found.start()
        if start > position:
            yield unescape(source[position:start])
        if found is None:
            return
        match = _TAG.match(source, start)
        if match is None:
            position = _end_of_other(source, start)
            continue
        end = _end_of_tag(source, match.end())
        name, is_end = match.group(1).lower(), source.startswith("</", start)
        yield Tag(name, is_end, source[match.end() : end - 1])
        position = end
        if name in _RAW and not is_end:
            closing = _RAW[name].search(source, end)
            position = closing.start() if closing else len(source)
            if position > end:
                yield unescape(source[end:position])


def unescape(text: str) -> str:
    """`html.unescape`; what it cannot read stays as it is."""
    try:
        return html.unescape(text) if "&" in text else text
    except ValueError:  # a number of thousands of digits
        return text


def _end_of_tag(source: str, position: int) -> int:
    """Behind the `>` that ends the tag, outside of quoted values; the end if there is none."""
    while (found := _TAG_PUNCTUATION.search(source, position)) is not None:
        position = found.end()
        if found.group() == ">":
            return position
        if _opens_value(source, found.start()):
            closing = source.find(found.group(), position)
            if closing < 0:
                break
            position = closing + 1
    return len(source)


def _opens_value(source: str, quote: int) -> bool:
    before = quote - 1
    while source[before] in " \t\n\f\r":
        before -= 1
    return source[before] == "="


def _end_of_other(source: str, start: int) -> int:
    """Behind a comment, declaration or bogus tag."""
    if source.startswith("<!--", start):
        end, length = source.find("-->", start + 2), 3  # `<!-->` is a whole one
    else:
        end, length = source.find(">", start), 1
    return len(source) if end < 0 else end + length
