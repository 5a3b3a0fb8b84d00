"""A turn as the stream of a run: the events of every stream mode that its client asks for.

An event's id is the number of its chunk in the turn and its own number among all events of that
chunk, in whatever mode. So a client may go on from an event also with other modes.

`values` has the messages of the whole thread. So the fold begins with those before the turn, or
with the open turns before it, whose chunks it takes in without an event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, Self

from ...codec.json import dumps
from ...codec.messages import AnswerFold
from ..frames import Chunk, TurnFrames
from . import messages
from .messages import Json, Places

#: Modes with events. `messages` is the older form of `messages-tuple`: whole messages as they grow.
SHOWN = ("values", "updates", "messages-tuple", "messages", "custom", "events")
#: Further modes of LangGraph, about which a turn has nothing to say.
SILENT = ("debug", "tasks", "checkpoints", "tools")
#: A `messages/partial` repeats the whole text, so it comes when the text has grown by a 32nd.
_GROWTH = 32
_ALWAYS = ""
#: The error of a run that was cancelled, by the name that LangGraph's server gives it.
CANCELLED: Json = {"error": "UserInterrupt", "message": "the run was cancelled"}
_INNER = "messages of sub-agents"

#: Mode, event and the function that makes its data, which is called at once or never.
_Event = tuple[str, str, Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The part of a run's events that does not come from chunks.

    `first`: the turn with whose chunks the fold begins. `before`: the messages of the turns before
    that one. `goals`: the user's messages from there on, by turn.
    """

    session_id: str
    turn: int
    run_id: str
    agent_id: str
    thread_id: str
    first: int
    before: Sequence[Json] = ()
    goals: Mapping[int, Json] | None = None


class ThreadFold:
    """What the chunks of a thread's turns say so far: its messages, and where the next one stands.

    It begins with turn `turn`, and with the messages `before` it. `goals`: the user's messages from
    there on, by turn.
    """

    __slots__ = ("_answer", "_before", "_goals", "_inner", "_places", "_session_id", "_turn")

    def __init__(
        self, session_id: str, turn: int, before: Sequence[Json], goals: Mapping[int, Json]
    ) -> None:
        self._session_id = session_id
        self._turn = turn
        self._before = list(before)
        self._goals = dict(goals)
        self._answer = AnswerFold()
        self._places = Places()
        #: The places of sub-agents, by their namespaces.
        self._inner: dict[str, Places] = {}

    def copy(self) -> Self:
        other = copy(self)
        other._goals = dict(self._goals)
        other._answer = deepcopy(self._answer)
        other._places = self._places.copy()
        other._inner = {name: places.copy() for name, places in self._inner.items()}
        return other

    def _pass(self, turn: int) -> None:
        """The turn of this number has ended; the next one begins."""
        self._before = self._thread_messages()[-messages.MOST_MESSAGES :]
        self._goals.pop(self._turn, None)
        self._turn = turn + 1
        self._answer = AnswerFold()
        self._places = Places()
        self._inner = {}

    def _base(self) -> str:
        return f"msg_{self._session_id}.{self._turn}"

    def _answers(self) -> list[Json]:
        return messages.answer_messages(self._base(), self._answer.parts, self._answer.usage)

    def _thread_messages(self) -> list[Json]:
        # Who only counts the events has no messages of the user.
        human = self._goals.get(self._turn) or messages.human_message(f"{self._base()}.goal", "")
        return [*self._before, human, *self._answers()]

    def _values(self) -> Json:
        return {"messages": self._thread_messages()}

    def _ai(self, number: int) -> Json:
        """An AI message as it is now."""
        empty = messages.ai_message(self._base(), number)
        # The fold leaves out what is beyond its bounds.
        return next((each for each in self._answers() if each["id"] == empty["id"]), empty)

    def _inside(self, space: str) -> Places:
        return self._inner.setdefault(space, Places())


