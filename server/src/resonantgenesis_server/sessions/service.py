"""Sessions as every transport offers them: what callers do and see, within their rights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
import structlog

from ..agents.base import CheckTools, any_tools
from ..calls import Calls
from ..codec.sse import chunk_json, timed_chunk_json
from ..codec.times import rfc3339
from ..feed.compact import compact
from ..feed.shares import SHARED
from ..feed.subscription import Caller
from ..log.base import Entry, PositionConflict, StaleWriter
from ..model.errors import NotFound, SessionBusy, SessionNotFound
from ..model.ids import is_id
from ..model.limits import LOOKED_BYTES, PAGE_BYTES
from ..model.principal import Principal
from ..records.base import ListPage, SessionRecord
from ..records.search import Search
from ..records.sessions import SessionRepository
from ..tracing import spans
from .answers import InputRequest
from .chunks import TurnOutput
from .conversation import Conversations
from .forks import Forks
from .history import EntryGone
from .idempotency import TurnIdempotency
from .ownership import Elsewhere
from .peers import SessionPeers
from .range import ReadFrom, expired
from .request import CreateSpec, TurnRef, TurnRequest
from .session_list import SessionList, record_of
from .start import TurnStarter
from .state import SessionState, TurnState
from .subscription import SessionSubscription, open_subscription, wait_over
from .supervisor import Supervisor
from .turn_limit import TurnLimit

log_ = structlog.get_logger("resonantgenesis.sessions")

#: Rounds of cancelling turns while others start new ones, and seconds that one may take to end.
_DELETE_TRIES, _DELETE_WAIT = 3, 5.0
#: A turn was started, or another node has just written the session, e.g. that it has a fork.
_WRITTEN_ELSEWHERE = (SessionBusy, Elsewhere, PositionConflict, StaleWriter)
#: Entries of the log that one call of `steps` reads.
_STEPS_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class Poll:
    """The answer of a poll: chunks as JSON, the next position, and whether more will come."""

    events: list[bytes]
    position: int
    status: str
    done: bool


class SessionService:
    """What a caller can do with sessions. Raises ApiError, LogError and StoreError."""

    def __init__(
        self,
        supervisor: Supervisor,
        keys: TurnIdempotency,
        session_list: SessionList,
        records: SessionRepository,
        *,
        admit: Callable[[str], None] = lambda _organization_id: None,
        check_tools: CheckTools = any_tools,
        turns: TurnLimit | None = None,
        now: Callable[[], float] = time.time,
        calls: Calls | None = None,
    ) -> None:
        """`admit`, `check_tools` and `turns` are asked before a turn starts; see TurnStarter.
        `calls` reaches the other nodes of a store that has some."""
        self.supervisor = supervisor
        self.states = supervisor.states
        self._starter = TurnStarter(
            supervisor,
            supervisor.states,
            supervisor.session,
            self.authorize,
            keys,
            admit=admit,
            check_tools=check_tools,
            turns=turns or TurnLimit(0),
            now=now,
        )
        self._list = session_list
        self._records = records
        self._peers = SessionPeers(supervisor, self._starter, session_list, calls)
        self.forks = Forks(supervisor, self._peers, session_list, records, self.authorize, now)
        self.conversations = Conversations(supervisor, self._peers, self.authorize, check_tools)
        supervisor.is_viewed_elsewhere = self._peers.is_viewed

    @property
    def epoch(self) -> str:
        return self.states.log.epoch

    async def create(
        self,
        principal: Principal,
        spec: CreateSpec,
        *,
        request_id: str,
        session_id: str | None = None,
    ) -> dict[str, Any]:
        """A session without turns. With `session_id`: the existing session of this id, if an
        earlier request, which was never answered, has made it."""
        creating = self._starter.create(principal, spec, request_id, session_id)
        return described(await self.supervisor.detached(creating))

    async def execute(
        self, principal: Principal, request: TurnRequest, *, key: str | None, request_id: str
    ) -> TurnRef:
        """Start, queue or join a turn; durable when this returns. Goes on when its caller is
        cancelled."""
        if not request.traceparent and (parent := spans.traceparent()):
            request = replace(request, traceparent=parent)
        starting = self._peers.execute(principal, request, key=key, request_id=request_id)
        return await self.supervisor.detached(starting)

    async def get(self, principal: Principal, session_id: str) -> dict[str, Any]:
        """The session with the newest turn's output so far and its position, from one read."""
        state = await self.authorize(principal, session_id)
        turn = state.current
        if turn is None or not turn.first:
            return described(state) | {"turn": None, "output": "", "position": 0}
        try:
            output, position = await self.supervisor.history.output_so_far(
                session_id, turn, self.supervisor.limits
            )
        except EntryGone:
            await self.states.check_kept(session_id)
            output, position = TurnOutput(self.supervisor.limits), max(turn.first - 1, 0)
        if not turn.last:  # the read may be ahead of the announcement of its end
            await state.take_in(self.states.log, session_id)
        session = described(state)
        if state.waiting is not None:
            session["waiting"] = await self._open_asks(session_id, state.waiting)
        session |= {"turn": turn.turn, "output": output.text, "position": position}
        return session | {"output_truncated": True} if output.truncated else session

    async def check(self, principal: Principal, session_id: str) -> None:
        """Raises SessionNotFound for a session that the caller does not see."""
        await self.authorize(principal, session_id)

    async def authorize(self, principal: Principal, session_id: str) -> SessionState:
        """The session, if the caller may see it. Raises SessionNotFound, whatever the reason."""
        state = await self.states.load(session_id) if is_id(session_id) else None
        if state is None or not _may_see(principal, session_id, state):
            raise SessionNotFound("no such session")
        return state

    async def list_sessions(
        self,
        principal: Principal,
        *,
        agent_id: str | None,
        status: str | None,
        search: str | None = None,
        limit: int,
        cursor: str | None,
    ) -> ListPage[dict[str, Any]]:
        """Newest first, in the state that the log showed when this was called."""
        wanted = None if search is None else Search.of(search)
        await self._peers.settle(principal.organization_id)
        if principal.session_id is not None:
            state = await self.authorize(principal, principal.session_id)
            record = record_of(state)
            matches = agent_id in {None, record.agent_id} and status in {None, record.status}
            matches = matches and (wanted is None or wanted.finds(record))
            return ListPage([session_item(record)] if matches else [])
        if principal.agent_id is not None and agent_id not in {None, principal.agent_id}:
            return ListPage([])
        # Of the largest sessions a page takes 40 ms of the loop.
        async with SHARED.alone(principal.organization_id):
            page = await self._records.list(
                principal.organization_id,
                subject=principal.subject,
                agent_id=principal.agent_id or agent_id,
                status=status,
                search=wanted,
                limit=limit,
                cursor=cursor,
            )
        return ListPage([session_item(record) for record in page.items], page.next_cursor)

    async def open_sessions(
        self,
        principal: Principal,
        agent_id: str,
        *,
        since: float,
        behind: tuple[int, str] | None,
        limit: int,
    ) -> tuple[Sequence[SessionRecord], int]:
        """Those of an agent that the caller sees with a turn that has not ended, changed last
        first; see `SessionRepository.open`."""
        await self._peers.settle(principal.organization_id)
        if principal.agent_id not in {None, agent_id}:
            return [], 0
        return await self._records.open(
            principal.organization_id,
            agent_id,
            subject=principal.subject,
            session_id=principal.session_id,
            since=since,
            behind=behind,
            limit=limit,
        )

    async def cancel(
        self, principal: Principal, session_id: str, turn: int | None
    ) -> dict[str, Any]:
        """Cancel a turn, or all that are open now. Idle: nothing happens."""
        state = await self.authorize(principal, session_id)
        if turn is not None and state.turn(turn) is None:
            raise NotFound("the session has no such turn")
        cancelled: list[int] = []
        if state.open_turns:
            cancelled = await self.supervisor.detached(self._peers.cancel(session_id, turn))
            state = await self.authorize(principal, session_id)
        return {"session_id": session_id, "cancelled": cancelled, "status": state.status}

    async def input(
        self, principal: Principal, session_id: str, request: InputRequest, *, request_id: str
    ) -> dict[str, Any]:
        """Answer what a turn of the session asks. Goes on when its caller is cancelled.

        Raises NotFound, Conflict and InvalidRequest; see `Session.answer`.
        """
        await self.authorize(principal, session_id)
        answering = self._peers.answer(session_id, request, principal.key_id, request_id)
        result = await self.supervisor.detached(answering)
        return asdict(result)

    async def expire(self, session_id: str) -> int:
        """Record which asks of the session have expired, where it runs. Returns how many."""
        try:
            count = await self._peers.expire(session_id)
            state = await self.states.load(session_id)
        except SessionNotFound:
            count, state = 0, None
        if not count and state is not None:
            self._list.changed(state)  # the record is behind the log
        elif state is None:
            self._list.forget(session_id)
        return count

    async def cancel_by_key(self, principal: Principal, key: str) -> dict[str, Any]:
        """Cancel the turn that an Idempotency-Key started."""
        ref = await self._starter.find_by_key(principal, key)
        if ref is None:
            raise NotFound("no turn was started with this Idempotency-Key")
        return await self.cancel(principal, ref.session_id, ref.turn)

    async def delete(
        self, principal: Principal, session_id: str, *, request_id: str | None = None
    ) -> None:
        """Cancel the open turns, then remove the session and its log. Goes on when its caller is
        cancelled. Raises SessionBusy when turns are started faster than they can be cancelled."""
        deleting = self._delete(principal, session_id, request_id)
        await self.supervisor.detached(deleting)

    async def _delete(self, principal: Principal, session_id: str, request_id: str | None) -> None:
        state = await self.authorize(principal, session_id)
        for _ in range(_DELETE_TRIES):
            for turn in state.open_turns:
                await self._peers.cancel(session_id, turn.turn)
                await wait_over(self.states, session_id, state, turn, _DELETE_WAIT)
            try:
                return await self._remove(session_id, principal.key_id, request_id)
            except _WRITTEN_ELSEWHERE:
                continue
        raise SessionBusy("the session's turns have not ended yet", retry_after=1)

    async def remove(self, session_ids: list[str], before: float) -> int:
        """Remove the sessions, of any owner, that have no open turn and whose last turn ended
        before this time. Returns how many were removed."""
        removed = 0
        for session_id in session_ids:
            state = await self.states.load(session_id)
            if state is not None and (state.open_turns or state.updated_at >= before):
                self._list.changed(state)  # the record is behind the log
                continue
            try:
                await self._remove(session_id)
            except _WRITTEN_ELSEWHERE:
                continue
            removed += 1
        await self._list.settle()
        return removed

    async def _remove(
        self, session_id: str, key_id: str | None = None, request_id: str | None = None
    ) -> None:
        """Delete the session in the log, then its row. If the process dies in between, the next
        start finds the deletion in the log and removes the row."""
        state = await self.states.load(session_id)
        info = None if state is None else state.info
        try:
            await self.supervisor.delete(session_id, key_id, request_id)
        except SessionNotFound:
            log_.info("a record of a session without log", session=session_id)
        self._list.forget(session_id)
        await self._list.flush()
        if info is not None and info.lineage and not await self.states.kept(session_id):
            await self.forks.released(info)

    # -- reading ---------------------------------------------------------------------------

    async def subscribe(
        self, principal: Principal, session_id: str, start: ReadFrom
    ) -> SessionSubscription | None:
        """A subscription from this position; None when nothing follows it and nothing is to come.

        Does not suspend when memory holds everything that the reader lacks."""
        state = await self.authorize(principal, session_id)
        subscription = await open_subscription(self.states, session_id, state, start)
        if subscription is not None and subscription.turn is not None:
            spans.link(subscription.turn.traceparent)
        return subscription

    async def result(
        self, ref: TurnRef, seconds: float, caller: Caller | None = None
    ) -> dict[str, Any]:
        """How the turn ended, or that it still runs after `seconds`. Raises NotFound when the
        session was deleted, PositionExpired when the turn was trimmed."""
        session_id, state = ref.session_id, await self._state(ref)
        turn = state.turns[ref.turn - 1]
        head = {"session_id": session_id, "turn": ref.turn}
        if not await wait_over(
            self.states, session_id, state, turn, seconds, caller, or_waits=True
        ):
            await self._state(ref)  # else it was deleted meanwhile
            return head | {"status": "queued" if turn.status == "queued" else "running"}
        if not turn.last:
            return head | await self._while_waiting(session_id, turn)
        history = self.supervisor.history
        try:
            done = await history.done(session_id, turn)
            error = await history.error(session_id, turn)
        except EntryGone as gone:
            await self.states.check_kept(session_id)
            raise expired(gone.earliest, self.epoch) from gone
        answer = head | {
            "status": done["status"],
            "output": done["output"],
            "steps": done["usage"]["steps"],
            "usage": done["usage"],
            "position": turn.last,
        }
        if "output_truncated" in done:
            answer["output_truncated"] = True
        if error is not None:
            answer["error"] = {k: v for k, v in error.items() if k != "type"}
        return answer

    async def _while_waiting(self, session_id: str, turn: TurnState) -> dict[str, Any]:
        """The answer to an execute whose turn waits."""
        asks = await self._open_asks(session_id, turn)
        history, limits = self.supervisor.history, self.supervisor.limits
        try:
            output, position = await history.output_so_far(session_id, turn, limits)
        except EntryGone as gone:
            await self.states.check_kept(session_id)
            raise expired(gone.earliest, self.epoch) from gone
        answer = {"status": "waiting", "output": output.text, "position": position}
        if output.truncated:
            answer["output_truncated"] = True
        return answer | {"waiting": asks}

    async def _open_asks(self, session_id: str, turn: TurnState) -> list[dict[str, Any]]:
        """What a turn waits for, as its chunks show it."""
        asks: list[dict[str, Any]] = []
        for ask in turn.asks:
            try:
                body = await self.supervisor.history.ask(session_id, ask.position)
            except EntryGone:  # deleted meanwhile
                continue
            asks.append({name: value for name, value in body.items() if name != "type"})
        return asks

    async def poll(
        self,
        principal: Principal,
        session_id: str,
        *,
        after: int,
        limit: int,
        wait: float,
        compacted: bool,
        epoch: str | None,
        timed: bool = False,
        caller: Caller | None = None,
    ) -> Poll:
        """Chunks after a position, waiting up to `wait` seconds for the first."""
        start = ReadFrom(after=after, follow=True, compact=compacted, epoch=epoch)
        subscription = await self.subscribe(principal, session_id, start)
        if subscription is None:  # never with follow
            raise NotFound("nothing to read")
        subscription.caller = caller
        state, log = subscription.state, self.states.log
        self.states.viewed(session_id)
        page = await log.read(session_id, after, limit=limit, max_bytes=PAGE_BYTES)
        if page.info is None:
            await self.states.check_kept(session_id)
        page_entries: Sequence[Entry] = page.entries
        if page.info is not None and page.info.earliest > after + 1 <= page.info.head:
            raise expired(page.info.earliest, log.epoch)
        if not page_entries and state.open_turns and wait > 0:
            async with aclosing(subscription.batches(wait)) as batches:
                page_entries = (await anext(batches, []))[:limit]
            if not page_entries:
                await self.authorize(principal, session_id)  # else it was deleted
        await self.states.keep_up(session_id, page_entries, state)
        position = page_entries[-1].position if page_entries else after
        shown = compact(page_entries) if compacted else page_entries
        encode = timed_chunk_json if timed else chunk_json
        return Poll(
            events=[encode(entry) for entry in shown],
            position=position,
            status=state.status,
            done=not state.open_turns and position >= state.told,
        )

    async def steps(
        self, principal: Principal, session_id: str, *, turn: int | None, after: int, limit: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """The steps with positions over `after`, and the next position if there are more."""
        state = await self.authorize(principal, session_id)
        wanted = None if turn is None else state.turn(turn)
        if turn is not None and wanted is None:
            raise NotFound("the session has no such turn")
        if wanted is not None:
            if not wanted.first:
                return [], None
            after = max(after, wanted.first - 1)
        found: list[dict[str, Any]] = []
        looked = seen = size = 0
        while looked < _STEPS_ENTRIES and seen < LOOKED_BYTES:
            page = await self.states.log.read(session_id, after, limit=2_000)
            if page.info is None:
                await self.states.check_kept(session_id)
            looked += len(page.entries)
            for entry in page.entries:
                after = entry.position
                seen += len(entry.body)
                if wanted is not None and 0 < wanted.last < after:
                    return found, None
                if entry.kind == "step":
                    found.append(_step(entry, state))
                    size += len(entry.body)
                    if len(found) >= limit or size >= PAGE_BYTES:
                        return found, after
            if page.at_end:
                return found, None
        return found, after

    async def _state(self, ref: TurnRef) -> SessionState:
        state = await self.states.load(ref.session_id)
        if state is None:
            raise NotFound("the session was deleted")
        return state


def _step(entry: Entry, state: SessionState) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(entry.body)
    body.pop("type", None)
    return {"turn": _turn_at(state.turns, entry.position), **body, "position": entry.position}


def _turn_at(turns: list[TurnState], position: int) -> int:
    for turn in reversed(turns):
        if turn.first and turn.first <= position:
            return turn.turn
    return 0


def _may_see(principal: Principal, session_id: str, state: SessionState) -> bool:
    info = state.info
    return (
        info is not None
        and info.organization_id == principal.organization_id
        and principal.subject in {None, info.subject}
        and principal.session_id in {None, session_id}
        and principal.agent_id in {None, info.agent_id}
    )


def described(state: SessionState) -> dict[str, Any]:
    """The session as its own endpoint shows it."""
    if state.info is None:
        raise NotFound("the session was deleted")
    return session_item(record_of(state), context=state.context, **forked_from(state))


def forked_from(state: SessionState) -> dict[str, Any]:
    """The place at which a fork begins."""
    lineage = () if state.info is None else state.info.lineage
    return {"forked_from": lineage[-1]._asdict()} if lineage else {}


def session_item(record: SessionRecord, **more: Any) -> dict[str, Any]:
    """The session as a list shows it. `more` stands before `metadata`, as PROTOCOL.md has it."""
    return {
        "session_id": record.id,
        "agent_id": record.agent_id,
        "subject": record.subject,
        "status": record.status,
        "turns": record.turns,
        **({"first_goal": record.first_goal} if record.first_goal else {}),
        **({"waiting": _asks(record)} if record.waiting else {}),
        **more,
        "metadata": dict(record.metadata),
        "created_at": rfc3339(record.created_at),
        "updated_at": rfc3339(record.updated_at),
    }


def _asks(record: SessionRecord) -> list[dict[str, Any]]:
    """What the session waits for, in short."""
    return [
        {
            "call_id": ask["call_id"],
            "kind": ask["kind"],
            **({"tool": ask["tool"]} if ask["tool"] else {}),
            "expires_at": rfc3339(ask["expires_at"]),
        }
        for ask in record.waiting
    ]
