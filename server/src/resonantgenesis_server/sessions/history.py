"""Earlier turns, read back from the log: requests, outputs, endings, calls of tools."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ..agents.base import (
    Answer,
    ClientTool,
    Origin,
    PastStep,
    PastTurn,
    ResolvedAgent,
    Turn,
    TurnFiles,
)
from ..agents.past import OWN, StepReader, origin_of
from ..log.base import Entry, EventLog, LogUnavailable
from ..model.chunks import OfSubAgent, is_own_text
from ..model.limits import Limits
from .answers import answer_in
from .chunks import (
    ChunkMaker,
    Encoded,
    Status,
    TurnFailure,
    TurnOutcome,
    TurnOutput,
    completed_step,
    cut_short,
    done_chunk,
)
from .lineage import FirstTurns
from .request import TurnRequest
from .state import SessionInfo, SessionState, TurnState, control_stream

#: An agent is given the newest of the earlier turns, within both bounds.
_HISTORY_TURNS = 50
_HISTORY_CHARS = 200_000
#: Earlier turns kept in memory, over all sessions.
_KNOWN_TURNS, _KNOWN_CHARS = 10_000, 8_000_000
_PAGE_ENTRIES, _PAGE_BYTES = 5_000, 1 << 20
#: The last chunks of a turn are searched for calls of tools; a turn of one step is not searched if
#: it has more than the second number.
_STEP_CHUNKS, _PLAIN_CHUNKS = 20_000, 1_000


class EntryGone(LogUnavailable):
    """The entry was trimmed, or its session deleted; `earliest` can still be read."""

    def __init__(self, stream: str, position: int, earliest: int) -> None:
        super().__init__(f"{stream} has no entry {position} any more")
        self.earliest = earliest


@dataclass(frozen=True, slots=True)
class TurnBeforeStop:
    """The part of a turn before its newest stop; empty for a turn that never stopped."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    steps: Sequence[PastStep] = ()
    steps_of: Mapping[Origin, Sequence[PastStep]] = field(default_factory=dict)
    kept: Any = None


