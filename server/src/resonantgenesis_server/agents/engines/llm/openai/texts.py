"""Texts in the answers of chat completions, in all the forms in which servers write them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
#: Fields of an object that hold its text, the first that does.
_TEXTS = ("text", "content", "output_text", "refusal", "value")
_THOUGHTS = ("text", "content", "thinking", "summary", "reasoning", "reasoning_content", "value")


def content_pieces(value: object) -> Iterator[tuple[bool, str]]:
    """The texts of `content`, each with whether it is reasoning. Raises TypeError for no text."""
    if isinstance(value, str):
        yield False, value
    elif isinstance(value, list):
        for part in value:
            yield from content_pieces(part)
    elif isinstance(value, dict):
        kind = str(value.get("type", ""))
        if "think" in kind or "reason" in kind:
            yield True, thought_of(value)
            return
        for name in _TEXTS:
            if value.get(name):
                yield from content_pieces(value[name])
                return
    elif value is not None:
        raise TypeError(f"{type(value).__name__} where a text should be")


def thought_of(value: object) -> str:
    """The text of reasoning in whatever form; "" for what holds none that can be read."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(thought_of, value))
    if isinstance(value, dict):
        for name in _THOUGHTS:
            if value.get(name):
                return thought_of(value[name])
    return ""


class Mender:
    """Puts characters together that a server has cut: halves of a surrogate pair, or bytes of
    UTF-8 that were read as surrogates ("surrogateescape")."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> str:
        text, self._rest = self._rest + text, ""
        if text.isascii():
            return text
        tail = _unfinished(text)
        if tail:
            text, self._rest = text[:-tail], text[-tail:]
        return mended(text)

    def close(self) -> str:
        rest, self._rest = self._rest, ""
        return mended(rest)


def _unfinished(text: str) -> int:
    """Characters at the end that what comes next may complete: at most 3."""
    if "\ud800" <= text[-1] <= "\udbff":
        return 1
    for size in range(1, min(3, len(text)) + 1):
        first = ord(text[-size]) - 0xDC00
        if not 0x80 <= first <= 0xFF:
            return 0
        if first >= 0xC0:  # the first byte of a character of 2 to 4
            needed = 2 + (first >= 0xE0) + (first >= 0xF0)
            return size if size < needed else 0
    return 0


def mended(text: str) -> str:
    """Without surrogates: what makes no character becomes U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    text = _PAIR.sub(lambda pair: _recoded(pair.group(), "utf-16-le", "surrogatepass"), text)
    text = _BYTES.sub(lambda run: _recoded(run.group(), "utf-8", "surrogateescape"), text)
    return _SURROGATE.sub("\ufffd", text)


def _recoded(text: str, encoding: str, how: str) -> str:
    return text.encode(encoding, how).decode(encoding, "replace")
