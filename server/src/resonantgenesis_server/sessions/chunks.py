"""A turn's chunks: what an agent yields, numbered and bounded, and how the turn ends."""

from __future__ import annotations

import bisect
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import orjson

from ..agents.turn_calls import TurnCalls
from ..codec.json import NotJson, dumps, nests_deeper
from ..codec.times import rfc3339
from ..log.base import Entry
from ..model.chunks import (
    AgentChunk,
    Ask,
    Data,
    File,
    OfSubAgent,
    Payload,
    Reasoning,
    Source,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    is_own_text,
)
from ..model.errors import AgentError, ApiError
from ..model.limits import LARGEST_PART, Limits

#: Bytes of a step's name, and of the names of a chunk's sub-agent. The turn's last append completes
#: all open steps, and has to stay small.
_STEP_NAME = 512
#: Levels of arrays and objects in a chunk. Views of chunks nest deeper, and JSON ends at 254.
_MAX_NESTING = 200
#: Bytes of a text chunk's JSON around its content.
_TEXT_FRAME = len(dumps({"type": "text", "content": ""}))


class Encoded(NamedTuple):
    """A chunk for the log; `step` is (number, name, duration_ms) of a step that it completes."""

    kind: str
    body: bytes
    step: tuple[int, str, int] | None = None


@dataclass(slots=True)
class _OpenStep:
    number: int
    name: str
    began: float
    origin: Payload


