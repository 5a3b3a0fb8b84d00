"""A thread as the events of LangGraph's thread protocol, which the newer `useStream` speaks.

The events are one sequence over all runs of a thread. `seq` is the position of an event's chunk and
the event's own number among all events of that chunk, on whatever channel. So a reader may go on
behind any event, also with other channels.

A turn that waits is two runs here, one up to its question and one behind the answer: clients take
no event of a run that was interrupted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from ...codec.json import dumps, loads
from ...codec.sse import HEARTBEAT
from ...http.serving.stream_connection import chunked
from ...http.sse.stream import SseEncoder
from ...log.base import Entry
from ..frames import Chunk
from . import messages, threads
from .encode import ThreadFold, namespace
from .messages import Json

#: Numbers of events that one chunk may have.
_STRIDE = 10_000
#: Kinds of chunks that come while a turn waits.
_WHILE_WAITING = frozenset({"waiting", "input", "input_required", "user_message"})
#: The user's messages of a thread's turns, from this turn on.
Goals = Callable[[int], Awaitable[Mapping[int, Json]]]
#: Channel, method, the namespace's name, and the function that makes the data.
_Event = tuple[str, str, str, Callable[[], Json]]


def seq_of(position: int) -> int:
    """The last `seq` that an event of the chunk at this position can have."""
    return position * _STRIDE + _STRIDE - 1 if position else 0


def position_of(seq: int) -> int:
    return seq // _STRIDE


@dataclass(frozen=True, slots=True)
class ThreadFilter:
    """The events that a client asks for: on these channels, in these namespaces and at most `depth`
    below them (None: in all), behind `since`."""

    channels: frozenset[str]
    namespaces: tuple[tuple[str, ...], ...] | None = None
    depth: int | None = None
    since: int = -1

    def shows(self, channel: str, space: tuple[str, ...]) -> bool:
        if channel not in self.channels and channel.partition(":")[0] not in self.channels:
            return False
        if not self.namespaces:
            return True
        return any(
            _begins(space, prefix)
            and (self.depth is None or len(space) - len(prefix) <= self.depth)
            for prefix in self.namespaces
        )


def _begins(space: tuple[str, ...], prefix: tuple[str, ...]) -> bool:
    """A name without `:` stands for all names that go on with `:`."""
    return len(prefix) <= len(space) and all(
        of == name or (":" not in of and of == name.partition(":")[0])
        for of, name in zip(prefix, space, strict=False)
    )


@dataclass(slots=True)
class _OpenMessage:
    """An AI message that may grow. `kind`: the type of its open block, "" if none is open."""

    number: int
    index: int = -1
    kind: str = ""
    pieces: list[str] = field(default_factory=list)


class ThreadEncoder(ThreadFold, SseEncoder):
    """Writes a thread to one client, from the beginning of turn `turn` on, without an end."""

    __slots__ = (
        "_agent_id", "_asked", "_at", "_begun", "_failure", "_filter", "_first", "_hash", "_load",
        "_open", "_part", "_position", "_thread_id", "_waits",
    )  # fmt: skip

    cuts: ClassVar[bool] = True

    def __init__(
        self,
        thread: threads.Thread,
        turn: int,
        before: Sequence[Json],
        shown: ThreadFilter,
        load: Goals,
    ) -> None:
        super().__init__(thread.session_id, turn, before, {})
        self._thread_id = thread.thread_id
        self._agent_id = thread.agent_id
        self._filter = shown
        self._load = load
        self._first = turn
        self._hash = hash(self._key)
        self._position = self._at = 0
        #: The messages that may grow, by the names of their namespaces.
        self._open: dict[str, _OpenMessage] = {}
        #: The calls that were asked about.
        self._asked: frozenset[str] = frozenset()
        self._begun = self._waits = False
        self._failure = ""
        #: How often the turn has waited.
        self._part = 0

    @property
    def _key(self) -> tuple[object, ...]:
        return (self._session_id, self._thread_id, self._first, self._filter)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ThreadEncoder) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    def copy(self) -> Self:
        other = super().copy()
        other._open = {
            space: replace(each, pieces=list(each.pieces)) for space, each in self._open.items()
        }
        return other

    # -- an encoder ------------------------------------------------------------------------

    async def prepare(self, entries: Sequence[Entry]) -> None:
        if self._lacks_goals(entries):
            self._goals |= await self._load(self._turn)

    def _lacks_goals(self, entries: Sequence[Entry]) -> bool:
        turn = self._turn
        for entry in entries:
            if entry.position and turn not in self._goals:
                return True
            turn += entry.kind == "done"
        return False

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        found: list[bytes] = []
        for entry in entries:
            chunk = loads(entry.body)
            self._at = entry.at // 1_000
            if entry.position:
                self._position = entry.position
                found += self._frames(self._events(entry.kind, chunk))
            elif self._begun:  # not in the log, so it has no place
                found += self._frames(self._custom(chunk), is_aside=True)
        return found

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        if self._lacks_goals(entries):
            return None
        found = b"".join(self.encode(entries))
        return chunked(found) if found else b""  # an empty part would end the body

    def heartbeat(self, position: int) -> bytes:
        return HEARTBEAT

    def _frames(self, events: Iterator[_Event], *, is_aside: bool = False) -> Iterator[bytes]:
        for number, (channel, method, space, data) in enumerate(events):
            place, seq = (space,) if space else (), self._position * _STRIDE + number
            if not self._filter.shows(channel, place) or seq <= self._filter.since:
                continue
            event: Json = {
                "type": "event",
                "method": method,
                "params": {"namespace": place, "timestamp": self._at, "data": data()},
            }
            if is_aside:
                yield b"event: %b\ndata: %b\n\n" % (method.encode(), dumps(event))
                continue
            event |= {"seq": seq, "event_id": self._event_id(method, space, seq)}
            yield b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, method.encode(), dumps(event))

    def _event_id(self, method: str, space: str, seq: int) -> str:
        # Clients read from this form whose run began or ended.
        return f"synth:{self._run()}:{seq}" if method == "lifecycle" and not space else str(seq)

    def _run(self) -> str:
        return threads.run_id(self._session_id, self._turn, self._part)

    # -- a run -----------------------------------------------------------------------------

    def _events(self, kind: str, chunk: Chunk) -> Iterator[_Event]:
        self._answer.add(chunk)
        if not self._begun:
            self._begun = True
            yield self._lifecycle("running", graph_name=self._agent_id)
            yield from self._state("input")
        elif self._waits and kind not in _WHILE_WAITING:
            self._waits = False
            self._part += 1
            yield self._lifecycle("running", graph_name=self._agent_id)
        encode = _ENCODERS.get(kind)
        if encode is not None:
            yield from encode(self, chunk)

    def _lifecycle(self, event: str, space: str = "", **more: Any) -> _Event:
        return "lifecycle", "lifecycle", space, lambda: {"event": event, **more}

    def _state(self, source: str, *, ended: bool = False) -> Iterator[_Event]:
        """The thread's values. A client takes them for newer than those it has loaded."""
        step = threads.step_of(self._turn, ended=True) if ended else 2 * self._turn
        checkpoint: Json = {
            "id": threads.checkpoint_id(self._session_id, self._turn),
            "parent_id": threads.checkpoint_id(self._session_id, self._turn - 1),
            "step": step,
            "source": source,
        }
        yield "checkpoints", "checkpoints", "", lambda: checkpoint
        yield "values", "values", "", self._values

    def _wait(self, _chunk: Chunk) -> Iterator[_Event]:
        yield from self._finish_all()
        for ask in messages.interrupts_in(self._answer.parts):
            if ask["id"] not in self._asked:
                self._asked |= {ask["id"]}
                yield "input", "input.requested", "", _asking(ask)
        yield from self._state("loop")
        yield self._lifecycle("interrupted")
        self._waits = True

    def _answered(self, chunk: Chunk) -> Iterator[_Event]:
        yield "input", "input.answered", "", lambda: {"interrupt_ids": [chunk["call_id"]]}

    def _error(self, chunk: Chunk) -> Iterator[_Event]:
        self._failure = chunk["message"]
        yield from ()

    def _done(self, chunk: Chunk) -> Iterator[_Event]:
        yield from self._finish_all()
        yield from self._state("loop", ended=True)
        if chunk["status"] == "success":
            yield self._lifecycle("completed")
        elif chunk["status"] == "cancelled":
            yield self._lifecycle("interrupted")
        else:
            yield self._lifecycle("failed", error=self._failure or chunk["status"])
        self._pass(chunk.get("turn", self._turn))

    def _pass(self, turn: int) -> None:
        super()._pass(turn)
        self._asked = frozenset()
        self._begun = self._waits = False
        self._failure, self._part = "", 0

    # -- messages --------------------------------------------------------------------------

    def _text(self, chunk: Chunk) -> Iterator[_Event]:
        text = chunk["content"]
        if text:
            delta = {"type": "text-delta", "text": text}
            yield from self._piece(chunk, "text", text, delta)

    def _reasoning(self, chunk: Chunk) -> Iterator[_Event]:
        text = chunk["content"]
        if text:
            delta = {"type": "reasoning-delta", "reasoning": text}
            yield from self._piece(chunk, "reasoning", text, delta)

    def _piece(self, chunk: Chunk, kind: str, text: str, delta: Json) -> Iterator[_Event]:
        space = _space(chunk)
        yield from self._within(space, chunk)
        yield from self._message(space, self._places_of(space).text())
        opened = self._open[space]
        if opened.kind != kind:
            yield from self._finish_block(space)
            opened.kind, opened.index = kind, opened.index + 1
            start = {"event": "content-block-start", "index": opened.index}
            empty = {"type": kind, kind: ""}
            yield "messages", "messages", space, lambda: start | {"content": empty}
        opened.pieces.append(text)
        said = {"event": "content-block-delta", "index": opened.index, "delta": delta}
        yield "messages", "messages", space, lambda: said

    def _places_of(self, space: str) -> messages.Places:
        return self._inside(space) if space else self._places

    def _message(self, space: str, number: int) -> Iterator[_Event]:
        """The AI message of this number is the one that grows."""
        opened = self._open.get(space)
        if opened is not None and opened.number == number:
            return
        yield from self._finish(space)
        self._open[space] = _OpenMessage(number)
        base = f"{self._base()}.{space}" if space else self._base()
        about = {"run_id": self._run(), "thread_id": self._thread_id}
        start = {"event": "message-start", "role": "ai", "id": f"{base}.{number}"}
        yield "messages", "messages", space, lambda: start | {"metadata": about}

    def _finish_block(self, space: str) -> Iterator[_Event]:
        opened = self._open.get(space)
        if opened is not None and opened.kind:
            kind, index, text = opened.kind, opened.index, "".join(opened.pieces)
            opened.kind = ""
            opened.pieces.clear()
            finish = {"event": "content-block-finish", "index": index}
            yield "messages", "messages", space, lambda: finish | {"content": _block(kind, text)}

    def _finish(self, space: str) -> Iterator[_Event]:
        """The message that grows is whole, if there is one."""
        yield from self._finish_block(space)
        opened = self._open.pop(space, None)
        if opened is not None:
            yield "messages", "messages", space, lambda: {"event": "message-finish"}
        if opened is not None and not space:
            said = self._ai(opened.number)
            update = {"node": "agent", "values": {"messages": [said]}}
            yield "updates", "updates", "", lambda: update

    def _finish_all(self) -> Iterator[_Event]:
        for space in sorted(self._open):
            yield from self._finish(space)

    # -- calls and sub-agents --------------------------------------------------------------

    def _call(self, chunk: Chunk) -> Iterator[_Event]:
        space, call_id = _space(chunk), chunk["call_id"]
        yield from self._within(space, chunk)
        number, _ = self._places_of(space).call(call_id)
        yield from self._message(space, number)
        yield from self._finish_block(space)
        opened, args = self._open[space], chunk.get("args") or {}
        opened.index += 1
        called = {"id": call_id, "name": chunk["tool"]}
        start = {"event": "content-block-start", "index": opened.index}
        piece = {"type": "tool_call_chunk", **called, "args": dumps(args).decode()}
        yield "messages", "messages", space, lambda: start | {"content": piece}
        finish = {"event": "content-block-finish", "index": opened.index}
        whole = {"type": "tool_call", **called, "args": args}
        yield "messages", "messages", space, lambda: finish | {"content": whole}
        began = {"event": "tool-started", "tool_call_id": call_id, "tool_name": chunk["tool"]}
        yield "tools", "tools", space, lambda: began | {"input": args}

    def _result(self, chunk: Chunk) -> Iterator[_Event]:
        space, call_id = _space(chunk), chunk["call_id"]
        if not self._places_of(space).knows(call_id):
            yield from self._call(chunk)
        place = self._places_of(space).result(call_id)
        if place is None:
            return
        inner = f"tools:{call_id}"
        if inner in self._inner:
            yield from self._finish(inner)
            yield self._lifecycle("failed" if chunk.get("is_error") else "completed", inner)
        message = messages.tool_message(self._base(), place, chunk)
        ended: Json = {"event": "tool-finished", "output": chunk.get("result")}
        if chunk.get("is_error"):
            ended = {"event": "tool-error", "message": message["content"]}
        yield "tools", "tools", space, lambda: {**ended, "tool_call_id": call_id}
        if not space:
            update = {"node": "tools", "values": {"messages": [message]}}
            yield "updates", "updates", "", lambda: update
            yield "values", "values", "", self._values

    def _within(self, space: str, chunk: Chunk) -> Iterator[_Event]:
        """A sub-agent begins, if this is the first of its chunks."""
        if space and space not in self._inner:
            self._inside(space)
            more: Json = {"graph_name": chunk.get("agent_id") or space}
            if chunk.get("parent"):
                more["cause"] = {"type": "toolCall", "tool_call_id": chunk["parent"]}
            yield self._lifecycle("started", space, **more)

    # -- other chunks ----------------------------------------------------------------------

    def _step(self, chunk: Chunk) -> Iterator[_Event]:
        is_own = "session_id" in chunk or not namespace(chunk)
        self._places.step_is(chunk["step"], chunk["status"], is_own=is_own)
        yield from self._custom(chunk)

    def _said(self, _chunk: Chunk) -> Iterator[_Event]:
        self._places.break_off()
        yield "values", "values", "", self._values

    def _custom(self, chunk: Chunk) -> Iterator[_Event]:
        kind = chunk["type"]
        name, payload = (chunk["name"], chunk.get("data")) if kind == "data" else (kind, chunk)
        yield f"custom:{name}", "custom", "", lambda: {"name": name, "payload": payload}


def _space(chunk: Chunk) -> str:
    """The namespace of a sub-agent. Below `tools:` no message is one of the thread's own."""
    space = namespace(chunk)
    return space if not space or space.startswith("tools:") else f"tools:{chunk['agent_id']}"


def _block(kind: str, text: str) -> Json:
    return {"type": kind, kind: text}


def _asking(ask: Json) -> Callable[[], Json]:
    return lambda: {"interrupt_id": ask["id"], "payload": ask["value"]}


_ENCODERS: Mapping[str, Callable[[ThreadEncoder, Chunk], Iterator[_Event]]] = {
    "message": ThreadEncoder._text,
    "reasoning": ThreadEncoder._reasoning,
    "step": ThreadEncoder._step,
    "tool_call": ThreadEncoder._call,
    "tool_result": ThreadEncoder._result,
    "user_message": ThreadEncoder._said,
    "source": ThreadEncoder._custom,
    "file": ThreadEncoder._custom,
    "data": ThreadEncoder._custom,
    "input": ThreadEncoder._answered,
    "error": ThreadEncoder._error,
    "waiting": ThreadEncoder._wait,
    "done": ThreadEncoder._done,
}
