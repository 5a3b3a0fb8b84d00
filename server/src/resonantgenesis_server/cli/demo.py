"""`resonantgenesis demo`: a question, its answer as it streams, and what to try next."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from ..config_load import load_settings
from .child import Child, answers, free_port, start_server
from .client import Client
from .errors import AuthError, CliError, NetworkError
from .options import Url, program, to_stderr
from .output import show_line
from .target import (
    BOOTSTRAP_VARIABLE,
    DEFAULT_URL,
    KEY_FILE,
    KEY_VARIABLE,
    URL_VARIABLE,
    Key,
    Target,
    check_url,
    find_key,
    is_loopback,
    key_in,
)
from .view import ChunkView, one_line, summary

AGENT = "guide"
QUESTION = "How do I resume a stream after a lost connection? And what is 12.5% of 2,400?"
_PORT = 8080


@dataclass(frozen=True, slots=True)
class _Server:
    """What to ask, and the child it runs in if it is ours."""

    url: str
    key: Key
    child: Child | None = None


def demo(
    question: Annotated[str, typer.Argument(help="What to ask the agent `guide`.")] = QUESTION,
    data: Annotated[
        Path | None,
        typer.Option(help="Data directory of the server that is started; default: a new one."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help=f"Port; default: {_PORT}, or a free one.")
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
    with _find_or_start(console, url, port, data) as server:
        succeeded = _ask(console, server, question, stays)
        if server.child is not None and stays:
            show_line(console, f"The server runs at {server.url} until Ctrl-C.", "bold")
            with contextlib.suppress(KeyboardInterrupt):
                server.child.wait()
    if not succeeded:
        raise typer.Exit(1)


def _is_interactive(console: Console) -> bool:
    return console.is_terminal and sys.stdin.isatty() and not os.environ.get("CI")


@contextlib.contextmanager
def _find_or_start(
    console: Console, url: str | None, port: int | None, data: Path | None
) -> Iterator[_Server]:
    named = url or (None if port else os.environ.get(URL_VARIABLE))
    address = check_url(named or (f"http://127.0.0.1:{port}" if port else DEFAULT_URL))
    running = _running(address, data)
    if running is not None:
        show_line(console, f"Asking the server that runs at {address}.", "dim")
        yield running
        return
    with contextlib.ExitStack() as stack:
        folder = data
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="resonantgenesis-demo-")
            folder = Path(stack.enter_context(made))
        wanted = port or httpx.URL(address).port or _PORT
        child = stack.enter_context(start_server(_port(wanted, port is not None), folder))
        where = "a new directory" if data is None else str(folder)
        show_line(console, f"Starting a server at {child.url} with its data in {where}.", "dim")
        child.wait_until_ready()
        yield _Server(child.url, _key_of(folder), child)


def _running(address: str, data: Path | None) -> _Server | None:
    """The server at the address if it takes our key.

    None where one of our own can be started instead; raises for an address of another machine.
    """
    is_local = is_loopback(address)
    with httpx.Client(base_url=address, timeout=2.0, trust_env=not is_local) as http:
        if not answers(http, "/readyz"):
            if is_local:
                return None
            raise NetworkError(f"no server answers at {address}; check --url")
    key = find_key(address, data)
    if key is not None:
        with Client(Target(address, key.value)) as client:
            try:
                client.call("GET", f"/v1/agents/{AGENT}")
            except AuthError:
                pass  # said below, for this and for no key at all
            else:
                return _Server(address, key)
    if is_local:
        to_stderr(f"a server runs at {address}, but not with a key that is known here")
        return None
    raise AuthError(f"no key for the server at {address}: set {KEY_VARIABLE}")


def _port(wanted: int, is_fixed: bool) -> int:
    found = free_port(wanted)
    if is_fixed and found != wanted:
        raise CliError(f"port {wanted} is taken; choose another with --port, or none")
    return found


def _key_of(folder: Path) -> Key:
    """The child's key: the one it was configured with, else the one it wrote."""
    configured = load_settings().settings.bootstrap_key
    if configured is not None:
        return Key(configured.get_secret_value(), f'"${BOOTSTRAP_VARIABLE}"')
    key = key_in(folder)
    if key is None:
        raise AuthError(
            f"{folder} holds a server without {KEY_FILE}; set {BOOTSTRAP_VARIABLE} to a new key"
        )
    return key


def _ask(console: Console, server: _Server, question: str, stays: bool) -> bool:
    """Whether the turn succeeded."""
    show_line(console, f"\nYou: {one_line(question, 500)}", "bold")
    show_line(console, f"{AGENT}:", "bold green")
    view = ChunkView(console)
    with Client(Target(server.url, server.key.value), notice=to_stderr) as client:
        stream = client.execute(AGENT, question)
        first = 0
        for chunk in stream:
            first = first or int(chunk["position"])
            view.show(chunk)
    done, session, last = view.done, stream.session_id, stream.position
    if done is None or session is None or last is None:
        raise CliError("the turn ended without its last chunk; try again")
    show_line(console, f"\n{summary(done)}", "dim")
    show_line(console, f"session {session}, turn {stream.turn}, positions {first} to {last}", "dim")
    gone = server.child is not None and not stays
    show_line(console, _next_steps(server, session, max(first, last // 2), gone))
    return bool(done.get("status") == "success")


def _next_steps(server: _Server, session: str, middle: int, gone: bool) -> str:
    """Commands to paste; `gone`: the server has ended by the time they can be."""
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

  {url}/docs
"""
