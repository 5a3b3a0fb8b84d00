"""Reads back from the log what turns were asked and answered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import orjson

from ..agents.base import (
    NO_FILES,
    Agent,
    PastCall,
    PastStep,
    PastTurn,
    ResolvedAgent,
    Turn,
    shortened,
)
from ..codec.json import dumps
from ..log.base import Entry, EventLog, LogUnavailable
from ..model.limits import Limits
from .chunks import Output
from .files import SessionFiles
from .state import (
    Request,
    SessionInfo,
    SessionState,
    TurnState,
    control_stream,
    request_of,
)

#: What of the earlier turns an agent is given: the newest, within both bounds.
_HISTORY_TURNS = 50
_HISTORY_CHARS = 200_000
#: Earlier turns kept in memory, over all sessions.
_KNOWN_TURNS, _KNOWN_CHARS = 10_000, 8_000_000
_PAGE_ENTRIES, _PAGE_BYTES = 5_000, 1 << 20
#: Chunks of a turn that are looked through for calls of tools, and how many a turn of a single step
#: may have to be looked through.
_STEP_CHUNKS, _PLAIN_CHUNKS = 20_000, 1_000


class EntryGone(LogUnavailable):
    """The entry was trimmed, or its session deleted; `earliest` can still be read."""

    def __init__(self, stream: str, position: int, earliest: int) -> None:
        super().__init__(f"{stream} has no entry {position} any more")
        self.earliest = earliest


class PreparedTurn:
    """A turn ready to run."""

    __slots__ = ("_files", "agent", "request", "turn")

    def __init__(
        self, agent: Agent, turn: Turn, request: Request, files: SessionFiles | None = None
    ) -> None:
        self.agent = agent
        self.turn = turn
        self.request = request
        self._files = files

    def close(self) -> None:
        """The turn is over: an agent that goes on all the same can store nothing any more."""
        if self._files is not None:
            self._files.close()


class TurnHistory:
    """Reads requests, endings and partial outputs of turns. All raise LogUnavailable."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: OrderedDict[tuple[str, int], PastTurn] = OrderedDict()
        self._known_chars = 0

    async def request(self, session_id: str, turn: TurnState) -> Request:
        """What a turn was asked for."""
        entry = await self._one(control_stream(session_id), turn.record)
        return request_of(entry.body)

    async def done(self, session_id: str, turn: TurnState) -> dict[str, Any]:
        """The `done` chunk of a turn that has ended, as JSON."""
        entry = await self._one(session_id, turn.last)
        body: dict[str, Any] = orjson.loads(entry.body)
        return body | {"position": entry.position}

    async def error(self, session_id: str, turn: TurnState) -> dict[str, Any] | None:
        """The `error` chunk right before a turn's `done`, if it failed."""
        if turn.status not in {"failed", "timeout"}:
            return None
        body: dict[str, Any] = orjson.loads((await self._one(session_id, turn.last - 1)).body)
        return body if body.get("type") == "error" else None

    async def output_so_far(
        self,
        session_id: str,
        turn: TurnState,
        limits: Limits,
        see: Callable[[Entry], None] = lambda _entry: None,
    ) -> tuple[Output, int]:
        """A turn's text up to now, and the position it reaches; `see` is shown every entry.

        Raises EntryGone where there is no chunk of the session at all."""
        output = Output(limits)
        position = max(turn.first - 1, 0)
        while True:
            page = await self._log.read(
                session_id, position, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES
            )
            if page.info is None:
                raise EntryGone(session_id, position + 1, 1)
            for entry in page.entries:
                position = entry.position
                see(entry)
                if entry.kind == "message" and not output.truncated:
                    output.add(orjson.loads(entry.body)["content"])
                if entry.kind == "done":
                    return output, position
            if page.at_end:
                return output, position

    async def prepare(
        self,
        info: SessionInfo,
        state: SessionState,
        turn: TurnState,
        request: Request,
        found: ResolvedAgent,
        files: SessionFiles | None = None,
    ) -> PreparedTurn:
        """The turn as its agent sees it."""
        view = Turn(
            goal=request.goal,
            session_id=info.session_id,
            turn=turn.turn,
            agent_id=request.agent_id,
            context=state.context,
            history=await self._history(info.session_id, state, turn),
            subject=info.subject,
            metadata={**info.metadata, **request.metadata},
            model=request.model or found.model,
            tools=request.tools if request.tools is not None else found.tools,
            instructions=found.instructions,
            max_steps=request.max_steps,
            files=files or NO_FILES,
        )
        return PreparedTurn(found.agent, view, request, files)

    async def _history(
        self, session_id: str, state: SessionState, turn: TurnState
    ) -> list[PastTurn]:
        history: list[PastTurn] = []
        room = _HISTORY_CHARS
        past = [t for t in state.turns[: turn.turn - 1] if t.last]
        for earlier in reversed(past[-_HISTORY_TURNS:]):
            try:
                told = await self._past(session_id, earlier)
            except LogUnavailable:
                break  # trimmed: what is older is gone too
            if told.steps and _size(told) > room / 2:
                told = replace(told, steps=())
            room -= _size(told)
            if room < 0:
                break
            history.append(told)
        history.reverse()
        return history

    async def _past(self, session_id: str, turn: TurnState) -> PastTurn:
        """A turn that has ended: it never changes, and a conversation asks for it again."""
        name = (session_id, turn.turn)
        told = self._known.get(name)
        if told is None:
            request = await self.request(session_id, turn)
            done = await self.done(session_id, turn)
            steps = await self._steps(session_id, turn, done)
            told = PastTurn(request.goal, done["output"], done["status"], steps)
            self._known[name] = told
            self._known_chars += _size(told)
            while self._known_chars > _KNOWN_CHARS or len(self._known) > _KNOWN_TURNS:
                _, oldest = self._known.popitem(last=False)
                self._known_chars -= _size(oldest)
        else:
            self._known.move_to_end(name)
        return told

    async def _steps(
        self, session_id: str, turn: TurnState, done: dict[str, Any]
    ) -> tuple[PastStep, ...]:
        """The turn's calls of tools; those of its last chunks if there are very many."""
        count = turn.last - turn.first
        if count > _PLAIN_CHUNKS and done["usage"].get("steps", 0) < 2:
            return ()  # one long text: no tool is called in the only step of a model
        reader = StepReader()
        position = max(turn.first, turn.last - _STEP_CHUNKS) - 1
        while position < turn.last - 1:
            page = await self._log.read(
                session_id, position, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES
            )
            for entry in page.entries:
                if entry.position >= turn.last:
                    return reader.steps()
                position = entry.position
                reader.see(entry)
            if page.at_end:
                break
        return reader.steps()

    async def _one(self, stream: str, position: int) -> Entry:
        page = await self._log.read(stream, position - 1, limit=1)
        if not page.entries or page.entries[0].position != position:
            raise EntryGone(stream, position, 1 if page.info is None else page.info.earliest)
        return page.entries[0]


