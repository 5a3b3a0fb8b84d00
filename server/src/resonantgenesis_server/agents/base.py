"""The Agent Protocol between an engine and the runner of turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from ..model.chunks import AgentChunk, Ask, File, ToolCall, ToolResult
from ..model.errors import AgentError

#: The `agent_id` and `parent` of a sub-agent's chunks, both empty for the turn's own agent.
Origin = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PastCall:
    """A tool call of an earlier turn. A long `result` is cut; None means that no result came."""

    tool: str
    args: Mapping[str, Any]
    result: str | None
    is_error: bool = False
    call_id: str = field(default="", compare=False)


def shortened(text: str, limit: int) -> str:
    """The beginning and the end of a text over `limit` characters, and the length of the gap."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit * 3 // 4], text[len(text) - limit // 4 :]
    return f"{head}\n… ({len(text) - len(head) - len(tail)} characters left out) …\n{tail}"


@dataclass(frozen=True, slots=True)
class PastStep:
    """A text of an earlier turn, and the tools that it called after the text, side by side.

    `message` is what the user said then, while the turn ran; empty: nothing.
    """

    text: str
    calls: Sequence[PastCall]
    message: str = ""


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier turn of the session, as an agent sees it.

    `output` is the whole text; `steps` are the calls of tools with the text before each. `left` are
    messages of the user that came while the turn ran, and that its agent did not take.
    """

    goal: str
    output: str
    status: str
    steps: Sequence[PastStep] = ()
    left: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that clients download by its id. `size` is in bytes, `sha256` in hexadecimal."""

    file_id: str
    name: str
    content_type: str
    size: int
    sha256: str

    def as_result(self) -> dict[str, Any]:
        """The description for a tool_result, by which clients fetch and show the file."""
        return asdict(self)

    def as_chunk(self) -> File:
        """The chunk that shows the file as a part of the answer."""
        return File(self.file_id, self.name, self.content_type, self.size)


class TurnFiles(Protocol):
    """The files of a turn.

    A stored file belongs to the session and to its subject: both see it, and it is deleted with the
    session. A file exists whole or not at all. Names have 1 to 255 characters and no path (else
    ValueError). Without `content_type` the ending of the name decides.

    A turn stores at most 100 files, with no more bytes in all than one file may have. Beyond these
    bounds, and when a file cannot be stored now, AgentError tells the client so. After the end of
    the turn every method raises RuntimeError.
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
        """A file that the subject of the session sees; without a subject, a file of the
        organization. Raises AgentError when there is none."""
        ...

    def read(self, file_id: str) -> AsyncIterator[bytes]:
        """The content, in pieces of at most 256 KiB. Raises as `get` does."""
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
    """The tools of a turn: those that `Turn.tools` names, or all tools of the server.

    A call gives its result within the time limit of the tool. A failure, also an unknown tool, is a
    result with `is_error`. The stream shows the call and its result only if the agent yields them.
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


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call that a turn waited for; true unless it was refused or none came.

    `approved` decides on a call. `payload` is the value from a person, or the result of a tool of
    the client. `reason` is in the words of the person who answered.
    """

    call_id: str
    status: Literal["answered", "expired", "cancelled"] = "answered"
    approved: bool | None = None
    payload: Any = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.status == "answered" and self.approved is not False

    @property
    def refusal(self) -> str:
        """Why it is false, in words for a model or a person."""
        if self.status == "expired":
            return "nobody answered in time"
        if self.status == "cancelled":
            return "the turn ended before an answer came"
        return f"denied: {self.reason}" if self.reason else "denied"


class NotAnswered(AgentError):
    """Nobody gave a value: the time ran out, or the person declined. `answer` says which."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.refusal)
        self.answer = answer


class TurnAsks(Protocol):
    """Puts questions to the clients of a turn, and waits for the answers."""

    async def ask(self, ask: Ask) -> Answer:
        """The answer to this question. The turn stops until all open questions have answers."""
        ...

    def ask_from_thread(self, ask: Ask) -> Answer:
        """`ask` for agents that are plain functions and so run in a thread."""
        ...


class NoAsks:
    """For a turn outside a server."""

    async def ask(self, ask: Ask) -> Answer:
        return self.ask_from_thread(ask)

    def ask_from_thread(self, ask: Ask) -> Answer:
        raise AgentError("this turn has nobody to ask")


NO_ASKS: TurnAsks = NoAsks()


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that the client of a turn runs. `schema` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """What the user said to the turn while it was open."""

    message_id: str
    content: str


class Inbox(Protocol):
    """The messages that come while the turn runs.

    The stream shows a message as taken at the place where the agent takes it. Messages that nobody
    has taken at the end of the turn are shown as left; the next turn has them in its history.
    """

    async def take(self) -> Sequence[InboxMessage]:
        """The messages that wait, in their order; none: nothing waits."""
        ...

    async def wait(self) -> Sequence[InboxMessage]:
        """Like `take`, once there is a message. The end of the turn cancels the wait."""
        ...

    def take_from_thread(self) -> Sequence[InboxMessage]:
        """`take` for agents that are plain functions and so run in a thread."""
        ...


class NoInbox:
    """For a turn outside a server."""

    async def take(self) -> Sequence[InboxMessage]:
        return ()

    async def wait(self) -> Sequence[InboxMessage]:
        await asyncio.Event().wait()
        return ()

    def take_from_thread(self) -> Sequence[InboxMessage]:
        return ()


NO_INBOX: Inbox = NoInbox()