class RunStreamFrames(ThreadFold, TurnFrames):
    """The events of one turn in these modes; with `subgraphs` also of its sub-agents."""

    __slots__ = (
        "_begun", "_chunks", "_failure", "_info", "_length", "_modes", "_shown", "_told", "_wanted",
    )  # fmt: skip

    def __init__(self, info: RunInfo, modes: frozenset[str], *, subgraphs: bool = False) -> None:
        super().__init__(info.session_id, info.first, info.before, info.goals or {})
        self._info = info
        self._modes = modes
        self._wanted = modes | {_ALWAYS}
        if subgraphs and "messages-tuple" in modes:
            self._wanted |= {_INNER}
        self._begun = False
        self._chunks = 0
        #: The last AI message that was told as whole.
        self._told = -1
        #: Characters of the AI message so far, and how many of them a partial has shown.
        self._length = self._shown = 0
        self._failure: Json | None = None

    @property
    def key(self) -> tuple[object, ...]:
        info = self._info
        return ("langgraph", info.session_id, info.turn, info.first, info.thread_id, self._wanted)

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        self._answer.add(chunk)
        if self._turn < self._info.turn:
            if kind == "done":
                self._pass(chunk["turn"])
            return []
        self._chunks += 1
        found = []
        for number, (mode, event, data) in enumerate(self._events(kind, chunk)):
            if mode in self._wanted:
                frame = (self._chunks, number, event.encode(), dumps(data()))
                found.append(b"id: %d-%d\nevent: %b\ndata: %b\n\n" % frame)
        return found

    def aside(self, chunk: Chunk) -> list[bytes]:
        if "custom" not in self._modes or not self._begun:
            return []
        return [b"event: custom\ndata: %b\n\n" % dumps(chunk)]

    def _about(self, node: str) -> Json:
        info = self._info
        return {
            "langgraph_node": node,
            "run_id": info.run_id,
            "thread_id": info.thread_id,
            "graph_id": info.agent_id,
            "assistant_id": info.agent_id,
        }

    # -- events ----------------------------------------------------------------------------

    def _events(self, kind: str, chunk: Chunk) -> Iterator[_Event]:
        if not self._begun:
            self._begun = True
            yield _ALWAYS, "metadata", lambda: {"run_id": self._info.run_id, "attempt": 1}
            yield "values", "values", self._values
            yield self._traced("on_chain_start", {}, self._info.agent_id)
        encode = _ENCODERS.get(kind)
        if encode is not None:
            yield from encode(self, chunk)

    def _traced(self, event: str, data: Json, name: str) -> _Event:
        """An event as LangChain's `astream_events` has it."""
        found = {"event": event, "name": name, "run_id": self._info.run_id, "data": data}
        more = {"tags": [], "metadata": self._about("agent"), "parent_ids": []}
        return "events", "events", lambda: found | more

    def _text(self, chunk: Chunk) -> Iterator[_Event]:
        if chunk["content"]:
            yield from self._piece(chunk, len(chunk["content"]), text=chunk["content"])

    def _reasoning(self, chunk: Chunk) -> Iterator[_Event]:
        if chunk["content"]:
            yield from self._piece(chunk, 0, **messages.reasoning(chunk["content"]))

    def _piece(self, chunk: Chunk, length: int, **fields: Any) -> Iterator[_Event]:
        """A piece of an AI message."""
        space = namespace(chunk)
        if space:
            number = self._inside(space).text()
            piece = messages.ai_chunk(f"{self._base()}.{space}", number, **fields)
            yield _INNER, f"messages|{space}", lambda: [piece, self._about("agent")]
            return
        before = self._places.number
        number = self._places.text()
        if number != before:
            yield from self._whole(before)
            self._length = self._shown = 0
        piece = messages.ai_chunk(self._base(), number, **fields)
        yield "messages-tuple", "messages", lambda: [piece, self._about("agent")]
        yield self._traced("on_chat_model_stream", {"chunk": piece}, self._info.agent_id)
        yield from self._partial(piece["id"], number, length)

    def _partial(self, message_id: str, number: int, length: int) -> Iterator[_Event]:
        """The message so far, in the older form."""
        self._length += length
        if not self._shown:
            about = {message_id: {"metadata": self._about("agent")}}
            yield "messages", "messages/metadata", lambda: about
        if self._length >= self._shown + self._shown // _GROWTH or not self._shown:
            self._shown = max(self._length, 1)
            yield "messages", "messages/partial", lambda: [self._ai(number)]

    def _whole(self, number: int) -> Iterator[_Event]:
        """The AI message of this number is whole, if there is one."""
        if number > self._told:
            self._told = number
            yield "updates", "updates", lambda: {"agent": {"messages": [self._ai(number)]}}
            yield "messages", "messages/complete", lambda: [self._ai(number)]

    def _call(self, chunk: Chunk) -> Iterator[_Event]:
        space, call_id = namespace(chunk), chunk["call_id"]
        places = self._inside(space) if space else self._places
        before = places.number
        number, index = places.call(call_id)
        arguments = dumps(chunk.get("args") or {}).decode()
        called = {"name": chunk["tool"], "args": arguments, "id": call_id, "index": index}
        pieces = [called | {"type": "tool_call_chunk"}]
        base = f"{self._base()}.{space}" if space else self._base()
        piece = messages.ai_chunk(base, number, tool_call_chunks=pieces)
        if space:
            yield _INNER, f"messages|{space}", lambda: [piece, self._about("agent")]
            return
        if number != before:
            yield from self._whole(before)
            self._length = self._shown = 0
        self._told = min(self._told, number - 1)  # it has a call more
        yield "messages-tuple", "messages", lambda: [piece, self._about("agent")]
        yield self._traced("on_tool_start", {"input": chunk.get("args") or {}}, chunk["tool"])
        yield "values", "values", self._values

    def _result(self, chunk: Chunk) -> Iterator[_Event]:
        space = namespace(chunk)
        places = self._inside(space) if space else self._places
        if not places.knows(chunk["call_id"]):
            yield from self._call(chunk)
        place = places.result(chunk["call_id"])
        if place is None:
            return
        base = f"{self._base()}.{space}" if space else self._base()
        message = messages.tool_message(base, place, chunk)
        if space:
            yield _INNER, f"messages|{space}", lambda: [message, self._about("tools")]
            return
        yield from self._whole(place[0])
        yield "messages-tuple", "messages", lambda: [message, self._about("tools")]
        yield "messages", "messages/complete", lambda: [message]
        yield "updates", "updates", lambda: {"tools": {"messages": [message]}}
        yield self._traced("on_tool_end", {"output": message}, chunk["tool"])
        yield "values", "values", self._values

    def _step(self, chunk: Chunk) -> Iterator[_Event]:
        is_own = "session_id" in chunk or not namespace(chunk)
        self._places.step_is(chunk["step"], chunk["status"], is_own=is_own)
        yield from self._custom(chunk)

    def _said(self, chunk: Chunk) -> Iterator[_Event]:
        self._places.break_off()
        yield "values", "values", self._values

    def _custom(self, chunk: Chunk) -> Iterator[_Event]:
        yield "custom", "custom", lambda: chunk

    def _error(self, chunk: Chunk) -> Iterator[_Event]:
        self._failure = {"error": chunk["code"], "message": chunk["message"]}
        yield from ()

    def _wait(self, _chunk: Chunk) -> Iterator[_Event]:
        yield from self._whole(self._places.number)
        asks = {"__interrupt__": messages.interrupts_in(self._answer.parts)}
        yield "updates", "updates", lambda: asks
        yield "values", "values", lambda: self._values() | asks
        self._begun = False

    def _done(self, chunk: Chunk) -> Iterator[_Event]:
        yield from self._whole(self._places.number)
        failure = CANCELLED if chunk["status"] == "cancelled" else self._failure
        yield self._traced("on_chain_end", {}, self._info.agent_id)
        yield "values", "values", self._values
        if failure is not None:
            yield _ALWAYS, "error", lambda: failure


def namespace(chunk: Chunk) -> str:
    """Where a sub-agent's messages stand, "" for the turn's own agent: LangGraph names a subgraph
    by the node that runs it, which is a call of a tool here."""
    if chunk.get("parent"):
        return f"tools:{chunk['parent']}"
    return f"{chunk['agent_id']}:{chunk['agent_id']}" if chunk.get("agent_id") else ""


_ENCODERS: Mapping[str, Callable[[RunStreamFrames, Chunk], Iterator[_Event]]] = {
    "message": RunStreamFrames._text,
    "reasoning": RunStreamFrames._reasoning,
    "step": RunStreamFrames._step,
    "tool_call": RunStreamFrames._call,
    "tool_result": RunStreamFrames._result,
    "user_message": RunStreamFrames._said,
    "source": RunStreamFrames._custom,
    "file": RunStreamFrames._custom,
    "data": RunStreamFrames._custom,
    "error": RunStreamFrames._error,
    "waiting": RunStreamFrames._wait,
    "done": RunStreamFrames._done,
}
