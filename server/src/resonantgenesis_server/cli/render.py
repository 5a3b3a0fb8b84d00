"""Tables for people, tab-separated lines for pipes, JSON lines for programs.

Text from elsewhere loses its control characters. Tables never cut ids and times.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Lines about a tool call are cut here; the log has the whole.
_LINE = 160
#: An agent's text must not move the cursor or change the terminal: no control characters but
#: newline and tab.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
del _CONTROLS[ord("\n")], _CONTROLS[ord("\t")]

_PIECE = re.compile(r"\n|\t|[^\S\n\t]|\S+")
_TAB = 8
_FENCE = "```"

#: How a cell without a value looks.
_NONE = "-"
#: Blanks between two columns.
_GAP = 2
#: The least width of a folded column, unless its text is narrower.
_FOLDED = 16
#: Line ends of Unicode, as JSON escapes them.
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def safe(text: str) -> str:
    """Text from elsewhere without control characters."""
    return text.translate(_CONTROLS)


def one_line(text: str, width: int = _LINE) -> str:
    """Text from elsewhere as one line of at most `width` characters."""
    line = " ".join(safe(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def cell(value: object, width: int = 120) -> str:
    """Any value as one line: text unchanged, `-` for None, everything else as JSON."""
    if value is None:
        return _NONE
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(text, width)


class WordWrap:
    """Breaks a text that comes in pieces between words.

    A part of a word is written as soon as it is there. If the rest does not fit, the part is
    deleted and the word begins on the next line. Lines between code fences are not broken, so
    that code can be copied. A word longer than a line is not broken either.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        """`width` returns the terminal's columns; it is called for each piece."""
        self._width = width
        #: The columns that this line has, and the last word, which may go on.
        self._column = 0
        self._word = ""
        #: The line's first characters, to know a fence by.
        self._start = ""
        self._in_code = False

    def feed(self, text: str) -> str:
        """The characters to write for the next piece, which has no control characters."""
        # The last column stays free: a cursor that waits behind it cannot be moved back reliably.
        width = max(self._width() - 1, 1)
        return "".join(self._piece(piece, width) for piece in _PIECE.findall(text))

    def new_line(self) -> None:
        """Note that a new line was begun elsewhere."""
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


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: Sequence[str]
    is_number: bool
    #: An id or a time, which is useless when it is folded.
    is_whole: bool

    @property
    def has_values(self) -> bool:
        return any(each != _NONE for each in self.cells)

    @property
    def natural(self) -> int:
        return max(cell_len(self.name), *map(cell_len, self.cells))

    @property
    def minimum(self) -> int:
        if self.is_whole or self.is_number:
            return self.natural
        return max(cell_len(self.name), min(self.natural, _FOLDED))


def show_table(console: Console, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Rows under the names of their columns.

    On a narrow terminal text is folded. Then columns are left out from the right: those without a
    value first, then those that are no ids and times. A note names them. If ids and times alone do
    not fit, each row is a block of lines, one for each column.
    """
    columns = [_column(name, rows, is_first=name == names[0]) for name in names]
    if _total([column for column in columns if column.is_whole and column.has_values]) > (
        console.width
    ):
        _show_blocks(console, columns)
        return
    shown = list(columns)
    while _total(shown) > console.width:
        empty = [column for column in shown[1:] if not column.has_values]
        shown.remove((empty or [column for column in shown if not column.is_whole])[-1])
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, width in zip(shown, _widths(shown, console.width), strict=True):
        table.add_column(
            column.name,
            width=width,
            overflow="fold",
            justify="right" if column.is_number else "left",
        )
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*map(Text, cells))
    console.print(table)
    if left_out := [column.name for column in columns if column not in shown]:
        note = f"(left out: {', '.join(left_out)}; a wider terminal or --json shows them)"
        console.print(Text(note), style="dim", highlight=False)


def _show_blocks(console: Console, columns: Sequence[_Column]) -> None:
    width = max(cell_len(column.name) for column in columns)
    for number, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        if number:
            console.file.write("\n")
        for column, value in zip(columns, cells, strict=True):
            line = Text(f"{column.name:<{width}}  ", "bold").append(value, "not bold")
            console.print(line, soft_wrap=True, highlight=False)


def _column(name: str, rows: Sequence[Mapping[str, Any]], *, is_first: bool) -> _Column:
    values = [row.get(name) for row in rows]
    numbers = [isinstance(value, int | float) for value in values if value is not None]
    is_whole = is_first or name == "id" or name.endswith(("_id", "_at"))
    is_number = bool(numbers) and all(numbers)
    return _Column(name, [_for_people(value) for value in values], is_number, is_whole)


def _for_people(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return cell(", ".join(value) or None)
    return cell(value)


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.minimum for column in columns) + _GAP * (len(columns) - 1)


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """The width of each column: its minimum, and more for those that would be folded."""
    spare = max(width - _total(columns), 0)
    widths = []
    for column in columns:
        more = min(column.natural - column.minimum, spare)
        spare -= more
        widths.append(column.minimum + more)
    return widths


def show_rows(
    console: Console, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool
) -> None:
    """Items of a list. In a pipe: a line each, the columns separated by tabs, no heading."""
    if as_json:
        for row in rows:
            show_json(console, row)
    elif console.is_terminal:
        show_table(console, list(rows), columns)
    else:
        for row in rows:
            show_line(console, "\t".join(cell(row.get(column)) for column in columns))


def show_fields(console: Console, fields: Mapping[str, Any]) -> None:
    """The fields of one object, each on a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        show_line(console, f"{name:<{width}}  {cell(value, 2000)}")


def show_json(console: Console, value: object) -> None:
    """A JSON value on one line. Unicode's line ends are escaped, since some readers split there."""
    show_line(console, json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS))


def show_line(console: Console, text: str, style: str | None = None) -> None:
    """A line, neither wrapped nor read as markup."""
    if style is None:
        console.file.write(f"{text}\n")  # the console would turn tabs into spaces
    else:
        console.out(text, style=style, highlight=False)


def show_text(console: Console, text: str, style: str) -> None:
    """A sentence for a person: broken between words on a terminal, one line in a pipe."""
    if console.is_terminal:
        console.print(Text(text), style=style, highlight=False)
    else:
        console.out(text, style=style, highlight=False)
