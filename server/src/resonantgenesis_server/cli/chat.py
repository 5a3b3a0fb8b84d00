"""`resonantgenesis chat`: a conversation in one session."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
from typing import Annotated

import typer
from rich.console import Console

from .client import Client
from .errors import AuthError, CliError, UsageProblem
from .nearby import find_or_start
from .options import AsJson, Data, Url, connect, program, to_stderr
from .render import show_line, show_text
from .stream import Stream
from .target import Target
from .view import ChunkView, summary

_AGENT = "guide"
_LEAVE = frozenset({"exit", "quit"})


def chat(
    agent: Annotated[str | None, typer.Argument(help="The agent's id; default: guide.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER:MODEL",
            help="Talk with a model, e.g. ollama:llama3.2 or openai:gpt-5-mini: an agent for it is"
            " made on the spot, and a server started for it if none runs.",
        ),
    ] = None,
    tools: Annotated[
        bool, typer.Option(help="With --model: whether it may call the server's tools.")
    ] = True,
    session: Annotated[
        str | None, typer.Option(help="Go on with this session instead of a new one.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Talk with an agent or a model. Ctrl-C cancels the turn that runs, `exit` leaves.

    In a pipe, or with --json, each line of the input is a turn. Exit code 1 if the last turn was
    no success.
    """
    if sum(given is not None for given in (agent, model, session)) > 1:
        raise UsageProblem("name either an agent, or a --model, or a --session")
    console = Console()
    with contextlib.ExitStack() as stack:
        stays = True
        beside = _Beside()
        if model is None:
            client = stack.enter_context(connect(url, data, beside))
        else:
            server = stack.enter_context(find_or_start(url, None, data, to_stderr, stands_in=False))
            stays = server.child is None or data is not None
            target = Target(server.url, server.key.value)
            client = stack.enter_context(Client(target, notice=beside))
            agent = _agent_for(client, model, tools)
        if session is None:
            agent = agent or _AGENT
            session = client.create_session(agent)
        else:
            agent = str(client.session(session)["agent_id"])
        conversation = _Conversation(
            client,
            console,
            agent,
            session,
            model or agent,
            beside,
            stays=stays,
            as_json=as_json,
        )
        if not conversation.run():
            raise typer.Exit(1)


def _agent_for(client: Client, model: str, tools: bool) -> str:
    """The id of the agent for a model; one for each, made when it is first asked for."""
    kind = f"{model}{'' if tools else ' without tools'}"
    words = "-".join(re.findall(r"[A-Za-z0-9]+", kind))[:40]
    agent = f"chat-{words}-{hashlib.sha256(kind.encode()).hexdigest()[:6]}"
    body = {"id": agent, "name": f"Chat with {kind}", "engine": "llm", "model": model}
    try:
        client.call("POST", "/v1/agents", body | ({} if tools else {"tools": []}))
    except CliError as error:
        if error.code != "CONFLICT":  # else it is there already
            raise
    return agent


class _Beside:
    """Tells a person what is no part of a turn, on a terminal on a line of its own."""

    def __init__(self) -> None:
        #: What is being shown.
        self.view: ChunkView | None = None

    def __call__(self, text: str) -> None:
        if self.view is not None:
            self.view.make_room()
        to_stderr(text)


class _Conversation:
    def __init__(
        self,
        client: Client,
        console: Console,
        agent: str,
        session: str,
        name: str,
        beside: _Beside,
        *,
        stays: bool,
        as_json: bool,
    ) -> None:
        self._client = client
        self._console = console
        self._agent = agent
        self._session = session
        self._name = name
        self._beside = beside
        #: Whether the session is kept when the program ends.
        self._stays = stays
        self._as_json = as_json
        self._is_interactive = sys.stdin.isatty() and console.is_terminal and not as_json
        self._succeeded = True

    def run(self) -> bool:
        """Whether the last turn was a success, or a person was there to see that it was not."""
        if self._is_interactive:
            # Line editing and history at the prompt, where Python was built with it.
            if importlib.util.find_spec("readline") is not None:
                importlib.import_module("readline")
            to_stderr(f"{self._name} in {self._session}; Ctrl-C cancels a turn, exit leaves")
        while (goal := self._ask()) is not None:
            if goal:
                self._turn(goal)
        if self._is_interactive and self._stays:
            again = f"{program()} chat --session {self._session}"
            # Not broken at words, and on a line of its own: it is there to be copied.
            show_line(
                Console(stderr=True), f"(the conversation is kept; go on with: \n  {again})", "dim"
            )
        return self._is_interactive or self._succeeded

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
            self._console.out(f"{self._name}:", style="bold green", highlight=False)
        view = self._beside.view = ChunkView(self._console, as_json=self._as_json)
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
            show_text(Console(stderr=True), error.message, "red")

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
                self._succeeded = False
                return
            self._client.cancel(stream.session_id, stream.turn)
            for chunk in stream:
                view.show(chunk)
        view.end_line()
        self._succeeded = view.succeeded
        if view.done is not None and not view.succeeded:
            to_stderr(summary(view.done))