#: A place among the turns of an agent that run at once, for the length of its `with` block.
AgentSlot = Callable[[str], AbstractAsyncContextManager[None]]


def any_number(_agent_id: str) -> AbstractAsyncContextManager[None]:
    """For a turn outside a server."""
    return nullcontext()


#: Raises an ApiError for names of tools that do not exist.
CheckTools = Callable[[Sequence[str]], Awaitable[None]]


async def any_tools(_names: Sequence[str]) -> None:
    """The `CheckTools` without a toolbox: every tool exists."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One execution of a goal, as an agent sees it.

    `context` is that of the session with that of the request merged in. `history` are the earlier
    turns, oldest first. `subject` is the end user behind a client token. `model`, `tools` and
    `instructions` come from the request, or else from the agent's record. The runner enforces
    `max_steps`. `files` stores and reads files. `toolbox` calls the `tools` (engine `python`; other
    engines have their own way). `client_tools` are those that the client of the turn runs.
    `inbox` has the messages that come while the turn runs. `earlier` is the number of all earlier
    turns, of which `history` has the newest; None: nobody has counted them.

    A turn that waited and goes on in another process has the `answers` of all its asks by call_id.
    `so_far` is then its text and its calls of tools up to now, and `kept` the value of its newest
    `Keep`. `so_far_of` is the `so_far` of its sub-agents.

    A member of a team has a `part` of the turn, which is the call_id of its task. `slot` is a place
    among the turns of another agent, by its id.
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
    inbox: Inbox = NO_INBOX
    earlier: int | None = None
    client_tools: Sequence[ClientTool] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)
    so_far: Sequence[PastStep] = ()
    kept: Any = None
    so_far_of: Mapping[Origin, Sequence[PastStep]] = field(default_factory=dict, repr=False)
    part: str = ""
    slot: AgentSlot = field(default=any_number, repr=False, compare=False)
    asks: TurnAsks = field(default=NO_ASKS, repr=False, compare=False)

    async def ask(
        self,
        message: str,
        schema: Mapping[str, Any] | None = None,
        *,
        call_id: str = "",
        expires_in: float | None = None,
    ) -> Any:
        """The value that a person gives, which fits the JSON Schema. The turn waits meanwhile.

        Raises NotAnswered if nobody answers within `expires_in` seconds, or the person declines.
        """
        return _value(await self.asks.ask(_question(message, schema, call_id, expires_in)))

    def ask_from_thread(
        self,
        message: str,
        schema: Mapping[str, Any] | None = None,
        *,
        call_id: str = "",
        expires_in: float | None = None,
    ) -> Any:
        """`ask` for agents that are plain functions and so run in a thread."""
        return _value(self.asks.ask_from_thread(_question(message, schema, call_id, expires_in)))

    async def approve(
        self, call: ToolCall, message: str = "", *, expires_in: float | None = None
    ) -> Answer:
        """Whether a person lets the agent make this call: `if await turn.approve(call)`.

        The turn waits meanwhile. The stream shows the call, also if the agent did not yield it.
        """
        return await self.asks.ask(_approval(call, message, expires_in))

    def approve_from_thread(
        self, call: ToolCall, message: str = "", *, expires_in: float | None = None
    ) -> Answer:
        """`approve` for agents that are plain functions and so run in a thread."""
        return self.asks.ask_from_thread(_approval(call, message, expires_in))


def _question(
    message: str, schema: Mapping[str, Any] | None, call_id: str, expires_in: float | None
) -> Ask:
    given = None if schema is None else dict(schema)
    return Ask("input", message, schema=given, call_id=call_id, expires_in=expires_in)


def _approval(call: ToolCall, message: str, expires_in: float | None) -> Ask:
    return Ask("approval", message, call.tool, call.args, None, call.call_id, expires_in)


def _value(answer: Answer) -> Any:
    if not answer:
        raise NotAnswered(answer)
    return answer.payload


class Agent(Protocol):
    """Turns a goal into chunks.

    `run` is called once per turn. When the turn is cancelled or out of time,
    `asyncio.CancelledError` is thrown at the current await and the iterator is closed (`aclose`).
    The agent should stop within a second; after that the turn ends without it. A `str` is a text
    chunk. Raise `AgentError` to tell the client why the turn fails; the words of other exceptions
    stay in the log.
    """

    def run(self, turn: Turn) -> AsyncIterator[AgentChunk]: ...


#: A turn's bounds where neither its request nor its agent names one.
_MAX_STEPS, _TIMEOUT_SECONDS = 10, 120.0


@dataclass(frozen=True, slots=True)
class ResolvedAgent:
    """An agent with the settings of its organization."""

    agent: Agent
    instructions: str | None
    model: str | None
    tools: Sequence[str] | None
    defaults: Mapping[str, Any]
    #: One agent for all organizations.
    is_shared: bool = False
    is_team: bool = False

    @property
    def concurrency(self) -> int:
        """How many turns of the agent run at once at a node; 0: any number."""
        return int(self._number("concurrency", 0))

    @property
    def max_steps(self) -> int:
        """Of a turn whose request names none."""
        return int(self._number("max_steps", _MAX_STEPS))

    @property
    def timeout_seconds(self) -> float:
        """Of a turn whose request names none."""
        return self._number("timeout_seconds", _TIMEOUT_SECONDS)

    def _number(self, name: str, default: float) -> float:
        value = self.defaults.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return value
        return default


class AgentSource(Protocol):
    """Where agents come from."""

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        """Raises AgentNotFound, and Unavailable while the records cannot be read."""
        ...
