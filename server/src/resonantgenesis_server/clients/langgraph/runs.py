"""How a run of a thread starts, and how one that asks goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.types import Scope

from ...http.api.session_models import CreateBody, validated
from ...http.auth.authenticator import require
from ...model.errors import Conflict, NotFound
from ...model.principal import Principal
from ...sessions.answers import InputRequest
from ...sessions.request import TurnRef
from ...sessions.state import TurnState
from ..streams import ClientStreams
from . import threads
from .encode import RunInfo
from .messages import MESSAGE_ID, Json, human_message
from .requests import ThreadRunBody
from .threads import THREAD, Thread, ThreadReader


def caller(scope: Scope, needs: str) -> Principal:
    """Raises Forbidden without this scope."""
    principal: Principal = scope["state"]["principal"]
    require(principal, needs)
    return principal


class ThreadRuns:
    """Threads by their names, and their runs. Raises ApiError."""

    def __init__(self, streams: ClientStreams, reader: ThreadReader) -> None:
        self._streams = streams
        self._service = streams.service
        self._reader = reader

    async def find(self, principal: Principal, thread_id: str) -> Thread | None:
        found = await self._streams.find(principal, threads.alias_of(thread_id))
        return None if found is None else Thread(thread_id, *found)

    async def there(self, principal: Principal, thread_id: str) -> Thread:
        thread = await self.find(principal, thread_id)
        if thread is None:
            raise NotFound("no such thread")
        return thread

    async def named(self, scope: Scope, principal: Principal) -> tuple[str, Thread | None]:
        """The thread of the path; None: it has no runs yet. Raises NotFound."""
        thread_id = scope["path_params"]["thread_id"]
        thread = await self.find(principal, thread_id)
        if thread is None and not threads.is_uuid(thread_id):
            raise NotFound("no such thread")
        return thread_id, thread

    async def make(self, scope: Scope, thread_id: str, agent_id: str, metadata: Json) -> Thread:
        """The thread's session, which two requests at once make once."""
        principal: Principal = scope["state"]["principal"]
        fields = {"agent_id": agent_id, "metadata": {**metadata, THREAD: thread_id}}
        spec = validated(CreateBody, fields).spec(self._streams.limits)
        session_id = threads.alias_of(thread_id).session_id(principal)
        request_id = scope["state"]["request_id"]
        await self._service.create(principal, spec, request_id=request_id, session_id=session_id)
        return await self.there(principal, thread_id)

    async def start(
        self, scope: Scope, thread_id: str, body: ThreadRunBody, key: str | None
    ) -> tuple[Thread, TurnRef]:
        """Start a run, in a thread that is made if it is not there."""
        principal: Principal = scope["state"]["principal"]
        thread = await self.find(principal, thread_id)
        if thread is None and not threads.is_uuid(thread_id):
            raise NotFound("no such thread")
        waits = thread is not None and thread.state.waiting is not None
        request = body.request(self._streams.limits, waits=waits)
        if thread is None:
            await self.make(scope, thread_id, body.assistant_id, body.metadata or {})
        ref = await self._streams.start(scope, request, threads.alias_of(thread_id), key)
        return await self.there(principal, thread_id), ref

    async def waiting(
        self, scope: Scope, thread_id: str
    ) -> tuple[Thread, TurnRef, list[Mapping[str, Any]]]:
        """The run that waits, and what it asks. Raises Conflict."""
        principal: Principal = scope["state"]["principal"]
        await self._streams.take_for(scope)
        thread = await self.find(principal, thread_id)
        turn = None if thread is None else thread.state.waiting
        if thread is None or turn is None:
            raise Conflict("the thread asks nothing")
        asks = (await self._service.get(principal, thread.session_id)).get("waiting", [])
        return thread, TurnRef(thread.session_id, turn.turn), asks

    async def answer(self, scope: Scope, ref: TurnRef, answers: Sequence[InputRequest]) -> None:
        principal, request_id = scope["state"]["principal"], scope["state"]["request_id"]
        for answer in answers:
            said = replace(answer, turn=ref.turn)
            await self._service.input(principal, ref.session_id, said, request_id=request_id)

    def info(self, thread: Thread, ref: TurnRef) -> RunInfo:
        run = threads.run_id(ref.session_id, ref.turn)
        agent_id, thread_id = thread.agent_id, thread.thread_id
        return RunInfo(ref.session_id, ref.turn, run, agent_id, thread_id, ref.turn)

    async def goals(self, session_id: str, turns: Sequence[TurnState]) -> dict[int, Json]:
        """The user's messages of turns that follow one another, by turn."""
        requests = await self._service.supervisor.history.requests(session_id, turns)
        return {
            turn: human_message(
                request.metadata.get(MESSAGE_ID) or f"msg_{session_id}.{turn}.goal", request.goal
            )
            for turn, request in requests.items()
        }

    async def whole(
        self, principal: Principal, thread: Thread, ref: TurnRef, info: RunInfo
    ) -> tuple[RunInfo, int | None]:
        """With the thread's messages, and the position behind which to read: a turn that is queued
        comes behind answers that are not whole yet."""
        state = thread.state
        opened = state.first_open
        first = ref.turn if opened is None else min(opened.turn, ref.turn)
        goals = await self.goals(ref.session_id, state.turns[first - 1 : ref.turn])
        before = await self._reader.before(principal, thread, first)
        begun = state.turns[first - 1]
        after = None
        if first < ref.turn:
            after = begun.first - 1 if begun.first else state.told
        return replace(info, first=first, before=tuple(before), goals=goals), after
