"""`client.sessions` and the session object, asynchronous."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Unpack

from .._core import calls
from .._core.execute import (
    ExecuteOptions,
    Execution,
    QueuedChanges,
    StreamOptions,
    TurnCollector,
    checked,
    context_of,
    execute_call,
    execution,
    follow_plan,
    join_plan,
)
from .._core.messages import new_key, query, without_none
from .._core.retry import OnReconnect
from .._core.session_stream import SessionStreamMachine
from .._core.stream_plan import StreamPlan
from .._http.async_io import Lock
from .._process.resume_memory import ResumeMemory
from ..models import (
    InputResult,
    MessagePage,
    Page,
    PostedMessage,
    QueuedTurn,
    SessionData,
    Step,
    TurnResult,
)
from .stream import AsyncStream
from .transport import AsyncTransport

Context = str | Mapping[str, Any] | None


class AsyncSession(SessionData):
    # async only
    """A session: its fields as the server showed them last, and what can be done with it.

    One that `create` returned without `await` comes into being at first use; `session_id` is ""
    until then. `await session` makes it at once and returns it.
    """

    # sync: """A session: its fields as the server showed them last, and what it can do."""

    def __init__(
        self, sessions: AsyncSessions, raw: Mapping[str, Any], create_key: str | None = None
    ) -> None:
        super().__init__(raw)
        self._sessions = sessions
        # Repeated with the same key, a creation whose answer was lost makes no second session.
        self._create_key = create_key
        self._lock = Lock()

    # async only
    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._created().__await__()

    def execute_stream(
        self,
        goal: str,
        *,
        context: Context = None,
        on_reconnect: OnReconnect | None = None,
        **options: Unpack[StreamOptions],
    ) -> AsyncStream:
        """A further turn, streamed; see AsyncSessions.execute_stream."""
        scope = self.session_id or self._create_key
        made = execution(self.agent_id, goal, context, scope, options)
        prepare = None if self.session_id else self._ensure
        return self._sessions._stream(made, self.session_id or None, on_reconnect, prepare)

    async def execute(
        self,
        goal: str,
        *,
        context: Context = None,
        raise_on_error: bool = True,
        **options: Unpack[ExecuteOptions],
    ) -> TurnResult:
        """Run a further turn to its end; see AsyncSessions.execute."""
        made = execution(self.agent_id, goal, context, None, options)
        return await self._sessions._execute(made, await self._ensure(), raise_on_error)

    def join(
        self,
        *,
        resume_from: int | None = None,
        turn: int | None = None,
        follow: bool = False,
        compact: bool = False,
        raise_on_error: bool = True,
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncStream:
        """Watch it; see AsyncSessions.join. Raises ValueError before it has been created."""
        return self._sessions.join(
            self.session_id,
            resume_from=resume_from,
            turn=turn,
            follow=follow,
            compact=compact,
            raise_on_error=raise_on_error,
            on_reconnect=on_reconnect,
        )

    async def refresh(self) -> AsyncSession:
        """Read it again from the server."""
        self.raw = (await self._sessions.get(await self._ensure())).raw
        return self

    async def messages(self, *, limit: int | None = None, cursor: str | None = None) -> MessagePage:
        """Its conversation; see AsyncSessions.messages."""
        return await self._sessions.messages(await self._ensure(), limit=limit, cursor=cursor)

    async def send(self, content: str, *, message_id: str | None = None) -> PostedMessage:
        """Say something to its open turn; see AsyncSessions.send."""
        return await self._sessions.send(await self._ensure(), content, message_id=message_id)

    async def fork(
        self, *, turn: int | None = None, metadata: Mapping[str, Any] | None = None
    ) -> AsyncSession:
        """A session that begins with its turns; see AsyncSessions.fork."""
        return await self._sessions.fork(await self._ensure(), turn=turn, metadata=metadata)

    async def cancel(self, *, turn: int | None = None) -> list[int]:
        """Cancel what runs or waits, or only `turn`; see AsyncSessions.cancel."""
        return await self._sessions.cancel(await self._ensure(), turn=turn)

    async def input(
        self,
        call_id: str,
        *,
        approved: bool | None = None,
        payload: Any = calls.NOT_GIVEN,
        reason: str | None = None,
        turn: int | None = None,
    ) -> InputResult:
        """Answer what its turn asks; see AsyncSessions.input."""
        return await self._sessions.input(
            await self._ensure(),
            call_id,
            approved=approved,
            payload=payload,
            reason=reason,
            turn=turn,
        )

    async def steps(self) -> list[Step]:
        """The steps of its turns."""
        return await self._sessions.steps(await self._ensure())

    async def delete(self) -> None:
        """Delete it and its log."""
        await self._sessions.delete(await self._ensure())

    async def _created(self) -> AsyncSession:
        await self._ensure()
        return self

    async def _ensure(self) -> str:
        if self._create_key and not self.session_id:
            async with self._lock:
                if not self.session_id:
                    call = calls.create_session(self.raw, self._create_key)
                    self.raw = {**self.raw, **await self._sessions._transport.call(call)}
        return self.session_id


class AsyncSessions:
    """Sessions: start, watch, cancel, look up. All methods raise StreamError.

    `on_reconnect` is called with a Reconnection before each new attempt after a failure, and once
    when data comes again. An exception that it raises ends the stream.
    """

    def __init__(self, transport: AsyncTransport, memory: ResumeMemory) -> None:
        self._transport = transport
        self._memory = memory

    def execute_stream(
        self,
        agent_id: str,
        goal: str,
        *,
        context: Context = None,
        session_id: str | None = None,
        on_reconnect: OnReconnect | None = None,
        **options: Unpack[StreamOptions],
    ) -> AsyncStream:
        """Start a turn when iterated, and stream its chunks; nothing to await.

        `resume_from=N` takes up the stream that broke off at N in this task or thread with the
        same agent, goal and context; 0, with none there, starts anew.
        """
        made = execution(agent_id, goal, context, session_id, options)
        return self._stream(made, session_id, on_reconnect)

    async def execute(
        self,
        agent_id: str,
        goal: str,
        *,
        context: Context = None,
        session_id: str | None = None,
        raise_on_error: bool = True,
        **options: Unpack[ExecuteOptions],
    ) -> TurnResult:
        """Run a turn to its end, however long that takes, and return its result.

        A turn that asks is returned with the status `waiting`, and what it asks.
        """
        made = execution(agent_id, goal, context, None, options)
        return await self._execute(made, session_id, raise_on_error)

    def join(
        self,
        session_id: str,
        *,
        resume_from: int | None = None,
        turn: int | None = None,
        follow: bool = False,
        compact: bool = False,
        raise_on_error: bool = True,
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncStream:
        """Watch a session from after `resume_from`, else from the start of its newest turn.

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
        return self._planned(plan, on_reconnect)

    def create(
        self,
        agent_id: str,
        *,
        context: Context = None,
        subject: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncSession:
        # async only
        """A new session; with `await` made now, without at first use."""
        # sync: """A new session, made at once."""
        fields = without_none(
            agent_id=agent_id, context=context_of(context), subject=subject, metadata=metadata
        )
        # sync: return SyncSession(self, fields, new_key())._created()
        # async only
        return AsyncSession(self, fields, new_key())

    async def steps(self, session_id: str) -> list[Step]:
        """The steps of a session's turns."""
        steps: list[Step] = []
        cursor: str | None = None
        while True:  # a page holds as many as fit
            page = await self._transport.call(calls.session_steps(session_id, cursor))
            steps += page.data
            if not page.has_more or page.next_cursor in (None, cursor):
                return steps
            cursor = page.next_cursor

    async def get(self, session_id: str) -> AsyncSession:
        """A session with `output` of its newest turn so far, and `position`."""
        return AsyncSession(self, await self._transport.call(calls.get_session(session_id)))

    async def messages(
        self, session_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> MessagePage:
        """The newest messages of a session, or those before a cursor.

        `join(session_id, resume_from=page.position)` goes on where the first page ends.
        """
        return await self._transport.call(calls.session_messages(session_id, limit, cursor))

    async def send(
        self, session_id: str, content: str, *, message_id: str | None = None
    ) -> PostedMessage:
        """Say something to the turn that runs, waits for an answer, or comes next.

        The same `message_id` is the same message. Raises Conflict when no turn is open.
        """
        return await self._transport.call(calls.post_message(session_id, content, message_id))

    async def fork(
        self,
        session_id: str,
        *,
        turn: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncSession:
        """A session that begins with the turns of this one up to `turn`, else up to the last that
        has ended."""
        call = calls.fork_session(session_id, turn, metadata, new_key())
        return AsyncSession(self, await self._transport.call(call))

    async def queue(self, session_id: str) -> Page[QueuedTurn]:
        """The turns that wait for others, in their order."""
        return await self._transport.call(calls.session_queue(session_id))

    async def edit_queued(
        self, session_id: str, turn: int, **changes: Unpack[QueuedChanges]
    ) -> None:
        """Change a turn that waits. Raises Conflict once it has started."""
        await self._transport.call(calls.edit_queued(session_id, turn, dict(changes)))

    async def remove_queued(self, session_id: str, turn: int) -> None:
        """Take a turn that waits out of the queue. Raises Conflict once it has started."""
        await self._transport.call(calls.remove_queued(session_id, turn))

    async def cancel(
        self,
        session_id: str | None = None,
        *,
        turn: int | None = None,
        idempotency_key: str | None = None,
    ) -> list[int]:
        """Cancel what runs or waits, or only `turn`; by the execute's key where no answer came.

        Returns the numbers of the turns that are cancelled, none if nothing ran or waited.
        """
        call = calls.cancel_session(session_id, turn, idempotency_key)
        return await self._transport.call(call)

    async def input(
        self,
        session_id: str,
        call_id: str,
        *,
        approved: bool | None = None,
        payload: Any = calls.NOT_GIVEN,
        reason: str | None = None,
        turn: int | None = None,
    ) -> InputResult:
        """Answer what a turn asks: `approved` for an approval, else `payload`, or `approved=False`
        to decline.

        The turn goes on once all that it asks has an answer; `join` with `resume_from` watches it.
        The first answer stands; another one raises Conflict. A payload that does not fit the schema
        raises InvalidRequest.
        """
        answer = calls.answer_fields(approved, payload, reason, turn)
        return await self._transport.call(calls.give_input(session_id, call_id, answer))

    async def delete(self, session_id: str) -> None:
        """Delete a session and its log."""
        await self._transport.call(calls.delete_session(session_id))

    async def list(
        self,
        *,
        agent_id: str | None = None,
        status: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[AsyncSession]:
        """One page of sessions, newest first.

        `search` finds words of the agent, the subject, the first goal and the metadata, and
        beginnings of ids. Its pages may be short, and empty, while `has_more`.
        """
        params = query(agent_id=agent_id, status=status, search=search, limit=limit, cursor=cursor)
        call = calls.list_sessions(lambda raw: AsyncSession(self, raw), params)
        return await self._transport.call(call)

    def _stream(
        self,
        made: Execution,
        session_id: str | None,
        on_reconnect: OnReconnect | None,
        prepare: Callable[[], Awaitable[str]] | None = None,
    ) -> AsyncStream:
        def machine(known: str | None) -> SessionStreamMachine:
            return SessionStreamMachine(self._memory.plan(made, known), self._transport.settings)

        return AsyncStream(
            self._transport,
            machine,
            session_id=session_id,
            position=made.resume_from or 0,
            prepare=prepare,
            on_reconnect=on_reconnect,
        )

    def _planned(self, plan: StreamPlan, on_reconnect: OnReconnect | None = None) -> AsyncStream:
        return AsyncStream(
            self._transport,
            lambda _: SessionStreamMachine(plan, self._transport.settings),
            session_id=plan.resume_point.session_id,
            position=plan.resume_point.position,
            on_reconnect=on_reconnect,
        )

    async def _execute(
        self, made: Execution, session_id: str | None, raise_on_error: bool
    ) -> TurnResult:
        result = await self._transport.call(execute_call(made, session_id))
        if result.status in ("running", "queued"):
            collector = TurnCollector()
            async with self._planned(follow_plan(result)) as stream:
                async for chunk in stream:
                    collector.add(chunk)
            result = collector.result()
        return checked(result, raise_on_error)
