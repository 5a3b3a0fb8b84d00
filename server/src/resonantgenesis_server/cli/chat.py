"""`resonantgenesis chat`: a conversation in one session."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Annotated

import typer
from rich.console import Console

from .client import Client
from .errors import AuthError, CliError
from .options import Data, Url, connect, program, to_stderr
from .output import show_line
from .stream import Stream
from .view import ChunkView, summary

_LEAVE = frozenset({"exit", "quit"})


def chat(
    agent: Annotated[str, typer.Argument(help="The agent's id.")] = "guide",
    session: Annotated[
        str | None, typer.Option(help="Go on with this session instead of a new one.")
    ] = None,
    url: Url = None,
    data: Data = None,
) -> None:
    """Talk with an agent. Ctrl-C cancels the turn that runs, `exit` leaves."""
    console = Console()
    with connect(url, data, to_stderr) as client:
        if session is None:
            session = client.create_session(agent)
        else:
            agent = client.session(session)["agent_id"]
        _Conversation(client, console, agent, session).run()


class _Conversation:
    def __init__(self, client: Client, console: Console, agent: str, session: str) -> None:
        self._client = client
        self._console = console
        self._agent = agent
        self._session = session
        self._is_interactive = sys.stdin.isatty() and console.is_terminal

    def run(self) -> None:
        if self._is_interactive:
            # Line editing and history at the prompt, where Python was built with it.
            if importlib.util.find_spec("readline") is not None:
                importlib.import_module("readline")
            to_stderr(f"{self._agent} in {self._session}; Ctrl-C cancels a turn, exit leaves")
        while (goal := self._ask()) is not None:
            if goal:
                self._turn(goal)
        if self._is_interactive:
            again = f"{program()} chat --session {self._session}"
            to_stderr(f"the conversation is kept; go on with: {again}")

    def _ask(self) -> str | None:
        """What the person says; empty: nothing; None: the end."""
        while True:
            try:
                text = input("You: " if self._is_interactive else "").strip()
            except EOFError:
                if self._is_interactive:
                    show_line(self._console, "")
                return None
            except KeyboardInterrupt:
                if not self._is_interactive:
                    raise
                show_line(self._console, "")
                to_stderr("no turn runs; exit leaves")
                continue
            return None if text.lower() in _LEAVE else text

    def _turn(self, goal: str) -> None:
        if self._is_interactive:
            self._console.out(f"{self._agent}:", style="bold green", highlight=False)
        view = ChunkView(self._console)
        stream = self._client.execute(self._agent, goal, self._session)
        try:
            self._follow(stream, view)
        except AuthError:
            raise
        except CliError as error:
            # The conversation outlives a turn that could not be had.
            if not self._is_interactive:
                raise
            view.end_line()
            Console(stderr=True).out(error.message, style="red", highlight=False)

    def _follow(self, stream: Stream, view: ChunkView) -> None:
        try:
            for chunk in stream:
                view.show(chunk)
        except KeyboardInterrupt:
            view.end_line()
            to_stderr("cancelling")
            if stream.session_id is None:
                # It may have started all the same; its key names it.
                self._client.cancel_by_key(stream.idempotency_key or "")
                return
            self._client.cancel(stream.session_id, stream.turn)
            for chunk in stream:
                view.show(chunk)
        view.end_line()
        if view.done is not None and view.done.get("status") != "success":
            to_stderr(summary(view.done))
