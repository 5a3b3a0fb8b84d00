"""Tables for people: ids and times are never cut, whatever the terminal's width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .render import cell

_NONE = cell(None)
#: Columns between two columns.
_GAP = 2
#: A column that may be folded is never folded to less than this, unless it is narrower anyway.
_FOLDED = 16


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: Sequence[str]
    is_number: bool
    #: Folding an id or a time would make it useless.
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

    Where the terminal is too narrow, text is folded; then columns without a value, then others
    than ids and times are left out from the right, and said to be. Where these alone do not fit,
    a row is a block of lines, one for each column.
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
    """The least that each column needs; what is left goes to those that would be folded."""
    spare = max(width - _total(columns), 0)
    widths = []
    for column in columns:
        more = min(column.natural - column.minimum, spare)
        spare -= more
        widths.append(column.minimum + more)
    return widths
