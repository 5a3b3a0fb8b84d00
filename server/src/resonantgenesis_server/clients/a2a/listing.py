"""ListTasks: the tasks of a context, or all of an agent that the caller sees, changed last first.

The rows of usage name the turns that have ended, and the list of sessions those that have not: both
have an index, so a page reads no more than its own tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...codec.json import dumps
from ...codec.times import parse_time, rfc3339
from ...feed.shares import SHARED
from ...http.api.session_models import validated
from ...model.errors import InvalidRequest, PositionExpired
from ...model.limits import PAGE_BYTES
from ...records.paging import decode_cursor, encode_cursor
from ...records.tables import micros
from ...records.usage import UsageFilter
from ...sessions.request import TurnRef
from ...sessions.state import TurnState
from ...usage import UsageService
from ..json_rpc import Json, RpcError
from ..streams import ClientStreams
from .call import A2aCall
from .requests import ListBody
from .snapshot import changed_at, task_frames, task_so_far, task_turn

#: The statuses of turns, by the states of tasks.
_OPEN: Mapping[str, str] = {
    "SUBMITTED": "queued",
    "WORKING": "running",
    "INPUT_REQUIRED": "waiting",
}
_ENDED: Mapping[str, Sequence[str]] = {
    "COMPLETED": ("success",),
    "CANCELED": ("cancelled",),
    "FAILED": ("failed", "timeout"),
}
_STATES = {status: state for state, status in _OPEN.items()} | {
    status: state for state, statuses in _ENDED.items() for status in statuses
}

#: A task's place: when it last changed, in microseconds since 1970, its session, its turn.
_Key = tuple[int, str, int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked for, as turns have it; `since` in microseconds."""

    state: str
    since: int
    after: _Key | None
    size: int

    @classmethod
    def of(cls, body: ListBody) -> _Wanted:
        """Raises InvalidRequest."""
        since = 0 if not body.changed_since else parse_time(body.changed_since)
        if since is None:
            raise InvalidRequest.field("statusTimestampAfter", "is not an RFC 3339 time")
        after: _Key | None = None
        if body.page_token:
            after = decode_cursor(body.page_token, int, str, int)
        state = body.status.removeprefix("TASK_STATE_")
        return cls("" if state == "UNSPECIFIED" else state, since, after, body.page_size)

    def lets_through(self, key: _Key, turn: TurnState) -> bool:
        return (
            key[0] >= self.since
            and self.state in {"", _STATES.get(turn.status)}
            and (self.after is None or key < self.after)
        )


@dataclass(frozen=True, slots=True)
class _Listed:
    """Tasks in order; how many there are, beyond a page as well; and the place up to which tasks
    are known, None: there are no others."""

    keys: Sequence[_Key]
    total: int
    reached: _Key | None = None


class TaskList:
    def __init__(self, streams: ClientStreams, usage: UsageService) -> None:
        self._streams = streams
        self._service = streams.service
        self._usage = usage

    async def list(self, call: A2aCall) -> None:
        body = validated(ListBody, call.params, lenient=True)
        wanted = _Wanted.of(body)
        if body.context_id:
            found = await self._of_context(call, body.context_id, wanted)
        else:
            found = await self._of_agent(call, wanted)
        tasks, size, reached = [], 0, found.reached
        for number, key in enumerate(found.keys[: wanted.size], 1):
            async with SHARED.alone(call.principal.organization_id):
                task = await self._task(call, TurnRef(key[1], key[2]), body)
            if task is not None:
                tasks.append(task)
                size += len(dumps(task))
            if number < len(found.keys) and (number == wanted.size or size >= PAGE_BYTES):
                reached = key
                break
        more = "" if reached is None else encode_cursor(*reached)
        page = {"tasks": tasks, "nextPageToken": more, "pageSize": wanted.size}
        await call.answer({**page, "totalSize": found.total})

    async def _of_context(self, call: A2aCall, context_id: str, wanted: _Wanted) -> _Listed:
        """All from the place that is asked for on."""
        found = await self._streams.find(call.principal, call.alias(context_id))
        if found is None:
            return _Listed([], 0)
        session_id, state = found
        named = {
            (micros(changed_at(state, turn)), session_id, turn.turn): turn for turn in state.turns
        }
        keys = sorted(
            (k for k, turn in named.items() if wanted.lets_through(k, turn)), reverse=True
        )
        every = replace(wanted, after=None)
        return _Listed(keys, sum(every.lets_through(key, turn) for key, turn in named.items()))

    async def _of_agent(self, call: A2aCall, wanted: _Wanted) -> _Listed:
        """Those of a page and one more."""
        # A turn that ends meanwhile is in what is read later.
        going = await self._open(call, wanted)
        ended = await self._ended(call, wanted)
        keys = sorted({*going.keys, *ended.keys}, reverse=True)
        if going.reached is not None:
            keys = [key for key in keys if key > going.reached]
        return _Listed(keys[: wanted.size + 1], going.total + ended.total, going.reached)

    async def _open(self, call: A2aCall, wanted: _Wanted) -> _Listed:
        if wanted.state and wanted.state not in _OPEN:
            return _Listed([], 0)
        most = wanted.size + 1
        sessions, count = await self._service.open_sessions(
            call.principal,
            call.agent_id,
            since=wanted.since / 1e6,
            behind=None if wanted.after is None else wanted.after[:2],
            limit=most,
        )
        keys: list[_Key] = []
        place: _Key = (0, "", 0)
        for session in sessions:
            place = (micros(session.updated_at), session.id, 0)
            state = await self._service.states.load(session.id)
            for turn in () if state is None else state.open_turns:
                key = (*place[:2], turn.turn)
                if wanted.lets_through(key, turn):
                    keys.append(key)
        return _Listed(keys, count, place if len(sessions) == most else None)

    async def _ended(self, call: A2aCall, wanted: _Wanted) -> _Listed:
        statuses = _ENDED.get(wanted.state, ())
        if wanted.state and not statuses:
            return _Listed([], 0)
        turns = await self._usage.ended(
            call.principal,
            UsageFilter(wanted.since / 1e6, fields={"agent_id": call.agent_id}),
            statuses=statuses,
            after=wanted.after,
            limit=wanted.size + 1,
        )
        return _Listed(turns.keys, turns.count)

    async def _task(self, call: A2aCall, ref: TurnRef, body: ListBody) -> Json | None:
        """None: it was deleted meanwhile. Only with artifacts its chunks are read."""
        name = f"{ref.session_id}.{ref.turn}"
        try:
            _, turn = await task_turn(self._service, call.principal, call.agent_id, name)
            if body.include_artifacts:
                task, _ = await task_so_far(self._service, ref, is_old=call.is_old)
            else:
                session = await self._service.authorize(call.principal, ref.session_id)
                task = await task_frames(self._service, ref, is_old=call.is_old)
                task.state = _STATES.get(turn.status, "FAILED")
                task.changed_at = rfc3339(changed_at(session, turn))
        except (RpcError, PositionExpired):
            return None
        return task.task(body.history_length)
