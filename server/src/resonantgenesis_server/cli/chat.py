"""`resonantgenesis chat`: a conversation in one session."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .asks import NotAnAnswer, answer, prompt
from .client import PATIENCE, Patience, open_client, translated
from .errors import AuthError, CliError, NetworkError, NotFoundError, UsageProblem
from .nearby import find_or_start
from .options import AsJson, Data, Url, program, to_stderr
from .render import show_line, show_text
from .target import Target, find_target
from .values import identifier
from .view import ChunkView, summary

if TYPE_CHECKING:
    from resonantgenesis import SyncResonantGenesis, SyncStream

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
        str | None,
        typer.Option(parser=identifier, help="Go on with this session instead of a new one."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Talk with an agent or a model. Ctrl-C cancels the turn that runs, `exit` leaves.

    What the turn asks is shown and answered in its place. In a pipe, or with --json, each line of
    the input is a turn, or the answer to a turn that asks. Exit code 1 if the last turn was no
    success.
    """
    if sum(choice is not None for choice in (agent, model, session)) > 1:
        raise UsageProblem("name either an agent, or a --model, or a --session")
    console = Console()
    with contextlib.ExitStack() as stack:
        stays = True
        if model is None:
            target = find_target(url, data)
        else:
            server = stack.enter_context(find_or_start(url, None, data, to_stderr, stands_in=False))
            stays = server.child is None or data is not None
            target = Target(server.url, server.key.value)
        client = stack.enter_context(open_client(target))
        if model is not None:
            agent = _agent_for(client, model, tools)
        goes_on = session is not None
        if session is None:
            agent = agent or _AGENT
            session = client.sessions.create(agent).session_id
        else:
            agent = str(client.sessions.get(session).agent_id)
        conversation = _Conversation(
            client,
            stack.enter_context(open_client(target, patient=True)),
            console,
            agent,
            session,
            model or agent,
            stays=stays,
            as_json=as_json,
        )
        if goes_on:
            conversation.answer_left()
        if not conversation.run():
            raise typer.Exit(1)


def _agent_for(client: SyncResonantGenesis, model: str, tools: bool) -> str:
    """The id of the model's agent. The first conversation with a model creates the agent."""
    kind = f"{model}{'' if tools else ' without tools'}"
    words = "-".join(re.findall(r"[A-Za-z0-9]+", kind))[:40]
    agent = f"chat-{words}-{hashlib.sha256(kind.encode()).hexdigest()[:6]}"
    fields: dict[str, Any] = {} if tools else {"tools": []}
    try:
        with translated(client.base_url):
            client.agents.create(
                id=agent, name=f"Chat with {kind}", engine="llm", model=model, **fields
            )
    except CliError as error:
        if error.code != "CONFLICT":  # a conflict: an earlier conversation made it
            raise
    return agent


