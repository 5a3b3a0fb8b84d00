"""Runs the agent of one turn after the other, and says how each ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import orjson
import structlog
from structlog.contextvars import bind_contextvars

from ..log.base import Entry, LogError, NewEntry, StaleWriter
from ..model.errors import ApiError, Internal, Unavailable
from ..model.events import event_stream
from ..model.limits import Limits
from .agent_run import AgentRun
from .chunks import ChunkMaker, Encoded, Output, completed_step, cut_short, done_chunk
from .events import TurnEvents
from .history import EntryGone, PreparedTurn, TurnHistory
from .node import Node
from .outcome import Status, TurnFailure, TurnOutcome
from .session_log import SessionLog
from .state import Request, TurnState, request_of
from .turn_writer import TurnWriter

log_ = structlog.get_logger("resonantgenesis.sessions")

#: Looking up the agent and the history is local; an agent is asked only after it.
_PREPARE_SECONDS = 30.0


class TurnRunner:
    """The running turn of a session. `orphan` is a turn that ran when its process died."""

    def __init__(self, ledger: SessionLog, node: Node) -> None:
        self.orphan = 0
        #: Number and record of the turn that was asked for last, if it need not wait.
        self.fresh: tuple[int, NewEntry] | None = None
        self.viewed_at = 0.0
        self._ledger = ledger
        self._node = node
        self._run: AgentRun | None = None
        self._cancelled: set[int] = set()
        #: The turn whose ending is settled, and is being written.
        self._decided = 0

    def cancel(self, number: int) -> bool:
        """Stop a running turn, whether or not its agent has been asked yet. False: it is over, and
        ends in another way, though its `done` may not be in the log yet."""
        if self._run is not None and self._run.number == number:
            takes = self._run.cancel()
        else:
            takes = number in self._cancelled or number not in {self._decided, self.orphan}
        if takes:
            self._cancelled.add(number)
        return takes

    @property
    def announced(self) -> int | None:
        """The last position of the chunks' stream that was announced; None: it is not known."""
        if self._ledger.unsure:
            return None
        if self._run is None:
            return self._ledger.head
        return self._run.durable

    def forget(self, number: int) -> None:
        """The turn has ended."""
        self._cancelled.discard(number)

    async def run(self, turn: TurnState) -> TurnOutcome:
        """Run the turn. Raises LogError if it could not even be started, and may be later."""
        ending = await self._run_turn(turn)
        self._decided = turn.turn  # in the same breath: nobody can cancel it in between
        return ending

    async def _run_turn(self, turn: TurnState) -> TurnOutcome:
        # The task is the session's, made by whatever request came first.
        bind_contextvars(
            session=self._ledger.session_id,
            turn=turn.turn,
            request_id=turn.request_id,
            key_id=turn.key_id,
        )
        if turn.turn == self.orphan:
            why = None if turn.stopped else RUNNER_LOST
            return await self._from_log(turn, why)
        if turn.status == "queued":
            await self._begin(turn)
        if turn.withdrawn:
            return self._without_agent(turn, "cancelled")
        try:
            request, prepared = await self._prepare(turn)
            return await self._drive(turn, request, prepared)
        except StaleWriter:
            raise
        except LogError as error:
            log_.error("turn could not start", session=self._ledger.session_id, error=str(error))
            failure = TurnFailure.of(Unavailable("the turn could not be stored", retry_after=1))
        except ApiError as error:
            failure = TurnFailure.of(error)
        except Exception as error:  # a defect of ours must not leave the session running for ever
            log_.error("turn failed internally", session=self._ledger.session_id, exc_info=error)
            failure = TurnFailure.of(Internal("the turn failed internally"))
        return self._failed(turn, failure)

    async def complete(self, turn: TurnState, ending: TurnOutcome) -> TurnOutcome:
        """The ending with the output that viewers can read. Raises LogUnavailable."""
        if not ending.unstored:
            return ending
        return await self._from_log(turn, ending.failure, ending.usage)

    def internal(self, turn: TurnState) -> TurnOutcome:
        """For a turn whose own ending cannot be stored."""
        return self._failed(turn, TurnFailure.of(Internal("the turn failed internally")))

    async def _from_log(
        self, turn: TurnState, failure: TurnFailure | None, usage: Mapping[str, int] | None = None
    ) -> TurnOutcome:
        node = self._node
        return await ending_from_log(
            node.transcript, self._ledger.session_id, turn, failure, usage, node.limits
        )

    # -- inside ----------------------------------------------------------------------------

    async def _begin(self, turn: TurnState) -> None:
        """Record the start of a turn that waited, unless it was withdrawn meanwhile."""
        request = await self._node.transcript.request(self._ledger.session_id, turn)
        await self._node.log.room()
        async with self._ledger.lock:
            if not turn.withdrawn:
                await self._ledger.begin(turn, request.goal)

    async def _prepare(self, turn: TurnState) -> tuple[Request, PreparedTurn]:
        ledger, node = self._ledger, self._node
        try:
            async with asyncio.timeout(_PREPARE_SECONDS):
                request = await self._request(turn)
                return request, await node.prepare(ledger.info, ledger.state, turn, request)
        except TimeoutError as error:
            raise Unavailable("the turn could not be prepared in time", retry_after=1) from error

    async def _request(self, turn: TurnState) -> Request:
        fresh, self.fresh = self.fresh, None
        if fresh is not None and fresh[0] == turn.turn:
            return request_of(fresh[1].body)
        return await self._node.transcript.request(self._ledger.session_id, turn)

    async def _drive(
        self, turn: TurnState, request: Request, prepared: PreparedTurn
    ) -> TurnOutcome:
        ledger, node = self._ledger, self._node
        writer = TurnWriter(
            node.log,
            ledger.session_id,
            fence=node.fence,
            position=ledger.head,
            event_stream=event_stream(ledger.info.organization_id),
        )
        self._run = run = AgentRun(
            prepared.agent,
            prepared.turn,
            writer,
            TurnEvents.of(ledger.info, turn),
            timeout=request.timeout_seconds,
            limits=node.limits,
            request_id=request.request_id,
            abandon=node.own,
        )
        watch: asyncio.Task[None] | None = None
        if turn.turn in self._cancelled or turn.stopped:
            run.cancel()
        if request.on_disconnect == "cancel":
            watch = asyncio.create_task(self._cancel_unwatched(run), name="on_disconnect")
            node.own(watch)
        try:
            return await run.run()
        finally:
            prepared.close()
            ledger.head = writer.durable
            ledger.unsure = ledger.unsure or writer.error is not None
            self._run = None
            if watch is not None:
                watch.cancel()

    async def _cancel_unwatched(self, run: AgentRun) -> None:
        """Cancels the turn once nobody has read its stream for the whole grace.

        Who waits for a turn's end reads its records and not its chunks, and counts all the same, as
        long as it is there; who polls is seen for a moment each time.
        """
        loop, hub = asyncio.get_running_loop(), self._node.hub
        grace = self._node.limits.disconnect_grace
        streams = self._ledger.session_id, self._ledger.control
        self.viewed_at = max(self.viewed_at, loop.time())
        while loop.time() - self.viewed_at < grace:
            if any(hub.is_watched(stream) for stream in streams):
                self.viewed_at = loop.time()
            await asyncio.sleep(min(0.5, grace / 4))
        run.cancel()

    def _failed(self, turn: TurnState, failure: TurnFailure) -> TurnOutcome:
        """For a turn whose agent was not run to its end; who cancelled it was told so."""
        if turn.turn in self._cancelled:
            return self._without_agent(turn, "cancelled")
        return self._without_agent(turn, "failed", failure)

    def _without_agent(
        self, turn: TurnState, status: Status, failure: TurnFailure | None = None
    ) -> TurnOutcome:
        session_id, limits = self._ledger.session_id, self._node.limits
        maker = ChunkMaker(session_id, turn.turn, "", max_steps=1, limits=limits)
        usage = maker.usage()
        done = maker.done(status, usage)
        chunks = [done] if failure is None else [failure.chunk(turn.request_id), done]
        return TurnOutcome(status, chunks, usage, failure)


