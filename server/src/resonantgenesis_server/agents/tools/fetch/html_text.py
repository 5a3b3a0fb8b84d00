"""HTML as text that people and models can read: Markdown, roughly.

lxml reads the page and calls a target for each tag and text, so no tree is built. Its time is
linear in the length of hostile pages; `html.parser` of Python 3.11 needs 7 s for 20 kB of `<a "`.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
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
_MAX_EVENTS = 200_000
#: Characters that are read between two pauses, at most about 2 ms of work.
_BETWEEN_PAUSES = 2_000


@dataclass(frozen=True, slots=True)
class HtmlText:
    """`text` is that of `<main>` if the page has one; `is_cut`: the page has more than was read."""

    title: str
    text: str
    is_cut: bool = False


def read_html(source: str, base: str, pause: Callable[[], None] = lambda: None) -> HtmlText:
    """The text of a page; links are resolved against `base`, its address.

    Takes CPU: use a thread for large pages, with a `pause` that lets other threads run.
    """
    writer = _Writer(base)
    parser = load_parser().HTMLParser(target=writer, huge_tree=True, encoding="utf-8")
    source = source.replace("\0", "")
    for start in range(0, len(source), _BETWEEN_PAUSES):
        if start:
            pause()
        if writer.is_full:
            return writer.page(is_cut=True)
        parser.feed(source[start : start + _BETWEEN_PAUSES].encode("utf-8", "replace"))
    if source:
        parser.close()
    return writer.page()


@functools.cache
def load_parser() -> Any:
    """lxml. The first call takes 45 ms and 7 MiB, which a server without the need is spared.

    Make the first call in a thread.
    """
    return importlib.import_module("lxml.etree")


class _Writer:
    """Puts text together from the parser's events; an end without a start changes nothing.

    `start`, `end`, `data`, `close` are the methods that lxml calls.
    """

    def __init__(self, base: str) -> None:
        self._events = 0
        self._size = 0
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

    @property
    def is_full(self) -> bool:
        """Whether no more of the page should be read."""
        return self._events > _MAX_EVENTS or self._size > _MAX_TEXT

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._events += 1
        if self._skipping:
            self._skip_depth += name == self._skipping
        elif name in _SKIPPED or (name == "title" and self._title):
            self._skipping, self._skip_depth = name, 1
        elif name == "title":
            self._in_title = True
        elif name == "a":
            self._close_link()
            self._open_link(attributes.get("href"))
        elif name == "img":
            self.data(attributes.get("alt", ""))
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

    def data(self, text: str) -> None:
        self._events += 1
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

    def close(self) -> None:
        """Called by the parser at the end of the page."""

    def page(self, *, is_cut: bool = False) -> HtmlText:
        self._close_link()
        first, last = self._main or (0, -1)
        parts = self._parts[first:] if last < 0 else self._parts[first:last]
        title = _SPACE.sub(" ", "".join(self._title)).strip()
        return HtmlText(title, "".join(parts).strip(), is_cut)

    def _write(self, text: str) -> None:
        if self._break:
            self._parts.append("\n" * min(self._break, 2))
        elif self._space and self._parts and not self._parts[-1].endswith((" ", "\n")):
            self._parts.append(" ")
        self._break, self._space = 0, False
        self._parts.append(text)
        self._size += len(text)

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
            self._size += len(address)

    def _absolute(self, href: str | None) -> str | None:
        if not href or href.startswith("#") or len(href) > _MAX_LINK:
            return None
        try:
            address = urljoin(self._base, href.strip())
        except ValueError:
            return None
        is_plain = address.startswith(("http://", "https://")) and " " not in address
        return address if is_plain and len(address) <= _MAX_LINK else None
