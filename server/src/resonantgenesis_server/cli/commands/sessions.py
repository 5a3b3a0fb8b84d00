"""`resonantgenesis sessions …`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .. import values
from ..asks import question
from ..client import PATIENCE, Patience, items
from ..errors import UsageProblem
from ..options import AsJson, Data, Limit, Url, connect, to_stderr
from ..render import safe, show_fields, show_json, show_line, show_rows
from ..view import ChunkView, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resonantgenesis import Ask, Message, SyncResonantGenesis

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, stream, fork, answer, cancel, export and delete sessions.",
)

#: Messages of one page.
_MESSAGES = 500
_COLUMNS = ("session_id", "agent_id", "status", "turns", "updated_at")
SessionId = Annotated[
    str, typer.Argument(metavar="SESSION", parser=values.identifier, help="The session's id.")
]
Turn = Annotated[int | None, typer.Option(min=1, help="Only this turn.")]


@app.command("list")
def list_sessions(
    agent: Annotated[str | None, typer.Option(help="Only those of this agent.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those with this status.")] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="Only those with these words in agent, subject, first goal or metadata, or whose"
            " id begins so.",
        ),
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Sessions, newest first."""
    with connect(url, data) as client:
        list_page = partial(client.sessions.list, agent_id=agent, status=status, search=search)
        show_rows(Console(), items(list_page, limit), _COLUMNS, as_json=as_json)


@app.command()
def show(
    session_id: SessionId, as_json: AsJson = False, url: Url = None, data: Data = None
) -> None:
    """One session, with the output of its newest turn so far."""
    with connect(url, data) as client:
        session = client.sessions.get(session_id).raw
    console = Console()
    if as_json:
        show_json(console, session)
        return
    output = session.pop("output", None)
    show_fields(console, session)
    if output:
        show_line(console, "\n" + safe(output))


