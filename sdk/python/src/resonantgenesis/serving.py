"""What a worker's handler gets and yields: `client.agents.serve("my-agent", handler)`.

A handler is written as an agent inside of the server is: a generator, a coroutine or a function,
plain or async, that takes a `Turn` and yields or returns `str` or the values below. `AgentError`
tells the client, in the handler's own words, why the turn failed; what any other exception says
stays in the worker's log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

__all__ = [
    "AgentChunk",
    "AgentError",
    "Answer",
    "Ask",
    "ClientTool",
    "Data",
    "File",
    "Keep",
    "NotAnswered",
    "PastCall",
    "PastStep",
    "PastTurn",
    "Reasoning",
    "Source",
    "Step",
    "Text",
    "ToolCall",
    "ToolResult",
    "Turn",
    "TurnAsks",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class PastCall:
    """A tool call of an earlier turn; `result` None: no result came."""

    tool: str
    args: Mapping[str, Any]
    result: str | None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class PastStep:
    """A text of an earlier turn, and the tools that it called after the text."""

    text: str
    calls: Sequence[PastCall] = ()


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier turn of the session. `output` is its whole text."""

    goal: str
    output: str
    status: str
    steps: Sequence[PastStep] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an `Ask`; true unless it was refused or none came."""

    call_id: str
    status: str = "answered"
    approved: bool | None = None
    payload: Any = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.status == "answered" and self.approved is not False

    @property
    def refusal(self) -> str:
        """Why it is false, in words for a model."""
        if self.status == "answered":
            return f"denied: {self.reason}" if self.reason else "denied"
        return "nobody answered in time" if self.status == "expired" else "not answered"


class AgentError(Exception):
    """Raised by a handler whose turn failed, with a message for the client.

    `code` is one of AGENT_FAILED, MODEL_UNAVAILABLE, RATE_LIMITED, TIMEOUT, MAX_STEPS, RUNNER_LOST
    and PAYLOAD_TOO_LARGE. `retry_after` is in seconds.
    """

    def __init__(
        self,
        message: str,
        code: str = "AGENT_FAILED",
        *,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after


class NotAnswered(AgentError):
    """Nobody gave a value: the time ran out, or the person declined. `answer` says which."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.refusal)
        self.answer = answer


class TurnAsks:
    """Asks the clients of a turn. Outside of a worker there is nobody to ask."""

    async def ask(self, ask: Ask) -> Answer:
        return self.ask_from_thread(ask)

    def ask_from_thread(self, ask: Ask) -> Answer:
        raise AgentError("this turn has nobody to ask")


NO_ASKS = TurnAsks()


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that the client of a turn runs. `schema` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One execution of a goal.

    `context` is that of the session with that of the request merged in. `history` are the earlier
    turns, oldest first. `subject` is the end user behind a client token. `model`, `tools` and
    `instructions` come from the request, or else from the agent's record. `client_tools` are those
    that the client of the turn runs. `raw` is the turn as the server sent it.

    A turn that has waited for its asks has all `answers` by call_id. `so_far` is then its text and
    its calls of tools up to now, and `kept` the value of its newest `Keep`.
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
    client_tools: Sequence[ClientTool] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)
    so_far: Sequence[PastStep] = ()
    kept: Any = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    asks: TurnAsks = field(default=NO_ASKS, repr=False, compare=False)

    async def ask(
        self,
        message: str,
        schema: Mapping[str, Any] | None = None,
        *,
        call_id: str = "",
        expires_in: float | None = None,
    ) -> Any:
        """The value that a person gives, which fits the JSON Schema.

        The turn waits, and no worker holds it. Then the handler runs again from its start, in any
        worker, and gets the answer here. Raises NotAnswered if nobody answers within `expires_in`
        seconds, or the person declines.
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
        """`ask` for handlers that are plain functions and so run in a thread."""
        return _value(self.asks.ask_from_thread(_question(message, schema, call_id, expires_in)))

    async def approve(
        self, call: ToolCall, message: str = "", *, expires_in: float | None = None
    ) -> Answer:
        """Whether a person lets the agent make this call, which has a `call_id`. The turn waits as
        for `ask`."""
        return await self.asks.ask(_approval(call, message, expires_in))

    def approve_from_thread(
        self, call: ToolCall, message: str = "", *, expires_in: float | None = None
    ) -> Answer:
        """`approve` for handlers that are plain functions and so run in a thread."""
        return self.asks.ask_from_thread(_approval(call, message, expires_in))

    @property
    def inbox(self) -> Any:
        """Not in a worker: messages to a running turn are left for the next one."""
        raise AttributeError(
            "a worker's turn has no inbox: messages to it are left for the next turn's history"
        )

    @property
    def files(self) -> Any:
        """Not in a worker: its handler uses `client.files`."""
        raise AttributeError(
            "a worker's turn has no files: use client.files, and yield File(…) to show one"
        )

    @property
    def toolbox(self) -> Any:
        """Not in a worker: the server's tools run in the server."""
        raise AttributeError("a worker's turn has no toolbox: the server's tools run in the server")

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Turn:
        """The turn that the server sent; fields of a newer server are in `raw`."""
        return cls(
            goal=raw["goal"],
            session_id=raw["session_id"],
            turn=raw["turn"],
            agent_id=raw["agent_id"],
            context=raw.get("context") or {},
            history=[_past_turn(past) for past in raw.get("history") or ()],
            subject=raw.get("subject"),
            metadata=raw.get("metadata") or {},
            model=raw.get("model"),
            tools=raw.get("tools"),
            instructions=raw.get("instructions"),
            max_steps=raw.get("max_steps") or 10,
            client_tools=[ClientTool(**_known(ClientTool, t)) for t in raw.get("client_tools", ())],
            answers={
                call_id: Answer(**_known(Answer, answer))
                for call_id, answer in (raw.get("answers") or {}).items()
            },
            so_far=[_past_step(step) for step in raw.get("so_far") or ()],
            kept=raw.get("kept"),
            raw=raw,
        )


