"""Reasoning that a model writes into its text: `<think>…</think>`."""

from __future__ import annotations

import re

from ..calls import Reasoning

_TAG = re.compile(r"<(/?)(?:think|thinking|thought)>", re.IGNORECASE)
#: What may be the beginning of a tag, at the end of a piece of text.
_BEGUN = re.compile(
    r"<(?:/?(?:t(?:h(?:i(?:n(?:k(?:i(?:n(?:g)?)?)?)?)?|o(?:u(?:g(?:h(?:t)?)?)?)?)?)?)?)?$", re.I
)


class ThinkSplitter:
    """Text, cut anywhere, into text and Reasoning.

    A tag opens at the start, or behind a blank or another tag: `<think>` in quotes is a word.
    Blocks may nest. One that is never closed is reasoning to its end; if it seems so only because
    the reasoning spoke of the tag, what followed the last `</think>` is given as text at the end.
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
