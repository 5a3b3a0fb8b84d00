"""How platform events look on a terminal and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from .render import one_line, show_json, show_line

_COLOURS = {
    "sessions": "cyan",
    "agents": "blue",
    "teams": "magenta",
    "webhooks": "yellow",
    "billing": "green",
    "system": "bright_black",
    "app": "bright_magenta",
}
#: What matters most stands first, since a narrow terminal cuts the rest.
_FIRST = ("session_id", "error_code", "error", "status", "name", "goal")
#: Known by their looks, in the server's own events.
_UNNAMED = frozenset(_FIRST)
_SHORT = {"agent_id": "agent"}
#: Stands at the end of a line that lacks something.
_MORE = " …"
#: The longest of the server's own types.
_TYPE_WIDTH = 24


class EventView:
    """One event a line: JSON, or for a person the time here, the type in its channel's colour and
    the main fields, cut at the terminal's edge; an id that would be cut is left out."""

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self._as_json = as_json
        self._day = date.today()

    def show(self, event: Mapping[str, Any]) -> None:
        if self._as_json:
            show_json(self._console, event)
        else:
            self._show_line(event)
        self._console.file.flush()  # in a pipe too an event is news only while it is new

    def _show_line(self, event: Mapping[str, Any]) -> None:
        moment = _moment(event.get("created_at"))
        if moment is not None and moment.date() != self._day:
            self._day = moment.date()
            show_line(self._console, f"{self._day:%A, %d %B %Y}", "bold")
        line = Text().append(f"{moment:%H:%M:%S}" if moment else " " * 8, "dim")
        kind = one_line(str(event.get("type")))
        unnamed = frozenset() if event.get("channel") == "app" else _UNNAMED
        line.append(f"  {kind:<{_TYPE_WIDTH}}", _COLOURS.get(str(event.get("channel")), ""))
        data = event.get("data")
        is_short = False
        for name, value in _ordered(data if isinstance(data, dict) else {}):
            field = Text("  ")
            if name not in unnamed:
                field.append(f"{one_line(_SHORT.get(name, name))}=", "dim")
            field.append(_value(value), "red" if name.startswith("error") else "")
            ends_at = line.cell_len + field.cell_len
            if _is_id(name) and ends_at + len(_MORE) > self._console.width:
                is_short = True  # a part of an id is of no use
            else:
                line.append_text(field)
        if is_short:
            line.append(_MORE, "dim")
        self._console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)


def _is_id(name: str) -> bool:
    return name == "id" or name.endswith("_id")


def _ordered(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that say something, the main ones first."""
    names = [name for name in _FIRST if name in data]
    for name in [*names, *(name for name in data if name not in _FIRST)]:
        if data[name] not in (None, "", {}, []):
            yield name, data[name]


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = one_line(text)
    return f'"{line}"' if isinstance(value, str) and " " in line else line


def _moment(created_at: object) -> datetime | None:
    """In this machine's zone."""
    try:
        return datetime.fromisoformat(str(created_at)).astimezone()
    except ValueError:
        return None