RUNNER_LOST = TurnFailure(
    "RUNNER_LOST",
    "the server process that ran this turn died; what it had produced is kept",
    retryable=True,
)


class _Steps:
    """A turn's steps, folded from its chunks; times are those at which the log took them."""

    def __init__(self) -> None:
        self.count = 0
        #: Of the newest chunk, in microseconds since 1970.
        self.last_at = 0
        self._open: dict[int, tuple[str, int]] = {}

    def see(self, entry: Entry) -> None:
        self.last_at = entry.at
        if entry.kind != "step":
            return
        body = orjson.loads(entry.body)
        number = body["step"]
        if body["status"] == "started":
            self.count = max(self.count, number)
            self._open[number] = body["name"], entry.at
        elif body["status"] == "completed":
            self._open.pop(number, None)

    def close(self, status: str) -> Iterator[Encoded]:
        """Completes those that are open, the innermost first, as the turn ends so."""
        told = cut_short(status)
        for number in reversed(list(self._open)):
            name, began = self._open.pop(number)
            yield completed_step(number, name, _milliseconds(self.last_at - began), told)


async def ending_from_log(
    transcript: TurnHistory,
    session_id: str,
    turn: TurnState,
    failure: TurnFailure | None,
    usage: Mapping[str, int] | None,
    limits: Limits,
) -> TurnOutcome:
    """The open steps completed, `error` and `done`, with what the log holds of the turn; without
    a failure it was cancelled.

    `usage` is what the turn's run counted. Without a run, its time is that up to its last chunk,
    and its tokens are 0: they are not told before the end. Raises LogUnavailable.
    """
    steps = _Steps()
    try:
        output, _ = await transcript.output_so_far(session_id, turn, limits, steps.see)
    except EntryGone:  # its process died before its first chunk
        output = Output(limits)
    counted = dict(usage) if usage is not None else _without_run(turn, steps)
    counted["steps"] = steps.count
    status: Status = "cancelled" if failure is None else "failed"
    done = done_chunk(session_id, turn.turn, status, output, counted)
    errors = [] if failure is None else [failure.chunk(turn.request_id)]
    return TurnOutcome(status, [*steps.close(status), *errors, done], counted, failure)


def _without_run(turn: TurnState, steps: _Steps) -> dict[str, int]:
    began = round(turn.started_at * 1e6)
    took = _milliseconds(steps.last_at - began) if steps.last_at else 0
    return {"input_tokens": 0, "output_tokens": 0, "steps": 0, "duration_ms": took}


def _milliseconds(micros: int) -> int:
    return max(0, round(micros / 1_000))
