"""Texts in the answers of chat completions, in all the forms in which servers write them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .....model.chunks import Reasoning

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
#: Fields of an object that hold its text, the first that does.
_TEXTS = ("text", "content", "output_text", "refusal", "value")
_THOUGHTS = ("text", "content", "thinking", "summary", "reasoning", "reasoning_content", "value")

_TAG = re.compile(r"<(/?)(?:think|thinking|thought)>", re.IGNORECASE)
#: What may be the beginning of a tag, at the end of a piece of text.
_BEGUN = re.compile(
    r"<(?:/?(?:t(?:h(?:i(?:n(?:k(?:i(?:n(?:g)?)?)?)?)?|o(?:u(?:g(?:h(?:t)?)?)?)?)?)?)?)?$", re.I
)


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
    """The text of reasoning in any form; "" if none can be read."""
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
    """Joins characters that a server has cut: halves of a surrogate pair, or bytes of UTF-8 that
    were read as surrogates ("surrogateescape")."""

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
    """Characters at the end that the next text may complete: at most 3."""
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
    """The text without surrogates; a part that makes no character becomes U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    text = _PAIR.sub(lambda pair: _recoded(pair.group(), "utf-16-le", "surrogatepass"), text)
    text = _BYTES.sub(lambda run: _recoded(run.group(), "utf-8", "surrogateescape"), text)
    return _SURROGATE.sub("\ufffd", text)


def _recoded(text: str, encoding: str, how: str) -> str:
    return text.encode(encoding, how).decode(encoding, "replace")


class ThinkSplitter:
    """Splits text, cut anywhere, into text and Reasoning.

    A tag opens at the start, or behind a blank or another tag; `<think>` in quotes is a word.
    Blocks may nest. A block that is never closed is reasoning to its end. If it stayed open only
    because the reasoning spoke of the tag, the text behind the last `</think>` comes at the end.
    """

    def __init__(self) -> None:
        self._held = ""
        self._before = ""  # the last sign
        self._depth = 0
        self._blank = ""  # blanks before the first word of the answer
        self._has_spoken = False
        self._has_thought = False
        #: Since the last closing tag, in a block that is still open.
        self._behind: list[str] | None = None

    def feed(self, text: str) -> list[str | Reasoning]:
        text, self._held = self._held + text, ""
        out: list[str | Reasoning] = []
        position = 0
        if "<" in text:
            for tag in _TAG.finditer(text):
                if self._is_tag(text, tag):
                    self._say(text[position : tag.start()], out)
                    self._turn(is_end=bool(tag.group(1)))
                    position = tag.end()
            begun = _BEGUN.search(text, max(position, len(text) - 12))
            if begun is not None:
                text, self._held = text[: begun.start()], text[begun.start() :]
        self._say(text[position:], out)
        return out

    def close(self) -> list[str | Reasoning]:
        out: list[str | Reasoning] = []
        rest, self._held = self._held, ""
        self._say(rest, out)
        if self._depth and self._behind:
            out.append("".join(self._behind).lstrip())
        elif not self._has_thought and self._blank:
            out.append(self._blank)
        return [piece for piece in out if piece]

    def _is_tag(self, text: str, tag: re.Match[str]) -> bool:
        before = text[tag.start() - 1] if tag.start() else self._before
        if tag.group(1):
            return before not in {"`", '"', "'"}
        return not before or before.isspace() or before == ">"

    def _turn(self, *, is_end: bool) -> None:
        self._before = ">"
        if not is_end:
            self._depth += 1
            self._has_thought = True
        elif self._depth:
            self._depth -= 1
            self._behind = [] if self._depth else None

    def _say(self, text: str, out: list[str | Reasoning]) -> None:
        if not text:
            return
        self._before = text[-1]
        if self._depth:
            out.append(Reasoning(text))
            if self._behind is not None:
                self._behind.append(text)
            return
        if not self._has_spoken:
            text = self._blank + text
            if text.isspace():
                self._blank = text
                return
            self._has_spoken, self._blank = True, ""
            if self._has_thought:
                text = text.lstrip()
        out.append(text)
