"""Tables for people, tab-separated lines for pipes, JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from .render import cell
from .table import show_table

_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def show_rows(
    console: Console, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool
) -> None:
    """Items of a list. In a pipe: one line each, the columns between tabs, without a heading."""
    if as_json:
        for row in rows:
            show_json(console, row)
    elif console.is_terminal:
        show_table(console, list(rows), columns)
    else:
        for row in rows:
            show_line(console, "\t".join(cell(row.get(column)) for column in columns))


def show_fields(console: Console, fields: Mapping[str, Any]) -> None:
    """One thing, a field a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        show_line(console, f"{name:<{width}}  {cell(value, 2000)}")


def show_json(console: Console, value: object) -> None:
    """As one line, for those too whose lines end at more than a newline, like Python's own."""
    show_line(console, json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS))


def show_line(console: Console, text: str, style: str | None = None) -> None:
    """One line as it is: not wrapped, nothing in it taken as markup."""
    if style is None:
        console.file.write(f"{text}\n")  # the console would turn tabs into spaces
    else:
        console.out(text, style=style, highlight=False)


def show_text(console: Console, text: str, style: str) -> None:
    """A sentence for a person: broken at words on a terminal, one line in a pipe."""
    if console.is_terminal:
        console.print(Text(text), style=style, highlight=False)
    else:
        console.out(text, style=style, highlight=False)