class TurnHistory:
    """Reads requests, outputs and endings of turns. All methods raise LogUnavailable."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        #: Finds the parts of other sessions with which a fork begins.
        self.inherited: Callable[[SessionState], Awaitable[list[FirstTurns]]] = _nothing_inherited
        self._known: OrderedDict[tuple[str, int], PastTurn] = OrderedDict()
        self._known_chars = 0

    async def request(self, session_id: str, turn: TurnState) -> TurnRequest:
        """The request of a turn."""
        entry = await self._one(control_stream(session_id), turn.record)
        return TurnRequest.of(entry.body)

    async def requests(self, session_id: str, turns: Sequence[TurnState]) -> dict[int, TurnRequest]:
        """The requests of turns that follow one another, by turn."""
        numbers = {turn.record: turn.turn for turn in turns}
        after, last = min(numbers, default=1) - 1, max(numbers, default=0)
        found: dict[int, TurnRequest] = {}
        while after < last:
            page = await self._log.read(
                control_stream(session_id), after, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES
            )
            for entry in page.entries:
                if entry.position in numbers:
                    found[numbers[entry.position]] = TurnRequest.of(entry.body)
            if page.at_end or not page.entries:
                break
            after = page.entries[-1].position
        return found

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
    ) -> tuple[TurnOutput, int]:
        """A turn's text up to now, and the position it reaches; `see` is called with every entry.

        Raises EntryGone if the session has no chunk at all."""
        output = TurnOutput(limits)
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
                if not output.truncated and is_own_text(entry.kind, entry.body):
                    output.add(orjson.loads(entry.body)["content"])
                if entry.kind == "done":
                    return output, position
            if page.at_end:
                return output, position

    async def ask(self, session_id: str, position: int) -> dict[str, Any]:
        """The `input_required` at this position, as JSON."""
        body: dict[str, Any] = orjson.loads((await self._one(session_id, position)).body)
        return body

    async def answers(self, session_id: str, turn: TurnState) -> dict[str, Answer]:
        """All answers of a turn, by call_id."""
        given = {} if turn.waits is None else dict(turn.waits.answers)
        answers: dict[str, Answer] = {}
        for call_id, answer in given.items():
            entry = await self._one(session_id, answer.position)
            answers[call_id] = answer_in(orjson.loads(entry.body))
        return answers

    async def before_stop(
        self, session_id: str, turn: TurnState, maker: ChunkMaker
    ) -> TurnBeforeStop:
        """What a turn that goes on has done before; `maker` takes in its chunks."""
        if turn.waits is None:
            return TurnBeforeStop()
        stop = await self._one(control_stream(session_id), turn.waits.record)
        record = orjson.loads(stop.body)
        maker.used(record["ran"], record["input_tokens"], record["output_tokens"])
        steps: dict[Origin, StepReader] = {}
        position = turn.first - 1
        while position < turn.told:
            page = await self._log.read(
                session_id, position, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES
            )
            for entry in page.entries:
                position = entry.position
                origin = origin_of(entry.body)
                if origin not in steps:
                    steps[origin] = StepReader(whole=True)
                steps[origin].see(entry.kind, entry.body)
                maker.see(entry, stop.at / 1e6)
            if page.at_end:
                break
        answers = await self.answers(session_id, turn)
        past = {origin: reader.steps() for origin, reader in steps.items()}
        return TurnBeforeStop(answers, past.pop(OWN, ()), past, record["kept"])

    async def prepare(
        self,
        info: SessionInfo,
        state: SessionState,
        turn: TurnState,
        request: TurnRequest,
        agent: ResolvedAgent,
        files: TurnFiles,
        before: TurnBeforeStop,
    ) -> Turn:
        """The turn as its agent sees it."""
        # The turn that it regenerates is none of them, nor is one that was regenerated before.
        own = FirstTurns(info.session_id, state, turn.turn)
        spans = [*await self.inherited(state), own]
        earlier = [
            (span.session_id, each)
            for span in spans
            for each in span.turns
            if each.last and not span.replaced_by(each)
        ]
        return Turn(
            goal=request.goal,
            session_id=info.session_id,
            turn=turn.turn,
            agent_id=info.agent_id,
            context=state.context,
            history=[
                *(PastTurn(goal, output, "success") for goal, output in request.past),
                *await self._history(earlier),
            ],
            earlier=len(request.past) + len(earlier),
            subject=info.subject,
            metadata={**info.metadata, **request.metadata},
            model=request.model or agent.model,
            tools=request.tools if request.tools is not None else agent.tools,
            instructions=request.instructions or agent.instructions,
            max_steps=request.max_steps,
            files=files,
            client_tools=[ClientTool(**tool) for tool in request.client_tools],
            answers=before.answers,
            so_far=before.steps,
            so_far_of=before.steps_of,
            kept=before.kept,
        )

    async def _history(self, earlier: Sequence[tuple[str, TurnState]]) -> list[PastTurn]:
        """The newest of these turns of sessions, as many as fit."""
        history: list[PastTurn] = []
        chars = _HISTORY_CHARS
        for session_id, turn in reversed(earlier[-_HISTORY_TURNS:]):
            try:
                past_turn = await self._past(session_id, turn)
            except LogUnavailable:
                break  # trimmed, and so are all older turns
            if past_turn.steps and _size(past_turn) > chars / 2:
                past_turn = replace(past_turn, steps=())
            chars -= _size(past_turn)
            if chars < 0:
                break
            history.append(past_turn)
        history.reverse()
        return history

    async def _past(self, session_id: str, turn: TurnState) -> PastTurn:
        """A turn that has ended. It never changes, and each later turn asks for it again."""
        name = (session_id, turn.turn)
        past = self._known.get(name)
        if past is not None:
            self._known.move_to_end(name)
            return past
        request = await self.request(session_id, turn)
        done = await self.done(session_id, turn)
        reader = await self._read_steps(session_id, turn, done)
        past = PastTurn(
            request.goal, done["output"], done["status"], reader.steps(), tuple(reader.left)
        )
        self._known[name] = past
        self._known_chars += _size(past)
        while self._known_chars > _KNOWN_CHARS or len(self._known) > _KNOWN_TURNS:
            _, oldest = self._known.popitem(last=False)
            self._known_chars -= _size(oldest)
        return past

    async def _read_steps(
        self, session_id: str, turn: TurnState, done: dict[str, Any]
    ) -> StepReader:
        """The turn's calls of tools and its messages; of its last chunks only, if it has very
        many."""
        reader = StepReader()
        count = turn.last - turn.first
        if count > _PLAIN_CHUNKS and done["usage"].get("steps", 0) < 2 and not turn.messages:
            return reader  # one long text: no tool is called in the only step of a model
        position = max(turn.first, turn.last - _STEP_CHUNKS) - 1
        while position < turn.last - 1:
            page = await self._log.read(
                session_id, position, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES
            )
            for entry in page.entries:
                if entry.position >= turn.last:
                    return reader
                position = entry.position
                if origin_of(entry.body) == OWN:
                    reader.see(entry.kind, entry.body)
            if page.at_end:
                break
        return reader

    async def _one(self, stream: str, position: int) -> Entry:
        page = await self._log.read(stream, position - 1, limit=1)
        if not page.entries or page.entries[0].position != position:
            raise EntryGone(stream, position, 1 if page.info is None else page.info.earliest)
        return page.entries[0]


def _size(past: PastTurn) -> int:
    """In characters, about."""
    calls = [call for step in past.steps for call in step.calls]
    tools = sum(200 + len(call.result or "") for call in calls)
    said = sum(len(step.text) + len(step.message) for step in past.steps)
    return len(past.goal) + len(past.output) + said + sum(map(len, past.left)) + tools


async def _nothing_inherited(_state: SessionState) -> list[FirstTurns]:
    """For sessions without forks."""
    return []


RUNNER_LOST = TurnFailure(
    "RUNNER_LOST",
    "the server process that ran this turn died; what it had produced is kept",
    retryable=True,
)


class _TurnSteps:
    """A turn's steps, folded from its chunks, with the times of their commits."""

    def __init__(self) -> None:
        self.count = 0
        #: The commit of the newest chunk, in microseconds since 1970.
        self.last_at = 0
        self._open: dict[int, tuple[dict[str, Any], int]] = {}

    def see(self, entry: Entry) -> None:
        self.last_at = entry.at
        if entry.kind != "step":
            return
        body = orjson.loads(entry.body)
        number = body["step"]
        if body["status"] == "started":
            self.count = max(self.count, number)
            self._open[number] = body, entry.at
        elif body["status"] == "completed":
            self._open.pop(number, None)

    def close(self, status: str) -> Iterator[Encoded]:
        """Completes the open steps, the innermost first; `status` is how the turn ends."""
        reason = cut_short(status)
        for number in reversed(list(self._open)):
            started, began = self._open.pop(number)
            # The agent_id of a turn's first step is the turn's own.
            of_sub_agent = {} if "turn" in started else OfSubAgent.origin_in(started)
            duration = _milliseconds(self.last_at - began)
            yield completed_step(number, started["name"], duration, {**reason, **of_sub_agent})


