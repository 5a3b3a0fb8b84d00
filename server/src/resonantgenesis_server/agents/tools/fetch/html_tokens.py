"""HTML as a flat row of tags and texts.

No tree is built: the rules by which HTML5 repairs one make a page of a few kilobytes into gigabytes
of nodes. Every character is looked at once, and what is no markup costs no token, so a hostile page
takes no longer than another. The standard library's `html.parser` takes time that grows with the
square of some pages in the versions of Python that are in use (CVE-2025-6069).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

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