class _Conversation:
    def __init__(
        self,
        client: SyncResonantGenesis,
        patient: SyncResonantGenesis,
        console: Console,
        agent: str,
        session: str,
        name: str,
        *,
        stays: bool,
        as_json: bool,
    ) -> None:
        self._client = client
        self._patient = patient
        self._console = console
        self._agent = agent
        self._session = session
        self._name = name
        #: True if the session is kept when the program ends.
        self._stays = stays
        self._as_json = as_json
        self._is_interactive = sys.stdin.isatty() and console.is_terminal and not as_json
        self._succeeded = True

    def run(self) -> bool:
        """Run to the end of the input; False if the last turn failed and no person saw it."""
        if self._is_interactive:
            # Line editing and history at the prompt, if this Python has them.
            if importlib.util.find_spec("readline") is not None:
                importlib.import_module("readline")
            to_stderr(f"{self._name} in {self._session}; Ctrl-C cancels a turn, exit leaves")
        while (goal := self._ask()) is not None:
            if goal:
                self._turn(goal)
        if self._stays and (self._is_interactive or not self._succeeded):
            # On a line of its own and not broken, so that it can be copied.
            show_line(
                Console(stderr=True),
                f"(the conversation is kept; go on with: \n  {self._again})",
                "dim",
            )
        return self._is_interactive or self._succeeded

    @property
    def _again(self) -> str:
        return f"{program()} chat --session {self._session}"

    def _rest_is_kept(self, view: ChunkView) -> str:
        """How a person gets the rest of a turn whose stream is gone for good."""
        place = f"{self._session} --from {view.position}"
        return (
            f"the conversation is kept: `{program()} sessions stream {place}` shows the rest,"
            f" `{self._again}` goes on"
        )

    def _ask(self) -> str | None:
        """The next input of the person; None at the end."""
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
        view = ChunkView(self._console, as_json=self._as_json)
        try:
            with translated(self._client.base_url):
                self._run_turn(goal, view)
        except AuthError:
            raise
        except CliError as error:
            message = error.message
            if self._stays and (view.position or isinstance(error, NetworkError)):
                message += f"; {self._rest_is_kept(view)}"
            view.end_line()
            # The conversation outlives a turn that failed.
            if not self._is_interactive:
                raise type(error)(message, code=error.code) from error
            show_text(Console(stderr=True), message, "red")

    def _run_turn(self, goal: str, view: ChunkView) -> None:
        def say(text: str) -> None:
            view.make_room()
            to_stderr(text)

        key = str(uuid.uuid4())
        stream = self._patient.sessions.execute_stream(
            self._agent,
            goal,
            session_id=self._session,
            idempotency_key=key,
            raise_on_error=False,
            on_reconnect=Patience(PATIENCE, say),
        )
        try:
            for chunk in stream:
                view.show(chunk.raw)
            while view.asks:
                view.end_line()
                if not self._answer_all(view):
                    to_stderr(_waits(self._session))
                    return
                stream = self._rest(stream.position, stream.turn, Patience(PATIENCE, say))
                for chunk in stream:
                    view.show(chunk.raw)
        except KeyboardInterrupt:
            view.end_line()
            to_stderr("cancelling")
            if stream.turn is None:
                self._cancel_unanswered(key)
                return
            self._cancel(stream, view, Patience(PATIENCE, say))
        view.end_line()
        self._succeeded = view.succeeded
        if view.done is not None and not view.succeeded:
            to_stderr(summary(view.done))

    def _answer_all(self, view: ChunkView) -> bool:
        """Answer what the turn asks. Returns False at the end of the input."""
        for call_id, ask in list(view.asks.items()):
            while True:
                try:
                    line = input(prompt(ask) if self._is_interactive else "")
                except EOFError:
                    return False
                try:
                    self._give(call_id, answer(ask, line))
                except NotAnAnswer as error:
                    to_stderr(str(error))
                    continue
                except CliError as error:
                    if error.code not in {"INVALID_REQUEST", "CONFLICT"}:
                        raise
                    to_stderr(error.message)
                    if error.code == "INVALID_REQUEST":
                        continue
                break
            del view.asks[call_id]
        return True

    def _give(self, call_id: str, fields: dict[str, Any]) -> None:
        with translated(self._client.base_url):
            self._client.sessions.input(self._session, call_id, **fields)

    def answer_left(self) -> None:
        """Answer what the session asks already, and show what follows."""
        with translated(self._client.base_url):
            session = self._client.sessions.get(self._session)
        view = ChunkView(self._console, as_json=self._as_json)
        for ask in session.waiting:
            view.show({"type": "input_required", **ask.raw})
        position = session.position
        while view.asks:
            view.end_line()
            if not self._answer_all(view):
                to_stderr(_waits(self._session))
                return
            with translated(self._client.base_url):
                rest = self._rest(position, session.turn, Patience(PATIENCE, to_stderr))
                for chunk in rest:
                    view.show(chunk.raw)
            position = rest.position
        view.end_line()
        self._succeeded = view.succeeded

    def _rest(self, position: int | None, turn: int | None, patience: Patience) -> SyncStream:
        """The turn's chunks behind those that were shown."""
        return self._patient.sessions.join(
            self._session,
            resume_from=position or None,  # 0: nothing yet; the turn's own start
            turn=turn,
            raise_on_error=False,
            on_reconnect=patience,
        )

    def _cancel_unanswered(self, key: str) -> None:
        """Cancel a turn that may have started although no answer came; its key names it."""
        self._succeeded = False
        with contextlib.suppress(NotFoundError), translated(self._client.base_url):
            self._client.sessions.cancel(idempotency_key=key)

    def _cancel(self, stream: SyncStream, view: ChunkView, patience: Patience) -> None:
        """Cancel the turn and show its end."""
        self._client.sessions.cancel(self._session, turn=stream.turn)
        for chunk in self._rest(stream.position, stream.turn, patience):
            view.show(chunk.raw)


def _waits(session: str) -> str:
    return f"the turn waits for an answer; give it with {program()} sessions input {session}"