async def ending_from_log(
    history: TurnHistory,
    session_id: str,
    turn: TurnState,
    failure: TurnFailure | None,
    usage: Mapping[str, int] | None,
    limits: Limits,
) -> TurnOutcome:
    """The outcome of a turn from its chunks in the log: open steps completed, `error`, `done`.

    Without a failure the turn was cancelled. `usage` is the count of the turn's run. Without a run
    the duration is that up to the last chunk, and the tokens are 0: only the end of a run tells
    them. Raises LogUnavailable.
    """
    steps = _TurnSteps()
    try:
        output, _ = await history.output_so_far(session_id, turn, limits, steps.see)
    except EntryGone:  # its process died before its first chunk
        output = TurnOutput(limits)
    counted = dict(usage) if usage is not None else _without_run(turn, steps)
    counted["steps"] = steps.count
    status: Status = "cancelled" if failure is None else "failed"
    done = done_chunk(session_id, turn.turn, status, output, counted)
    errors = [] if failure is None else [failure.chunk(turn.request_id)]
    return TurnOutcome(status, [*steps.close(status), *errors, done], counted, failure)


def _without_run(turn: TurnState, steps: _TurnSteps) -> dict[str, int]:
    began = round(turn.started_at * 1e6)
    took = _milliseconds(steps.last_at - began) if steps.last_at else 0
    return {"input_tokens": 0, "output_tokens": 0, "steps": 0, "duration_ms": took}


def _milliseconds(micros: int) -> int:
    return max(0, round(micros / 1_000))
