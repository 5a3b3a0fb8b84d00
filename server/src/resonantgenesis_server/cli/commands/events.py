"""`resonantgenesis events …`."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ...model.events import channel_of, notes_on
from ..errors import CliError, UsageProblem
from ..event_feed import Wanted
from ..event_view import EventView
from ..options import AsJson, Data, Url, connect, program, to_stderr
from ..render import show_json, show_line
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

    One line per event on a terminal, JSON lines in a pipe. A cut or a restart of the server is
    survived without loss or repetition; after five minutes without a server it ends, and says
    from where to go on.
    """
    console = Console()
    view = EventView(console, as_json=as_json or not console.is_terminal)
    wanted = _wanted(pattern, filter_)
    start = None if since is None else place(since, "--since")
    with connect(url, data, to_stderr) as client:
        try:
            events = client.tail(wanted, start)
        except KeyboardInterrupt:
            return
        _tell_doubts(wanted)
        go_on = f"go on with: --since {events.place}"
        try:
            if console.is_terminal:
                to_stderr(f"{_named(wanted)} at {client.url}, as they happen; Ctrl-C ends")
            for event in events:
                view.show(event)
                go_on = f"go on with: --since {events.place}"
        except KeyboardInterrupt:
            if console.is_terminal:
                show_line(console, "")  # behind the terminal's own ^C
                to_stderr(go_on)
        except CliError as error:
            if error.code != "POSITION_EXPIRED":
                to_stderr(go_on)
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
    """Show what has happened, in order, and end.

    One line per event on a terminal, JSON lines in a pipe.
    """
    console = Console()
    view = EventView(console, as_json=as_json or not console.is_terminal)
    wanted = _wanted(pattern, filter_)
    start = place(since, "--since")
    end = None if until is None else place(until, "--until")
    count = 0
    with connect(url, data, to_stderr) as client:
        events = client.replay(wanted, start, end, limit)
        for event in events:
            view.show(event)
            count += 1
    _tell_doubts(wanted)
    more = f"; go on with: --since {events.place}" if events.has_more else ""
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

    It is repeated under one key until the server has answered, so that it is written once.
    """
    _check_directory(data)
    if body is not None and field:
        raise UsageProblem("give the data as JSON or with --field, not both")
    content = fields(field or [], "--field") if body is None else json_object(body, "DATA")
    key = idempotency_key or str(uuid.uuid4())
    with connect(url, data, to_stderr) as client:
        event = client.publish(kind, content, key)
    console = Console()
    if as_json or not console.is_terminal:
        show_json(console, event)
    else:
        EventView(console, as_json=False).show(event)
        to_stderr(f"published as {event.get('id')}, cursor {event.get('cursor')}")


def _wanted(pattern: Sequence[str] | None, filters: Sequence[str] | None) -> Wanted:
    return Wanted(patterns(pattern or []), fields(filters or [], "--filter"))


def _tell_doubts(wanted: Wanted) -> None:
    for pattern in wanted.patterns:
        problem = doubt(pattern)
        if problem is not None:
            to_stderr(problem)
        for note in notes_on([channel_of(pattern) or ""]):
            to_stderr(note)


def _named(wanted: Wanted) -> str:
    named = ", ".join(wanted.patterns) or "all events"
    if wanted.filters:
        named += " with " + ", ".join(wanted.filters)
    return named


def _check_directory(data: Path | None) -> None:
    """`--data` is the server's directory in every command; here it is easily meant otherwise."""
    if data is not None and "=" in str(data) and not data.is_dir():
        raise UsageProblem(
            f"--data names the server's data directory; give the event's with"
            f" `{program()} events publish TYPE --field {shlex.quote(str(data))}`"
        )
