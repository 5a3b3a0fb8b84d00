"""`resonantgenesis demo`: a question, its answer as it streams, and what to try next."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .client import PATIENCE, Patience, open_client
from .errors import CliError
from .nearby import PORT, Nearby, find_or_start
from .options import Url, program, to_stderr
from .render import one_line, show_line
from .target import Target
from .view import ChunkView, summary

AGENT = "guide"
QUESTION = "How do I resume a stream after a lost connection? And what is 12.5% of 2,400?"


def demo(
    question: Annotated[str, typer.Argument(help="What to ask the agent `guide`.")] = QUESTION,
    data: Annotated[
        Path | None,
        typer.Option(help="Data directory of the server that is started; default: a new one."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help=f"Port; default: {PORT}, or a free one.")
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--no-keep",
            help="Keep the server that was started until Ctrl-C; default: on a terminal.",
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Start a server if none runs, ask its built-in agent, watch the answer stream."""
    console = Console()
    stays = _is_interactive(console) if keep is None else keep

    def say(text: str) -> None:
        show_line(console, text, "dim")

    with find_or_start(url, port, data, say, stands_in=True) as server:
        succeeded = _ask(console, server, question, stays)
        if server.child is not None and stays:
            with contextlib.suppress(KeyboardInterrupt):
                show_line(console, f"The server runs at {server.url} until Ctrl-C.", "bold")
                server.child.wait()
    if not succeeded:
        raise typer.Exit(1)


def _is_interactive(console: Console) -> bool:
    return console.is_terminal and sys.stdin.isatty() and not os.environ.get("CI")


def _ask(console: Console, server: Nearby, question: str, stays: bool) -> bool:
    """Ask, show the answer and the next steps; True if the turn succeeded."""
    show_line(console, f"\nYou: {one_line(question, 500)}", "bold")
    show_line(console, f"{AGENT}:", "bold green")
    view = ChunkView(console)
    with open_client(Target(server.url, server.key.value), patient=True) as client:
        stream = client.sessions.execute_stream(
            AGENT, question, raise_on_error=False, on_reconnect=Patience(PATIENCE, to_stderr)
        )
        first = 0
        for chunk in stream:
            first = first or chunk.position
            view.show(chunk.raw)
    done, session, last = view.done, stream.session_id, stream.position
    if done is None or session is None:
        raise CliError("the turn ended without its last chunk; try again")
    show_line(console, f"\n{summary(done)}", "dim")
    show_line(console, f"session {session}, turn {stream.turn}, positions {first} to {last}", "dim")
    gone = server.child is not None and not stays
    show_line(console, _next_steps(server, session, max(first, last // 2), gone))
    return bool(done.get("status") == "success")


def _next_steps(server: Nearby, session: str, middle: int, gone: bool) -> str:
    """Commands to paste; `gone`: the server ends before anybody can paste them."""
    url, command = server.url, program()
    socket = f"ws{url.removeprefix('http')}/v1/ws"
    intro = "Try next"
    if gone:
        intro += f" (`{command} demo --keep` keeps the server running for it)"
    auth = '-H "Authorization: Bearer $RESONANTGENESIS_API_KEY"'
    body = '\'{"agent_id": "guide", "goal": "count to 300", "stream": true}\''
    return f"""
{intro}, in another terminal:

  export RESONANTGENESIS_BASE_URL={url}
  export RESONANTGENESIS_API_KEY={server.key.shell}

  # a turn of your own
  curl -N {url}/v1/sessions/execute {auth} \\
    -H "Content-Type: application/json" -d {body}

  # join this session from its beginning; go on from position {middle}; poll it
  curl -N "{url}/v1/sessions/{session}/stream?resume_from=0" {auth}
  curl -N "{url}/v1/sessions/{session}/stream?resume_from={middle}" {auth}
  curl "{url}/v1/sessions/{session}/events?after={middle}&wait=25" {auth}

  # cancel what runs in it
  curl -X POST {url}/v1/sessions/{session}/cancel {auth}

  # all that happens here, live; a WebSocket at {socket} carries the same
  {command} events tail

  {command} chat
  {command} sessions stream {session} --from {middle}

  # the console, signed in; in a clone `make site` builds it, and the documentation
  {command} console --open

  {url}/docs/
"""
