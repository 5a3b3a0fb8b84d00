"""The Agent Protocol: what an engine gives the runner."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ..model.chunks import AgentChunk, ToolCall, ToolResult
from ..model.errors import AgentError


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
class StoredFile:
    """A file that can be downloaded by its id; `size` in bytes, `sha256` in hexadecimal."""

    file_id: str
    name: str
    content_type: str
    size: int
    sha256: str

    def as_result(self) -> dict[str, Any]:
        """What a tool_result says of it, for clients to fetch and to show."""
        return asdict(self)


class TurnFiles(Protocol):
    """The files of a turn.

    What is stored belongs to the session, and to its subject: both see it, and it goes when the
    session goes. A file exists whole or not at all. Names are 1 to 255 characters without a path
    (ValueError); without `content_type` the name's ending decides. A turn stores at most 100 files,
    and no more bytes in all than one file may have: beyond, and where a file cannot be stored now,
    AgentError, which tells the client so. After the turn's end everything raises RuntimeError.
    """

    async def store(
        self,
        name: str,
        content: bytes | AsyncIterable[bytes],
        content_type: str | None = None,
    ) -> StoredFile:
        """Durable when this returns. An iterable is read as fast as the disk takes it."""
        ...

    def store_from_thread(
        self, name: str, content: bytes, content_type: str | None = None
    ) -> StoredFile:
        """`store` for agents that are plain functions and so run in a thread."""
        ...

    async def get(self, file_id: str) -> StoredFile:
        """A file that the session's subject sees; without a subject, one of the organization.
        Raises AgentError when there is none."""
        ...

    def read(self, file_id: str) -> AsyncIterator[bytes]:
        """Its content, in pieces of at most 256 KiB. Raises as `get` does."""
        ...


class NoFiles:
    """For a turn outside a server."""

    async def store(
        self,
        name: str,
        content: bytes | AsyncIterable[bytes],
        content_type: str | None = None,
    ) -> StoredFile:
        raise _none()

    def store_from_thread(
        self, name: str, content: bytes, content_type: str | None = None
    ) -> StoredFile:
        raise _none()

    async def get(self, file_id: str) -> StoredFile:
        raise _none()

    async def read(self, file_id: str) -> AsyncIterator[bytes]:
        raise _none()
        yield b""


def _none() -> AgentError:
    return AgentError("this turn has no place for files")


NO_FILES: TurnFiles = NoFiles()


class TurnTools(Protocol):
    """The tools of a turn: those that `Turn.tools` names, or all that the server has.

    A call gives its result within the tool's time limit; what went wrong, an unknown tool too, is
    a result with `is_error`. Neither the call nor the result is in the stream unless the agent
    yields them.
    """

    async def run(self, call: ToolCall) -> ToolResult: ...

    def run_from_thread(self, call: ToolCall) -> ToolResult:
        """`run` for agents that are plain functions and so run in a thread."""
        ...


class NoTools:
    """For a turn outside a server."""

    async def run(self, call: ToolCall) -> ToolResult:
        return self.run_from_thread(call)

    def run_from_thread(self, call: ToolCall) -> ToolResult:
        return ToolResult(call.tool, "this turn has no tools", call.call_id, is_error=True)


NO_TOOLS: TurnTools = NoTools()


#: Raises an ApiError for names of tools that do not exist.
CheckTools = Callable[[Sequence[str]], Awaitable[None]]


async def any_tools(_names: Sequence[str]) -> None:
    """The `CheckTools` without a toolbox: every tool exists."""


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


@dataclass(frozen=True, slots=True)
class ResolvedAgent:
    """An agent with what its organization set for it."""

    agent: Agent
    instructions: str | None
    model: str | None
    tools: Sequence[str] | None
    defaults: Mapping[str, Any]


class AgentSource(Protocol):
    """Where agents come from."""

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        """Raises AgentNotFound, and Unavailable while that cannot be told."""
        ...
