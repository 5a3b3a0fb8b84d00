"""`resonantgenesis events …`."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ..client import CALL_PATIENCE, END, TAIL_PATIENCE, Patience, cursor_behind
from ..errors import CliError, NetworkError, UsageProblem
from ..options import AsJson, Data, Url, connect, program, to_stderr
from ..render import one_line, show_json, show_line
from ..values import doubt, fields, json_object, patterns, place

app = typer.Typer(no_args_is_help=True, help="Follow, replay and publish platform events.")

Patterns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATTERN",
        help="Types, with * for segments: 'session.*', '*.failed', app.order.paid; default: all.",
    ),
]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="FIELD=VALUE",
        help="Only events whose data has it: status=success, turn=1, user.plan=pro. Given again"
        " for the same field: any of the values; for another field: both must hold.",
    ),
]
_PLACES = "a cursor, a time, or 15m, 2h, 3d for how long ago"


@app.command()
def tail(
    pattern: Patterns = None,
    filter_: Filters = None,
    since: Annotated[
        str | None, typer.Option(help=f"Begin with what has happened since: {_PLACES}.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Watch events as they happen, until Ctrl-C.

    One line per event on a terminal, JSON lines in a pipe. A cut or a restart of the server
    loses and repeats nothing. After five minutes without a server the command ends, and says
    from where to go on.
    """
    console = Console()
    view = EventView(console, as_json=as_json or not console.is_terminal)
    types, filters = patterns(pattern or []), fields(filter_ or [], "--filter")
    selection: dict[str, Any] = {"events": types or None, "filters": filters}
    start = None if since is None else place(since, "--since")
    try:
        with connect(url, data) as client:
            # Fails at once if there is no server, or if it refuses. And it gives the place of
            # "now", so that a first connection that breaks loses nothing.
            reached = cursor_behind(client, start or END, **selection)
    except KeyboardInterrupt:
        return
    _warn_of_doubts(types)
    last: str | None = start or reached
    try:
        with connect(url, data, patient=True) as client:
            events = client.events.subscribe(
                **selection, since=last, on_reconnect=Patience(TAIL_PATIENCE, to_stderr)
            )
            try:
                if console.is_terminal:
                    named = _describe(types, filters)
                    to_stderr(f"{named} at {client.base_url}, as they happen; Ctrl-C ends")
                for event in events:
                    view.show(event.raw)
            finally:
                last = events.cursor
    except KeyboardInterrupt:
        if console.is_terminal:
            show_line(console, "")  # behind the terminal's own ^C
            to_stderr(f"go on with: --since {last}")
    except CliError as error:
        if error.code != "POSITION_EXPIRED":
            to_stderr(f"go on with: --since {last}")
        raise


@app.command()
def replay(
    since: Annotated[str, typer.Option(help=f"From here on: {_PLACES}.")],
    pattern: Patterns = None,
    until: Annotated[
        str | None, typer.Option(help="Up to here, like --since; default: now.")
    ] = None,
    filter_: Filters = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="How many at most; default: all.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Show past events in order, and end.

    One line per event on a terminal, JSON lines in a pipe.
    """
    console = Console()
    view = EventView(console, as_json=as_json or not console.is_terminal)
    types, filters = patterns(pattern or []), fields(filter_ or [], "--filter")
    start = place(since, "--since")
    end = None if until is None else place(until, "--until")
    if end is None:
        with connect(url, data) as client:
            # What happens while the events are read does not lengthen the replay.
            end = cursor_behind(client, END)
    count = 0
    with connect(url, data, patient=True) as client:
        events = client.events.replay(
            start,
            until=end,
            events=types or None,
            filters=filters,
            limit=limit,
            on_reconnect=_call_patience(client.base_url),
        )
        for event in events:
            view.show(event.raw)
            count += 1
    _warn_of_doubts(types)
    more = f"; go on with: --since {events.cursor}" if events.has_more else ""
    to_stderr(f"{count} {'event' if count == 1 else 'events'}{more}")


@app.command()
def publish(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="Its type, like app.order.paid.")],
    body: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="Its data, a JSON object: '{\"order\": 7}'."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Instead of DATA, a field of it, JSON or text; may be given several times.",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Publish once, however often it is called with this key."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Publish an event of your own.

    The call is repeated under one key until the server answers, so the event is written once.
    """
    _check_directory(data)
    if body is not None and field:
        raise UsageProblem("give the data as JSON or with --field, not both")
    content = fields(field or [], "--field") if body is None else json_object(body, "DATA")
    key = idempotency_key or str(uuid.uuid4())
    try:
        with connect(url, data, patient=True) as client:
            patience = _call_patience(client.base_url)
            event = client.events.publish(
                kind, content, idempotency_key=key, on_reconnect=patience
            ).raw
    except NetworkError as error:
        raise NetworkError(
            f"{error.message}; if it was written, --idempotency-key {key} does not write it again"
        ) from error
    console = Console()
    if as_json or not console.is_terminal:
        show_json(console, event)
    else:
        EventView(console, as_json=False).show(event)
        to_stderr(f"published as {event.get('id')}, cursor {event.get('cursor')}")


def _call_patience(url: str) -> Patience:
    return Patience(CALL_PATIENCE, to_stderr, f"no answer from {url}, trying again")


def _warn_of_doubts(types: Sequence[str]) -> None:
    for pattern in types:
        problem = doubt(pattern)
        if problem is not None:
            to_stderr(problem)


def _describe(types: Sequence[str], filters: Mapping[str, Any]) -> str:
    description = ", ".join(types) or "all events"
    if filters:
        description += " with " + ", ".join(filters)
    return description


def _check_directory(data: Path | None) -> None:
    """Refuse `--data` that looks like the event's data: it names the server's directory."""
    if data is not None and "=" in str(data) and not data.is_dir():
        raise UsageProblem(
            f"--data names the server's data directory; give the event's with"
            f" `{program()} events publish TYPE --field {shlex.quote(str(data))}`"
        )


_COLOURS = {
    "sessions": "cyan",
    "agents": "blue",
    "teams": "magenta",
    "webhooks": "yellow",
    "billing": "green",
    "system": "bright_black",
    "app": "bright_magenta",
}
#: The most important fields stand first, since a narrow terminal cuts the rest.
_FIRST = ("session_id", "error_code", "error", "status", "name", "goal")
#: Fields of the server's own events that need no name.
_UNNAMED = frozenset(_FIRST)
_SHORT = {"agent_id": "agent"}
#: The end of a line that lacks a field.
_MORE = " …"
#: The longest of the server's own types.
_TYPE_WIDTH = 24


class EventView:
    """Shows events, one a line: as JSON, or for a person.

    A person gets the time in this machine's zone, the type in its channel's colour and the main
    fields, cut at the terminal's edge. An id that would be cut is left out.
    """

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self._as_json = as_json
        self._day = date.today()

    def show(self, event: Mapping[str, Any]) -> None:
        if self._as_json:
            show_json(self._console, event)
        else:
            self._show_line(event)
        self._console.file.flush()  # a pipe also gets each event when it happens

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
    """The fields that have a value, the main ones first."""
    names = [name for name in _FIRST if name in data]
    for name in [*names, *(name for name in data if name not in _FIRST)]:
        if data[name] not in (None, "", {}, []):
            yield name, data[name]


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = one_line(text)
    return f'"{line}"' if isinstance(value, str) and " " in line else line


def _moment(created_at: object) -> datetime | None:
    """A time of the server in this machine's zone; None if it is not a time."""
    try:
        return datetime.fromisoformat(str(created_at)).astimezone()
    except ValueError:
        return None
