"""`client.sessions` and the session object, synchronous."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from .._core import calls as _calls
from .._core.execute import (
    ExecuteOptions,
    Execution,
    StreamOptions,
    TurnCollector,
    checked,
    execute_call,
    execution,
    follow_plan,
    join_plan,
)
from .._core.messages import new_key
from .._core.session_stream import SessionStreamMachine
from .._core.stream_plan import StreamPlan
from .._process.resume_memory import ResumeMemory, context_of
from ..models import Page, SessionData, Step, TurnResult
from .stream import SyncStream
from .transport import SyncTransport

Context = str | Mapping[str, Any] | None


class SyncSession(SessionData):
    """A session: its fields as the server showed them last, and what can be done with it."""

    def __init__(self, sessions: SyncSessions, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self._sessions = sessions

    def execute_stream(
        self, goal: str, *, context: Context = None, **options: Unpack[StreamOptions]
    ) -> SyncStream:
        """A further turn, streamed; see SyncSessions.execute_stream."""
        made = execution(self.agent_id, goal, context, self.session_id, options)
        return self._sessions._stream(made, self.session_id)

    def execute(
        self,
        goal: str,
        *,
        context: Context = None,
        raise_on_error: bool = True,
        **options: Unpack[ExecuteOptions],
    ) -> TurnResult:
        """A further turn, run to its end; see SyncSessions.execute."""
        made = execution(self.agent_id, goal, context, None, options)
        return self._sessions._execute(made, self.session_id, raise_on_error)

    def join(
        self,
        *,
        resume_from: int | None = None,
        turn: int | None = None,
        follow: bool = False,
        compact: bool = False,
        raise_on_error: bool = True,
    ) -> SyncStream:
        """Watches it; see SyncSessions.join."""
        return self._sessions.join(
            self.session_id,
            resume_from=resume_from,
            turn=turn,
            follow=follow,
            compact=compact,
            raise_on_error=raise_on_error,
        )

    def refresh(self) -> SyncSession:
        """Reads it again from the server."""
        self.raw = self._sessions.get(self.session_id).raw
        return self

    def cancel(self, *, turn: int | None = None) -> None:
        """Cancels what runs or waits, or only `turn`."""
        self._sessions.cancel(self.session_id, turn=turn)

    def steps(self) -> list[Step]:
        """The steps of its turns."""
        return self._sessions.steps(self.session_id)

    def delete(self) -> None:
        """Deletes it and its log."""
        self._sessions.delete(self.session_id)


class SyncSessions:
    """Sessions: start, watch, cancel, look up. All methods raise StreamError."""

    def __init__(self, transport: SyncTransport, memory: ResumeMemory) -> None:
        self._transport = transport
        self._memory = memory

    def execute_stream(
        self,
        agent_id: str,
        goal: str,
        *,
        context: Context = None,
        session_id: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> SyncStream:
        """Starts a turn when iterated, and streams its chunks.

        `resume_from=N` takes up the stream that broke off at N in this thread with the same
        agent, goal and context; 0, with none there, starts anew.
        """
        return self._stream(execution(agent_id, goal, context, session_id, options), session_id)

    def execute(
        self,
        agent_id: str,
        goal: str,
        *,
        context: Context = None,
        session_id: str | None = None,
        raise_on_error: bool = True,
        **options: Unpack[ExecuteOptions],
    ) -> TurnResult:
        """Runs a turn to its end, however long that takes, and returns its result."""
        made = execution(agent_id, goal, context, None, options)
        return self._execute(made, session_id, raise_on_error)

    def join(
        self,
        session_id: str,
        *,
        resume_from: int | None = None,
        turn: int | None = None,
        follow: bool = False,
        compact: bool = False,
        raise_on_error: bool = True,
    ) -> SyncStream:
        """Watches a session from after `resume_from`, else from the start of its newest turn.

        Ends with the last turn that runs or waits; with `turn`, with that turn; with `follow`,
        never.
        """
        plan = join_plan(
            session_id,
            resume_from=resume_from,
            turn=turn,
            follow=follow,
            compact=compact,
            raise_on_error=raise_on_error,
        )
        return self._planned(plan)

    def create(
        self,
        agent_id: str,
        *,
        context: Context = None,
        subject: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> SyncSession:
        """A new session, made at once."""
        fields = _calls.without_none(
            agent_id=agent_id, context=context_of(context), subject=subject, metadata=metadata
        )
        raw = self._transport.call(_calls.create_session(fields, new_key()))
        return SyncSession(self, {**fields, **raw})

    def steps(self, session_id: str) -> list[Step]:
        """The steps of a session's turns."""
        steps: list[Step] = []
        cursor: str | None = None
        while True:  # a page holds as many as fit
            page = self._transport.call(_calls.session_steps(session_id, cursor))
            steps += page.data
            if not page.has_more or page.next_cursor in (None, cursor):
                return steps
            cursor = page.next_cursor

    def get(self, session_id: str) -> SyncSession:
        """A session with `output` of its newest turn so far, and `position`."""
        return SyncSession(self, self._transport.call(_calls.get_session(session_id)))

    def list(
        self,
        *,
        agent_id: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[SyncSession]:
        """One page of sessions."""
        params = _calls.query(agent_id=agent_id, status=status, limit=limit, cursor=cursor)
        return self._transport.call(
            _calls.list_sessions(lambda raw: SyncSession(self, raw), params)
        )

    def cancel(
        self,
        session_id: str | None = None,
        *,
        turn: int | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Cancels what runs or waits, or only `turn`; by key where the answer never came."""
        self._transport.call(_calls.cancel_session(session_id, turn, idempotency_key))

    def delete(self, session_id: str) -> None:
        """Deletes a session and its log."""
        self._transport.call(_calls.delete_session(session_id))

    def _stream(self, made: Execution, session_id: str | None) -> SyncStream:
        def machine(known: str | None) -> SessionStreamMachine:
            return SessionStreamMachine(made.plan(self._memory, known), self._transport.settings)

        return SyncStream(
            self._transport, machine, session_id=session_id, position=made.resume_from or 0
        )

    def _planned(self, plan: StreamPlan) -> SyncStream:
        return SyncStream(
            self._transport,
            lambda _: SessionStreamMachine(plan, self._transport.settings),
            session_id=plan.resume_point.session_id,
            position=plan.resume_point.position,
        )

    def _execute(self, made: Execution, session_id: str | None, raise_on_error: bool) -> TurnResult:
        result = self._transport.call(execute_call(made, session_id))
        if result.status in ("running", "queued"):
            collector = TurnCollector()
            with self._planned(follow_plan(result)) as stream:
                for chunk in stream:
                    collector.add(chunk)
            result = collector.result()
        return checked(result, raise_on_error)