@app.command()
def stream(
    session_id: SessionId,
    resume_from: Annotated[
        int | None,
        typer.Option("--from", min=0, help="You have everything up to this position; 0: nothing."),
    ] = None,
    turn: Turn = None,
    follow: Annotated[bool, typer.Option(help="Stay for the turns to come.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Watch a session from a position, else from the start of its running or last turn.

    The exit code is 1 if the last turn that was shown had no success.
    """
    view = ChunkView(Console(), as_json=as_json)
    with connect(url, data) as client:
        client.sessions.get(session_id)  # fails at once without a server or session
    with connect(url, data, patient=True) as client:
        joined = client.sessions.join(
            session_id,
            resume_from=resume_from,
            turn=turn,
            follow=follow,
            raise_on_error=False,
            on_reconnect=Patience(PATIENCE, to_stderr),
        )
        try:
            for chunk in joined:
                view.show(chunk.raw)
        finally:
            view.end_line()
    if not as_json and view.done is not None:
        to_stderr(f"{summary(view.done)}, position {joined.position}")
    elif not as_json and (joined.position or resume_from is not None):
        to_stderr(f"nothing follows position {joined.position}")
    if not view.succeeded:
        raise typer.Exit(1)


@app.command()
def messages(
    session_id: SessionId,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """The conversation: the newest messages, the oldest of them first."""
    console = Console()
    newest_first: list[Message] = []
    cursor: str | None = None
    with connect(url, data) as client:
        while len(newest_first) < limit:
            page = client.sessions.messages(
                session_id, limit=min(limit - len(newest_first), _MESSAGES), cursor=cursor
            )
            newest_first += reversed(page.data)
            cursor = page.next_cursor
            if cursor is None:
                break
    for message in reversed(newest_first[:limit]):
        if as_json:
            show_json(console, message.raw)
        else:
            show_line(console, _headline(message))
            show_line(console, safe(message.text) + "\n")


def _headline(message: Message) -> str:
    """Who speaks, in which turn, and how that stands."""
    who = "user" if message.role == "user" else "agent"
    tools = sum(part.get("type") == "tool_call" for part in message.parts)
    notes = [f"turn {message.turn}"]
    if message.role != "user" and message.status != "success":
        notes.append(message.status)
    if tools:
        notes.append(f"{tools} tool call{'s' if tools > 1 else ''}")
    if message.replaced_by:
        notes.append(f"replaced by turn {message.replaced_by}")
    return f"{who} ({', '.join(notes)})"


@app.command()
def fork(
    session_id: SessionId,
    turn: Annotated[
        int | None,
        typer.Option(min=0, help="The last turn it begins with; else the last that has ended."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Make a session that begins with the turns of this one, and print its id."""
    with connect(url, data) as client:
        made = client.sessions.fork(session_id, turn=turn)
    if as_json:
        show_json(Console(), made.raw)
    else:
        show_line(Console(), made.session_id)


@app.command()
def cancel(session_id: SessionId, turn: Turn = None, url: Url = None, data: Data = None) -> None:
    """Cancel a session's turn, else all that run or wait now."""
    with connect(url, data) as client:
        cancelled = client.sessions.cancel(session_id, turn=turn)
    turns = ", ".join(str(number) for number in cancelled)
    show_line(Console(), f"cancelled turn {turns}" if turns else "no turn runs or waits")


@app.command()
def delete(session_id: SessionId, url: Url = None, data: Data = None) -> None:
    """Delete a session with its log and its files. No turn of it may run or wait."""
    with connect(url, data) as client:
        client.sessions.delete(session_id)
    show_line(Console(), f"deleted {session_id}")


@app.command()
def export(session_id: SessionId, url: Url = None, data: Data = None) -> None:
    """Write all chunks of a session that are stored now, as lines of JSON."""
    from resonantgenesis import PositionExpired

    with connect(url, data, patient=True) as client:
        end = client.sessions.get(session_id).position or 0
        try:
            _export(client, session_id, 0, end)
        except PositionExpired as error:
            earliest = error.details.get("earliest")
            if not isinstance(earliest, int) or earliest < 2:
                raise
            to_stderr(f"chunks before position {earliest} were trimmed")
            _export(client, session_id, earliest - 1, end)


def _export(client: SyncResonantGenesis, session_id: str, after: int, end: int) -> None:
    """Write the stored chunks behind `after` and up to `end`."""
    if after >= end:
        return
    console = Console()
    joined = client.sessions.join(
        session_id,
        resume_from=after,
        raise_on_error=False,
        on_reconnect=Patience(PATIENCE, to_stderr),
    )
    for chunk in joined:
        if not chunk.transient:
            show_json(console, chunk.raw)
        if chunk.position >= end:
            return


@app.command("input")
def give_input(
    session_id: SessionId,
    call_id: Annotated[
        str | None, typer.Argument(metavar="CALL", help="The ask's call_id; default: the only one.")
    ] = None,
    approve: Annotated[
        bool | None, typer.Option("--approve/--deny", help="Approve or deny a call.")
    ] = None,
    payload: Annotated[str | None, typer.Option(metavar="JSON", help="The value, as JSON.")] = None,
    text: Annotated[str | None, typer.Option(help="The value, as text.")] = None,
    reason: Annotated[str | None, typer.Option(help="A word for the agent.")] = None,
    url: Url = None,
    data: Data = None,
) -> None:
    """Answer what a session's turn asks; without an answer, show what it asks."""
    fields: dict[str, Any] = {"approved": approve, "reason": reason}
    if payload is not None:
        fields["payload"] = values.json_value(payload)
    elif text is not None:
        fields["payload"] = text
    with connect(url, data) as client:
        asks = client.sessions.get(session_id).waiting
        if approve is None and payload is None and text is None:
            for ask in asks:
                show_line(Console(), safe(f"{ask.call_id}\t{question(ask.raw)}"))
            if not asks:
                show_line(Console(), "the session asks nothing")
            return
        if call_id is None:
            call_id = _only(asks).call_id
        if approve is None and any(a.call_id == call_id and a.kind == "approval" for a in asks):
            raise UsageProblem(f"{call_id} is an approval: answer with --approve or --deny")
        given = client.sessions.input(session_id, call_id, **fields)
    show_line(Console(), f"answered; the session is {given.status}")


def _only(asks: Sequence[Ask]) -> Ask:
    """The one ask of a session. Raises UsageProblem."""
    if not asks:
        raise UsageProblem("the session asks nothing")
    if len(asks) > 1:
        names = ", ".join(ask.call_id for ask in asks)
        raise UsageProblem(f"the session asks {len(asks)} things: name the CALL, one of {names}")
    return asks[0]