def _known(kind: type[Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version knows."""
    return {each.name: raw[each.name] for each in fields(kind) if each.name in raw}


def _past_turn(raw: Mapping[str, Any]) -> PastTurn:
    return PastTurn(
        raw["goal"], raw["output"], raw["status"], [_past_step(s) for s in raw.get("steps") or ()]
    )


def _past_step(raw: Mapping[str, Any]) -> PastStep:
    calls = [
        PastCall(call["tool"], call["args"], call["result"], call["is_error"])
        for call in raw.get("calls") or ()
    ]
    return PastStep(raw["text"], calls)


@dataclass(frozen=True, slots=True)
class OfSubAgent:
    """What every chunk may say of its origin: the sub-agent that made it, and the `call_id` of the
    tool call that started the sub-agent."""

    agent_id: str = field(default="", kw_only=True, repr=False)
    parent: str = field(default="", kw_only=True, repr=False)


@dataclass(frozen=True, slots=True)
class Text(OfSubAgent):
    """A piece of the answer; a plain `str` is the same."""

    kind: ClassVar[str] = "text"
    content: str


@dataclass(frozen=True, slots=True)
class Reasoning(OfSubAgent):
    """A piece of what the agent thinks before it answers."""

    kind: ClassVar[str] = "reasoning"
    content: str


@dataclass(frozen=True, slots=True)
class ToolCall(OfSubAgent):
    """The agent calls a tool; `call_id` pairs it with its result."""

    kind: ClassVar[str] = "tool_call"
    tool: str
    args: Mapping[str, Any] = field(default_factory=dict)
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult(OfSubAgent):
    """The result of a tool: any JSON value."""

    kind: ClassVar[str] = "tool_result"
    tool: str
    result: Any
    call_id: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Step(OfSubAgent):
    """A step of the turn began, went on, or ended; the server numbers and times it."""

    kind: ClassVar[str] = "step"
    name: str
    status: Literal["started", "progress", "completed"] = "started"
    detail: str = ""
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class Source(OfSubAgent):
    """A page or document that the answer rests on."""

    kind: ClassVar[str] = "source"
    url: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class File(OfSubAgent):
    """A file of the server that belongs to the answer. `size` in bytes."""

    kind: ClassVar[str] = "file"
    file_id: str
    name: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Data(OfSubAgent):
    """A value of the application's own; a later one of the same `name` and `id` replaces it. A
    transient one is not stored."""

    kind: ClassVar[str] = "data"
    name: str
    data: Any
    id: str = ""
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the agent used since its last `Usage`; the server adds them up."""

    kind: ClassVar[str] = "usage"
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """The agent asks, and the turn waits once the handler has returned.

    The handler is started again, in any worker, with the answer in `turn.answers`. `tool` and
    `args` are those of the call to approve, or of the call that the client makes. `schema` is a
    JSON Schema of the payload. Nobody can answer after `expires_in` seconds.
    """

    kind: Literal["approval", "input", "tool"] = "input"
    message: str = ""
    tool: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    call_id: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """A JSON value that the handler gets back in `turn.kept` when it is started again."""

    kind: ClassVar[str] = "keep"
    value: Any


#: What a handler may yield.
AgentChunk = (
    str
    | Text
    | Reasoning
    | ToolCall
    | ToolResult
    | Step
    | Source
    | File
    | Data
    | Usage
    | Ask
    | Keep
)


def _question(
    message: str, schema: Mapping[str, Any] | None, call_id: str, expires_in: float | None
) -> Ask:
    return Ask("input", message, schema=schema, call_id=call_id, expires_in=expires_in)


def _approval(call: ToolCall, message: str, expires_in: float | None) -> Ask:
    return Ask("approval", message, call.tool, call.args, None, call.call_id, expires_in)


def _value(answer: Answer) -> Any:
    if not answer:
        raise NotAnswered(answer)
    return answer.payload
