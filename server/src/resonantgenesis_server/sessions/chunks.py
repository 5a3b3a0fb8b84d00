"""A turn's chunks: what an agent yields, numbered and bounded, and how the turn ends."""

from __future__ import annotations

import bisect
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from ..codec.json import NotJson, dumps
from ..model.chunks import AgentChunk, Step, Text, ToolCall, ToolResult, Usage
from ..model.errors import AgentError, ApiError
from ..model.limits import LARGEST_PART, Limits

#: Bytes of a step's name; every step that is open when the turn ends is completed in its last
#: append, which has to stay small.
_STEP_NAME = 512


#: Ids that an agent gives may look like ours.
_NUMBERED = re.compile(r"call_([0-9]{1,9})")

#: What a text chunk's JSON takes around its content.
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


class _Calls:
    """A turn's tool calls, each with an id, and those that wait for their result."""

    def __init__(self) -> None:
        #: How many calls there were, or the highest number of an id that looks like ours.
        self._number = 0
        #: By tool, in the order in which they were made. (The first of a plain dict, from whose
        #: front others were taken, is found by passing all of those.)
        self._unanswered: dict[str, OrderedDict[str, None]] = {}

    def called(self, tool: str, given: str | None) -> str:
        """The id of a call: the agent's own, else a new one."""
        call_id = self._new()
        if given:
            numbered = _NUMBERED.fullmatch(given)
            self._number = max(self._number, int(numbered[1]) if numbered else 0)
            call_id = given
        self._unanswered.setdefault(tool, OrderedDict())[call_id] = None
        return call_id

    def answered(self, tool: str, given: str | None) -> str:
        """The id of a result: the agent's own, else that of the oldest call of this tool that has
        none yet. A result that answers no call gets an id that no call has."""
        of_tool = self._unanswered.get(tool, OrderedDict())
        call_id = given or next(iter(of_tool), None) or self._new()
        for tool_called, waiting in ((tool, of_tool), *self._unanswered.items()):
            if call_id in waiting:
                del waiting[call_id]
                if not waiting:
                    del self._unanswered[tool_called]
                break
        return call_id

    def _new(self) -> str:
        self._number += 1
        return f"call_{self._number}"


@dataclass(slots=True)
class ChunkMaker:
    """Encodes one turn's chunks and adds up its output, steps and usage.

    Raises AgentError: MAX_STEPS past `max_steps`, PAYLOAD_TOO_LARGE for a chunk over the limit;
    TypeError for what is no chunk at all.
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
    _calls: _Calls = field(default_factory=_Calls)
    _piece: int = field(init=False)

    def __post_init__(self) -> None:
        self._output = TurnOutput(self.limits)
        # A code point takes at most 6 bytes of JSON (an escape), so such pieces always fit.
        self._piece = self.limits.chunk // 6 - 64

    def token(self, content: str) -> bytes | None:
        """The body of what `encode` would make of this text, if that is one plain chunk of text;
        to be told by `said` once it is accepted. None: ask `encode`."""
        if not content or not self.steps or len(content) > self._piece or not content.isascii():
            return None
        return b'{"type":"text","content":%b}' % orjson.dumps(content)

    def said(self, content: str, body: bytes) -> None:
        """A piece of text is part of the output now that the writer has not refused it."""
        self._output.add(content, len(body) - _TEXT_FRAME)

    def encode(self, chunk: AgentChunk) -> Iterator[Encoded]:
        """The log entries of one yielded chunk: none, one, or several."""
        if isinstance(chunk, str):
            yield from self._text(chunk)
        elif isinstance(chunk, Text):
            yield from self._text(chunk.content)
        elif isinstance(chunk, Step):
            yield self._step(chunk)
        elif isinstance(chunk, ToolCall):
            yield from self._implied_step()
            call_id = self._calls.called(chunk.tool, chunk.call_id)
            yield self._bounded(chunk.event, chunk.payload() | {"call_id": call_id})
        elif isinstance(chunk, ToolResult):
            yield from self._implied_step()
            call_id = self._calls.answered(chunk.tool, chunk.call_id)
            yield self._bounded(chunk.event, chunk.payload() | {"call_id": call_id})
        elif isinstance(chunk, Usage):
            self.input_tokens += chunk.input_tokens
            self.output_tokens += chunk.output_tokens
        else:
            raise TypeError(f"an agent yields text or chunks, not {type(chunk).__name__}")

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
        told = cut_short(status)
        while self._open:
            step = self._open.pop()
            yield completed_step(step.number, step.name, _ms_since(step.began), told)

    def done(self, status: str, usage: dict[str, int]) -> Encoded:
        """The turn's last chunk; `usage` is what is told of it everywhere."""
        return done_chunk(self.session_id, self.turn, status, self._output, usage)

    # -- inside ----------------------------------------------------------------------------

    def _text(self, content: str) -> Iterator[Encoded]:
        if not content:
            return
        content = _without_surrogates(content)
        if not self.steps:
            yield self._step(Step("answer"))
        piece = self._piece
        for start in range(0, len(content), piece):
            part = content[start : start + piece] if len(content) > piece else content
            body = dumps({"type": "text", "content": part})
            yield Encoded("message", body)
            self.said(part, body)

    def _implied_step(self) -> Iterator[Encoded]:
        if not self.steps:
            yield self._step(Step("answer"))

    def _step(self, step: Step) -> Encoded:
        if step.status != "started":
            return self._goes_on(step)
        if self.steps >= self.max_steps:
            raise AgentError(f"the turn took more than {self.max_steps} steps", "MAX_STEPS")
        if encoded_size(step.name) > _STEP_NAME:
            raise AgentError(f"a step's name takes over {_STEP_NAME} bytes", "PAYLOAD_TOO_LARGE")
        self.steps += 1
        self._open.append(_OpenStep(self.steps, step.name, time.monotonic()))
        body = {"type": "step", "step": self.steps, "name": step.name, "status": "started"}
        if self.steps == 1:
            body |= {"session_id": self.session_id, "turn": self.turn, "agent_id": self.agent_id}
        return self._bounded("step", body | _told(step))

    def _goes_on(self, step: Step) -> Encoded:
        """A step that was started before: the newest of this name that is open."""
        found = next((each for each in reversed(self._open) if each.name == step.name), None)
        if found is None:
            raise TypeError(f"step {step.name!r} was {step.status} but never started")
        if step.status == "completed":
            completed = self._fitting(
                completed_step(found.number, found.name, _ms_since(found.began), _told(step))
            )
            self._open.remove(found)
            return completed
        body = {"type": "step", "step": found.number, "name": found.name, "status": step.status}
        return self._bounded("step", body | _told(step))

    def _bounded(self, kind: str, payload: dict[str, Any]) -> Encoded:
        try:
            body = dumps(payload)
        except NotJson as error:
            raise TypeError(f"a {kind} chunk has no JSON form: {error}") from error
        return self._fitting(Encoded(kind, body))

    def _fitting(self, chunk: Encoded) -> Encoded:
        size, most = len(chunk.body), self.limits.chunk
        if size > most:
            raise AgentError(
                f"a {chunk.kind} chunk of {size} bytes; at most {most} fit", "PAYLOAD_TOO_LARGE"
            )
        return chunk


