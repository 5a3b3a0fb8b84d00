"""Others' text on a terminal: without control characters, on one line, or broken at words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from rich.cells import cell_len

#: Lines about a call are cut here; the whole of it is in the log.
_LINE = 160
#: An agent's text must not move the cursor or change the terminal: no control characters but
#: newline and tab.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
del _CONTROLS[ord("\n")], _CONTROLS[ord("\t")]

_PIECE = re.compile(r"\n|\t|[^\S\n\t]|\S+")
_TAB = 8
_FENCE = "```"


def safe(text: str) -> str:
    """Text of others without control characters."""
    return text.translate(_CONTROLS)


def one_line(text: str, width: int = _LINE) -> str:
    """Text of others as one line of at most `width` characters."""
    line = " ".join(safe(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def cell(value: object, width: int = 120) -> str:
    """Any value as one line: text as it is, `-` for none, the rest as JSON."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(text, width)


class WordWrap:
    """Says what to write for each piece of a text.

    A word is written as soon as a part of it is there. When its rest does not fit, the part is
    taken back and the word begins on the next line. Lines between code fences are left alone, so
    that code can be copied; so is a word longer than a line.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        """`width` gives the terminal's columns; it is asked again for each piece."""
        self._width = width
        #: Columns written in this line, and those of them that the last, open word takes.
        self._column = 0
        self._word = ""
        #: The line's first characters, to know a fence by.
        self._start = ""
        self._in_code = False

    def feed(self, text: str) -> str:
        """What to write for the next piece of the text, control characters already removed."""
        # The last column stays free: a cursor that waits behind it cannot be moved back rightly.
        width = max(self._width() - 1, 1)
        return "".join(self._piece(piece, width) for piece in _PIECE.findall(text))

    def new_line(self) -> None:
        """Something else has begun a new line."""
        self._column, self._word, self._start = 0, "", ""

    def _piece(self, piece: str, width: int) -> str:
        if piece == "\n":
            self._in_code ^= self._start == _FENCE
            self.new_line()
            return piece
        self._start = (self._start + piece)[: len(_FENCE)]
        if self._in_code or self._start == _FENCE:
            return piece
        if piece == "\t":
            return self._space(piece, _TAB - self._column % _TAB)
        if piece.isspace():
            return self._space(piece, cell_len(piece))
        return self._letters(piece, width)

    def _space(self, piece: str, columns: int) -> str:
        self._column += columns
        self._word = ""
        return piece

    def _letters(self, piece: str, width: int) -> str:
        written, added = cell_len(self._word), cell_len(piece)
        self._word += piece
        fits = self._column + added <= width
        if fits or self._column == written or written + added > width:
            self._column += added
            return piece
        self._column = written + added
        back = f"\x1b[{written}D\x1b[K" if written else ""
        return f"{back}\n{self._word}"
