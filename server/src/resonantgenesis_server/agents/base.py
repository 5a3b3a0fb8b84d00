"""The Agent Protocol: what an engine gives the runner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..model.chunks import AgentChunk
from .files import NO_FILES, TurnFiles
from .turn_tools import NO_TOOLS, TurnTools


@dataclass(frozen=True, slots=True)
class PastCall:
    """A tool that an earlier turn called; a long `result` is cut, None where there came none."""

    tool: str
    args: Mapping[str, Any]
    result: str | None
    is_error: bool = False


def shortened(text: str, most: int) -> str:
    """The beginning and the end of a text over `most` characters, and how much is missing."""
    if len(text) <= most:
        return text
    head, tail = text[: most * 3 // 4], text[len(text) - most // 4 :]
    return f"{head}\n… ({len(text) - len(head) - len(tail)} characters left out) …\n{tail}"


@dataclass(frozen=True, slots=True)
class PastStep:
    """What an earlier turn said, and the tools that it called then, side by side."""

    text: str
    calls: Sequence[PastCall]


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier turn of the session, as an agent sees it.

    `output` is all that it said; `steps` are its calls of tools with what it said before each.
    """

    goal: str
    output: str
    status: str
    steps: Sequence[PastStep] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One execution of a goal, as an agent sees it.

    `context` is the session's with the request's merged in; `history` the earlier turns, oldest
    first; `subject` the end user behind a client token, if any; `model`, `tools` and
    `instructions` the request's or else the agent's own. `max_steps` is enforced by the runner.
    `files` is where it can store files, and read those that it may see; `toolbox` calls `tools`
    (engine `python`; others have their own way).
    """

    goal: str
    session_id: str
    turn: int
    agent_id: str
    context: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[PastTurn] = ()
    subject: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    tools: Sequence[str] | None = None
    instructions: str | None = None
    max_steps: int = 10
    files: TurnFiles = NO_FILES
    toolbox: TurnTools = NO_TOOLS


class Agent(Protocol):
    """Turns a goal into chunks.

    `run` is called once per turn. The iterator is closed (`aclose`) when the turn is cancelled or
    out of time, with `asyncio.CancelledError` thrown at its current await; it should stop within a
    second, after which the turn ends without it. A `str` yielded is a text chunk. Raise
    `AgentError` to tell the client why the turn fails; what other exceptions say stays in the log.
    """

    def run(self, turn: Turn) -> AsyncIterator[AgentChunk]: ...