def _size(past: PastTurn) -> int:
    """In characters, about."""
    calls = [call for step in past.steps for call in step.calls]
    tools = sum(200 + len(call.result or "") for call in calls)
    return len(past.goal) + len(past.output) + sum(len(step.text) for step in past.steps) + tools


#: Calls of one turn that are kept, the newest, and characters of one result and of one call's
#: arguments; of those past `_MAX_TOTAL` of all together.
_MAX_CALLS = 100
_MAX_TEXT = 4_000
_MAX_TOTAL, _MAX_REST = 60_000, 100
#: Bytes of what was said before a call; a longer text is not told apart from the whole output.
_MAX_SAID = 1 << 20


class StepReader:
    """Takes a turn's entries in order; `steps` are then what it said and called, up to its last
    call. A call without a result has `result` None."""

    def __init__(self) -> None:
        self._said: list[bytes] = []
        self._said_size = 0
        self._open: list[_Call] = []
        self._steps: list[_Step] = []
        self._count = 0
        self._size = 0

    def see(self, entry: Entry) -> None:
        if entry.kind == "message":
            self._said_size += len(entry.body)
            if self._said_size > _MAX_SAID:
                self._said.clear()
            else:
                self._said.append(entry.body)
        elif entry.kind == "tool_call":
            self._called(orjson.loads(entry.body))
        elif entry.kind == "tool_result" and self._open:
            self._answered(orjson.loads(entry.body))

    def steps(self) -> tuple[PastStep, ...]:
        return tuple(step.past() for step in self._steps)

    def _called(self, body: dict[str, Any]) -> None:
        if len(self._open) >= _MAX_CALLS:
            return
        # Calls of one answer stand side by side, before the first of their results.
        if self._said_size or not self._steps or self._steps[-1].has_result:
            self._steps.append(_Step(_text(self._said)))
            self._said, self._said_size = [], 0
        self._count += 1
        if self._count > _MAX_CALLS and len(self._steps) > 1:
            oldest = self._steps.pop(0)
            self._count -= len(oldest.calls)
            self._open = [call for call in self._open if call.step is not oldest]
        call = _Call(body, self._steps[-1], self._most())
        self._size += len(dumps(call.args))
        self._steps[-1].calls.append(call)
        self._open.append(call)

    def _answered(self, body: dict[str, Any]) -> None:
        """The call of this id, else the oldest of the tool that waits."""
        waiting = [call for call in self._open if call.call_id == body["call_id"]]
        waiting = waiting or [call for call in self._open if call.tool == body["tool"]]
        if not waiting:
            return
        call = waiting[0]
        self._open.remove(call)
        call.step.has_result = True
        result = body["result"]
        text = result if isinstance(result, str) else dumps(result).decode()
        call.result, call.is_error = shortened(text, self._most()), bool(body["is_error"])
        self._size += len(call.result)

    def _most(self) -> int:
        """Characters that are kept of the next text."""
        return _MAX_TEXT if self._size < _MAX_TOTAL else _MAX_REST


class _Step:
    def __init__(self, text: str) -> None:
        self.text = text
        self.calls: list[_Call] = []
        self.has_result = False

    def past(self) -> PastStep:
        return PastStep(
            self.text,
            tuple(
                PastCall(call.tool, call.args, call.result, call.is_error) for call in self.calls
            ),
        )


class _Call:
    def __init__(self, body: dict[str, Any], step: _Step, most: int) -> None:
        self.step = step
        self.tool: str = body["tool"]
        self.call_id: str = body["call_id"]
        self.args: dict[str, Any] = body["args"]
        size = len(dumps(self.args))
        if size > most:
            self.args = {"left_out": f"{size} bytes of arguments"}
        self.result: str | None = None
        self.is_error = False


def _text(bodies: Iterable[bytes]) -> str:
    return "".join(orjson.loads(body)["content"] for body in bodies)