@dataclass(slots=True)
class ChunkMaker:
    """Encodes one turn's chunks and adds up its output, steps and usage.

    Raises AgentError: MAX_STEPS past `max_steps`, PAYLOAD_TOO_LARGE for a chunk over the limit.
    Raises TypeError for a value that is no chunk.
    """

    session_id: str
    turn: int
    agent_id: str
    max_steps: int
    limits: Limits
    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    _output: TurnOutput = field(init=False)
    _open: list[_OpenStep] = field(default_factory=list)
    _calls: TurnCalls = field(default_factory=TurnCalls)
    _piece: int = field(init=False)

    def __post_init__(self) -> None:
        self._output = TurnOutput(self.limits)
        # A code point takes at most 6 bytes of JSON (an escape), so such pieces always fit.
        self._piece = self.limits.chunk // 6 - 64

    def token(self, content: str) -> bytes | None:
        """The body of a plain text chunk; None if the text needs `encode`.

        Once the writer has accepted the chunk, `add_output` must be called.
        """
        if not content or not self.steps or len(content) > self._piece or not content.isascii():
            return None
        return b'{"type":"text","content":%b}' % orjson.dumps(content)

    def add_output(self, content: str, body: bytes) -> None:
        """Add an accepted piece of text to the turn's output."""
        self._output.add(content, len(body) - _TEXT_FRAME)

    def encode(self, chunk: AgentChunk) -> Iterator[Encoded]:
        """The log entries of one yielded chunk: none, one, or several."""
        if isinstance(chunk, str):
            yield from self._text(Text(chunk), {})
        elif isinstance(chunk, OfSubAgent):
            yield from self._chunk(chunk, _origin_of(chunk))
        elif isinstance(chunk, Usage):
            self.input_tokens += chunk.input_tokens
            self.output_tokens += chunk.output_tokens
        else:
            raise TypeError(f"an agent yields text or chunks, not {type(chunk).__name__}")

    def _chunk(self, chunk: OfSubAgent, origin: Payload) -> Iterator[Encoded]:
        if isinstance(chunk, Text | Reasoning):
            yield from self._text(chunk, origin)
            return
        if origin or not isinstance(chunk, Step):
            yield from self._implied_step()  # the turn's first step is its own agent's
        if isinstance(chunk, Step):
            yield self._step(chunk, origin)
        elif isinstance(chunk, ToolCall | ToolResult):
            tool = chunk.tool, chunk.agent_id, chunk.parent
            name = self._calls.called if isinstance(chunk, ToolCall) else self._calls.answered
            call_id = {"call_id": name(tool, chunk.call_id)}
            yield self._bounded(chunk.event, chunk.payload() | call_id | origin)
        elif isinstance(chunk, Source | File | Data):
            yield self._bounded(chunk.event, chunk.payload() | origin)
        else:
            raise TypeError(f"an agent yields text or chunks, not {type(chunk).__name__}")

    def aside(self, chunk: Data) -> bytes:
        """The body of a value that is not stored. It names its turn, having no position."""
        payload = chunk.payload() | {"turn": self.turn} | _origin_of(chunk)
        return self._bounded(chunk.event, payload).body

    def asked_about(self, ask: Ask, asked: Container[str]) -> tuple[str, bool]:
        """The id of the call that an ask is about, and whether the agent has yielded the call.
        `asked` are the calls that were asked about before."""
        tool = ask.tool, ask.agent_id, ask.parent
        return self._calls.asked_about(tool, ask.call_id, asked)

    def see(self, entry: Entry, now: float) -> None:
        """Take in a chunk of the turn that an earlier process has written. `now`: the time of the
        turn's stop, in seconds since 1970; an open step goes on from there."""
        if is_own_text(entry.kind, entry.body):
            self._output.add(orjson.loads(entry.body)["content"])
        elif entry.kind == "step":
            body = orjson.loads(entry.body)
            number = body["step"]
            # The agent_id of a turn's first step is the turn's own.
            origin = {} if "turn" in body else OfSubAgent.origin_in(body)
            if body["status"] == "started":
                self.steps = max(self.steps, number)
                began = time.monotonic() - max(now - entry.at / 1e6, 0.0)
                self._open.append(_OpenStep(number, body["name"], began, origin))
            elif body["status"] == "completed":
                self._open = [each for each in self._open if each.number != number]
        elif entry.kind == "tool_call":
            body = orjson.loads(entry.body)
            self._calls.called(_tool_in(body), body["call_id"])
        elif entry.kind == "tool_result":
            body = orjson.loads(entry.body)
            self._calls.answered(_tool_in(body), body["call_id"])

    def used(self, seconds: float, input_tokens: int, output_tokens: int) -> None:
        """Count what the turn has used before this maker was made; `seconds` of running."""
        self.began -= seconds
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def waited(self, seconds: float) -> None:
        """Leave this time out of the duration of the turn and of its open steps."""
        self.began += seconds
        for step in self._open:
            step.began += seconds

    @property
    def ran(self) -> float:
        """The seconds that the turn has run."""
        return time.monotonic() - self.began

    def taken(self, message_id: str, content: str) -> Iterator[Encoded]:
        """The entries that show a message of the user which the agent has just taken."""
        yield from self._implied_step()
        yield user_message_chunk(message_id, content, taken=True)

    @property
    def output(self) -> str:
        return self._output.text

    def usage(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "steps": self.steps,
            "duration_ms": _ms_since(self.began),
        }

    def close_steps(self, status: str) -> Iterator[Encoded]:
        """Completes the steps that the agent left open, the innermost first; `status` is how the
        turn ends."""
        reason = cut_short(status)
        while self._open:
            step = self._open.pop()
            details = {**reason, **step.origin}
            yield completed_step(step.number, step.name, _ms_since(step.began), details)

    def done(self, status: str, usage: dict[str, int]) -> Encoded:
        """The turn's last chunk; the events and the records show the same `usage`."""
        return done_chunk(self.session_id, self.turn, status, self._output, usage)

    # -- inside ----------------------------------------------------------------------------

    def _text(self, chunk: Text | Reasoning, origin: Payload) -> Iterator[Encoded]:
        """A text in as many pieces as it takes. The output is the text of the turn's own agent."""
        if not chunk.content:
            return
        content = _without_surrogates(chunk.content)
        yield from self._implied_step()
        piece = max(1, self._piece - (len(dumps(origin)) // 6 if origin else 0))
        for start in range(0, len(content), piece):
            part = content[start : start + piece] if len(content) > piece else content
            body = dumps({**replace(chunk, content=part).payload(), **origin})
            yield self._fitting(Encoded(chunk.event, body))
            if isinstance(chunk, Text) and not origin:
                self.add_output(part, body)

    def _implied_step(self) -> Iterator[Encoded]:
        if not self.steps:
            yield self._step(Step("answer"), {})

    def _step(self, step: Step, origin: Payload) -> Encoded:
        if step.status != "started":
            return self._goes_on(step, origin)
        if self.steps >= self.max_steps:
            allowed = self.max_steps < self.limits.max_steps
            raised = "max_steps" if allowed else "the server's limits.max_steps"
            words = f"the turn took more than {self.max_steps} steps; raise {raised}"
            raise AgentError(words, "MAX_STEPS")
        if encoded_size(step.name) > _STEP_NAME:
            raise AgentError(f"a step's name takes over {_STEP_NAME} bytes", "PAYLOAD_TOO_LARGE")
        self.steps += 1
        self._open.append(_OpenStep(self.steps, step.name, time.monotonic(), origin))
        body = {"type": "step", "step": self.steps, "name": step.name, "status": "started"}
        if self.steps == 1:
            body |= {"session_id": self.session_id, "turn": self.turn, "agent_id": self.agent_id}
        return self._bounded("step", body | _details(step) | origin)

    def _goes_on(self, step: Step, origin: Payload) -> Encoded:
        """A step that was started before: the agent's newest open step of this name."""
        named = (each for each in reversed(self._open) if each.name == step.name)
        open_step = next((each for each in named if each.origin == origin), None)
        if open_step is None:
            raise TypeError(f"step {step.name!r} was {step.status} but never started")
        if step.status == "completed":
            details = _details(step) | origin
            completed = self._fitting(
                completed_step(
                    open_step.number, open_step.name, _ms_since(open_step.began), details
                )
            )
            self._open.remove(open_step)
            return completed
        body = {
            "type": "step",
            "step": open_step.number,
            "name": open_step.name,
            "status": step.status,
        }
        return self._bounded("step", body | _details(step) | origin)

    def _bounded(self, kind: str, payload: dict[str, Any]) -> Encoded:
        try:
            body = dumps(payload)
        except NotJson as error:
            if "recursion" not in str(error).lower():
                raise TypeError(f"a {kind} chunk has no JSON form: {error}") from error
            raise _too_deep(kind) from error
        if nests_deeper(body, _MAX_NESTING):
            raise _too_deep(kind)
        return self._fitting(Encoded(kind, body))

    def _fitting(self, chunk: Encoded) -> Encoded:
        size, limit = len(chunk.body), self.limits.chunk
        if size > limit:
            raise AgentError(
                f"a {chunk.kind} chunk of {size} bytes; at most {limit} fit", "PAYLOAD_TOO_LARGE"
            )
        return chunk


def _too_deep(kind: str) -> AgentError:
    return AgentError(f"a {kind} chunk nests deeper than {_MAX_NESTING} levels")


def _origin_of(chunk: OfSubAgent) -> Payload:
    """The fields that name the chunk's sub-agent; none for the turn's own agent."""
    origin = chunk.origin()
    if origin and not chunk.agent_id:
        raise TypeError("a chunk has a parent and no agent_id")
    if any(encoded_size(name) > _STEP_NAME for name in origin.values()):
        raise AgentError(f"agent_id or parent takes over {_STEP_NAME} bytes", "PAYLOAD_TOO_LARGE")
    return origin


def _tool_in(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The tool of a call or a result, with its agent."""
    return body["tool"], body.get("agent_id", ""), body.get("parent", "")


def ask_chunk(ask: Ask, call_id: str, expires_at: float) -> Encoded:
    """What a turn waits for. `expires_at` is in seconds since 1970. Raises NotJson."""
    body: dict[str, Any] = {"type": "input_required", "call_id": call_id, "kind": ask.kind}
    body |= _origin_of(ask)
    if ask.tool:
        body |= {"tool": ask.tool, "args": ask.args}
    if ask.message:
        body["message"] = _without_surrogates(ask.message)
    if ask.schema is not None:
        body["schema"] = ask.schema
    return Encoded("input_required", dumps(body | {"expires_at": rfc3339(expires_at)}))


def waiting_chunk(session_id: str, turn: int, calls: Iterable[str]) -> Encoded:
    """The last chunk of a stop."""
    body = {"type": "waiting", "session_id": session_id, "turn": turn, "calls": list(calls)}
    return Encoded("waiting", dumps(body))


def input_chunk(call_id: str, status: str, answer: Mapping[str, Any]) -> Encoded:
    """The answer to a call, as far as there is one: `approved`, `payload`, `reason`."""
    body = {"type": "input", "call_id": call_id, "status": status, **answer}
    return Encoded("input", dumps(body))


def _details(step: Step) -> dict[str, str]:
    """The fields that an agent may add to a step."""
    details = {"detail": step.detail, "finish_reason": step.finish_reason}
    return {name: _without_surrogates(text) for name, text in details.items() if text}


def cut_short(status: str) -> Mapping[str, str]:
    """The fields of a step's end if the turn ended before it, with this status."""
    return {} if status == "success" else {"finish_reason": status}


def completed_step(number: int, name: str, duration_ms: int, details: Mapping[str, str]) -> Encoded:
    """The end of a step."""
    body = {
        "type": "step",
        "step": number,
        "name": name,
        "status": "completed",
        "duration_ms": duration_ms,
        **details,
    }
    return Encoded("step", dumps(body), (number, name, duration_ms))


def done_chunk(
    session_id: str, turn: int, status: str, output: TurnOutput, usage: Mapping[str, int]
) -> Encoded:
    """A turn's last chunk."""
    body: dict[str, Any] = {
        "type": "done",
        "session_id": session_id,
        "turn": turn,
        "status": status,
        "output": output.text,
        "usage": usage,
    }
    if output.truncated:
        body["output_truncated"] = True
    return Encoded("done", dumps(body))


def user_message_chunk(message_id: str, content: str, *, taken: bool) -> Encoded:
    """A message of the user to the turn: its agent has taken it, or the next turn has it."""
    body = {
        "type": "user_message",
        "message_id": message_id,
        "content": content,
        "taken": taken,
    }
    return Encoded("user_message", dumps(body))


def error_chunk(
    code: str,
    message: str,
    *,
    retryable: bool,
    request_id: str,
    retry_after: float | None = None,
) -> Encoded:
    """The `error` before a `done` that is no success. `request_id` is that of the turn's request;
    the server's log has more under it."""
    body: dict[str, Any] = {
        "type": "error",
        "code": code,
        "message": message,
        "retryable": retryable,
        "request_id": request_id,
    }
    if retry_after is not None:
        body["retry_after"] = retry_after
    return Encoded("error", dumps(body))


def _without_surrogates(text: str) -> str:
    """Surrogate pairs become their character, halves U+FFFD: JSON cannot carry them."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


class TurnOutput:
    """Joins text up to `limits.output` bytes of JSON, and leaves out the rest.

    The bound counts JSON and not characters: the `done` with this output has to fit into one
    message of a socket, whatever the text.
    """

    __slots__ = ("_left", "_parts", "truncated")

    def __init__(self, limits: Limits) -> None:
        self.truncated = False
        self._parts: list[str] = []
        self._left = min(limits.output, LARGEST_PART)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add(self, text: str, size: int | None = None) -> None:
        """`size`: the text's bytes of JSON, if the caller knows them."""
        if self.truncated:
            return
        if size is None:
            size = encoded_size(text)
        if size > self._left:
            self.truncated = True
            text, size = beginning(text, self._left), self._left
        if text:
            self._parts.append(text)
        self._left -= size


def beginning(text: str, size: int) -> str:
    """The longest beginning of a text that takes at most `size` bytes of JSON."""
    if len(text) * 6 <= size or encoded_size(text) <= size:
        return text
    fits = bisect.bisect_right(range(1, len(text)), size, key=lambda n: encoded_size(text[:n]))
    return text[:fits]


def encoded_size(text: str) -> int:
    """Bytes of JSON, without the quotes."""
    return len(dumps(text)) - 2


Status = Literal["success", "failed", "cancelled", "timeout"]
#: Characters of an error's message: the message of an agent may have any length.
_MAX_MESSAGE = 4_000


@dataclass(frozen=True, slots=True)
class TurnFailure:
    """Why a turn is no success; the content of its `error` chunk."""

    code: str
    message: str
    retryable: bool
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ApiError | AgentError) -> TurnFailure:
        return cls(error.code, error.message[:_MAX_MESSAGE], error.retryable, error.retry_after)

    def chunk(self, request_id: str) -> Encoded:
        """`request_id` is that of the request that asked for the turn."""
        return error_chunk(
            self.code,
            self.message,
            retryable=self.retryable,
            request_id=request_id,
            retry_after=self.retry_after,
        )


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """How a turn ended: its last chunks, `done` being the very last.

    `unstored`: the log refused some chunks, so the output has to be read from the log.
    """

    status: Status
    chunks: list[Encoded]
    usage: Mapping[str, int]
    failure: TurnFailure | None = None
    unstored: bool = False