def _told(step: Step) -> dict[str, str]:
    """What an agent says of a step beyond its name."""
    said = {"detail": step.detail, "finish_reason": step.finish_reason}
    return {name: _without_surrogates(text) for name, text in said.items() if text}


def cut_short(status: str) -> Mapping[str, str]:
    """What the end of a step tells that was still open when its turn ended so."""
    return {} if status == "success" else {"finish_reason": status}


def completed_step(number: int, name: str, duration_ms: int, told: Mapping[str, str]) -> Encoded:
    """The end of a step."""
    body = {
        "type": "step",
        "step": number,
        "name": name,
        "status": "completed",
        "duration_ms": duration_ms,
        **told,
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


def error_chunk(
    code: str,
    message: str,
    *,
    retryable: bool,
    request_id: str,
    retry_after: float | None = None,
) -> Encoded:
    """The `error` that stands before a `done` that is no success; the server's log has more under
    the id of the request that asked for the turn."""
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
    """Pairs become the character they stand for, halves U+FFFD: JSON cannot carry them."""
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
    """Joins text until it is `limits.output` bytes of JSON; what comes after is left out.

    Counted as JSON and not as characters, since the `done` that it is part of has to fit into one
    message of a socket, whatever the text.
    """

    __slots__ = ("_parts", "_room", "truncated")

    def __init__(self, limits: Limits) -> None:
        self.truncated = False
        self._parts: list[str] = []
        self._room = min(limits.output, LARGEST_PART)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add(self, text: str, size: int | None = None) -> None:
        """`size`: bytes of JSON that the text takes, for who knows."""
        if self.truncated:
            return
        if size is None:
            size = encoded_size(text)
        if size > self._room:
            self.truncated = True
            text, size = beginning(text, self._room), self._room
        if text:
            self._parts.append(text)
        self._room -= size


def beginning(text: str, room: int) -> str:
    """The longest beginning of a text that takes at most `room` bytes of JSON."""
    if len(text) * 6 <= room or encoded_size(text) <= room:
        return text
    fits = bisect.bisect_right(range(1, len(text)), room, key=lambda n: encoded_size(text[:n]))
    return text[:fits]


def encoded_size(text: str) -> int:
    """Bytes of JSON, without the quotes."""
    return len(dumps(text)) - 2


Status = Literal["success", "failed", "cancelled", "timeout"]
#: Characters of an error's message: the message of an agent may have any length.
_MAX_MESSAGE = 4_000


@dataclass(frozen=True, slots=True)
class TurnFailure:
    """Why a turn is no success, as its `error` chunk says it."""

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

    `unstored`: the log refused some of what the agent said, so `output` has to be read from it.
    """

    status: Status
    chunks: list[Encoded]
    usage: Mapping[str, int]
    failure: TurnFailure | None = None
    unstored: bool = False
