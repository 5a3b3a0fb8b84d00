"""The commands of a socket's client. Each answers with a message, or raises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ...codec.events import cursor_of
from ...codec.websocket import control
from ...events.service import EventService, asks_audit
from ...model.errors import PayloadTooLarge, SessionNotFound
from ...model.events import event_stream
from ...model.limits import Limits
from ...model.principal import AUDIT, Principal
from ...sessions.range import ReadFrom, StartPosition, start_of_turn
from ...sessions.request import TurnRef, TurnRequest
from ...sessions.service import SessionService
from ...tracing import spans
from ...webhooks.service import WebhookService
from ..auth.authenticator import require
from ..limits import RequestLimit, SocketLimits
from .messages import (
    Cancel,
    Execute,
    GiveInput,
    Post,
    SubscribeEvents,
    SubscribeSession,
    Unsubscribe,
    session_channel,
    session_in,
)
from .subscriptions import (
    Change,
    ChannelTable,
    Ended,
    SocketChunks,
    SocketEvents,
    SocketSubscription,
)
from .writer import SocketWriter


@dataclass(frozen=True, slots=True)
class Services:
    """The services that sockets use, and their limits."""

    sessions: SessionService
    events: EventService
    limits: Limits
    requests: RequestLimit
    socket: SocketLimits
    webhooks: WebhookService


class Commands:
    """One socket's subscriptions and turns. Raises ApiError, LogError and StoreError."""

    def __init__(self, services: Services, writer: SocketWriter, ended: Ended) -> None:
        self.table: ChannelTable[SocketSubscription] = ChannelTable()
        self._sessions = services.sessions
        self._events = services.events
        self._limits = services.limits
        self._requests = services.requests
        self._webhooks = services.webhooks
        self._max_subscriptions = services.socket.subscriptions
        self._writer = writer
        self._ended = ended

    # -- events ----------------------------------------------------------------------------

    async def subscribe_events(self, principal: Principal, request: SubscribeEvents) -> None:
        require(principal, "events:read")
        message, channels = request.message, request.channels
        asked: dict[str, Any] = {"events": message.events, "filters": message.filters}
        selection = self._events.select(principal, channels=channels, **asked)
        self._check_subscriptions(channels)
        place, _ = await self._events.place(principal, message.since)
        # Nothing is awaited from here on: the other subscriptions must not move meanwhile.
        self._check_subscriptions(channels)
        floors = {} if message.since is not None else self._floors(channels, place)
        after = min(floors.values(), default=place)
        subscription = SocketEvents(
            self._writer,
            self._ended,
            self._events,
            event_stream(principal.organization_id),
            after,
            asked=asked,
            selection=selection,
            form=message.format,
            floors=floors if len(set(floors.values())) > 1 else {},
        )
        self._apply(principal, self.table.put(channels, subscription))
        cursor = cursor_of(self._events.epoch, after)
        self._answer("subscribed", message.id, channels=list(channels), cursor=cursor)
        subscription.start()

    def _floors(self, channels: Iterable[str], now: int) -> dict[str, int]:
        """The position of each channel: that of its subscription, else `now`."""
        existing = {channel: self.table.get(channel) for channel in channels}
        return {name: now if each is None else each.reached for name, each in existing.items()}

    def _apply(self, principal: Principal, changes: list[Change[SocketSubscription]]) -> None:
        """Close subscriptions that lost all channels; narrow those that keep some."""
        for change in changes:
            subscription = change.subscription
            if change.left and isinstance(subscription, SocketEvents):
                left = sorted(change.left)
                subscription.narrow(
                    self._events.select(principal, channels=left, **subscription.asked)
                )
            else:
                subscription.close()

    # -- sessions --------------------------------------------------------------------------

    async def subscribe_session(self, principal: Principal, request: SubscribeSession) -> None:
        require(principal, "sessions:read")
        message, session_id = request.message, request.session_id
        channel = session_channel(session_id)
        self._check_subscriptions([channel])
        start = await self._start_of(principal, session_id, message.resume_from, message.compact)
        self._check_subscriptions([channel])
        if message.resume_from is None:
            start = self._previous_start(channel) or start
        subscription = self._session_subscription(session_id, start, compacted=message.compact)
        self._apply(principal, self.table.put([channel], subscription))
        self._answer(
            "subscribed",
            message.id,
            channels=[channel],
            position=start.after,
            epoch=self._sessions.epoch,
        )
        subscription.start()
        await self._end_if_deleted(subscription)

    async def _start_of(
        self, principal: Principal, session_id: str, after: int | None, compact: bool
    ) -> StartPosition:
        """The start of a subscription without an end. Raises as `SessionService.subscribe` does."""
        start = ReadFrom(after=after, follow=True, compact=compact)
        with spans.subscribe(session_id):
            subscription = await self._sessions.subscribe(principal, session_id, start)
        return StartPosition(0 if subscription is None else subscription.position)

    def _previous_start(self, channel: str) -> StartPosition | None:
        """The position of the subscription that is about to be replaced."""
        subscription = self.table.get(channel)
        if not isinstance(subscription, SocketChunks) or subscription.range.skip:
            return None
        return StartPosition(subscription.reached)

    def _session_subscription(
        self, session_id: str, start: StartPosition, *, until: int | None = None, compacted: bool
    ) -> SocketChunks:
        return SocketChunks(
            self._writer,
            self._ended,
            self._sessions.states,
            session_id,
            start.after,
            until=until,
            skip=start.skip,
            compacted=compacted,
        )

    async def _end_if_deleted(self, subscription: SocketChunks) -> None:
        """End a subscription whose session was deleted before the hub knew the subscription."""
        if await self._sessions.states.load(subscription.session_id) is None:
            subscription.gone()

    # -- all subscriptions -----------------------------------------------------------------

    def unsubscribe(self, principal: Principal, request: Unsubscribe) -> None:
        self._apply(principal, self.table.take(request.channels))
        self._answer("unsubscribed", request.message.id, channels=list(request.channels))

    def send_cursors(self, now: float, quiet: float) -> None:
        """Send its cursor to each event subscription that was quiet for `quiet` seconds."""
        for subscription in self.table.subscriptions():
            if isinstance(subscription, SocketEvents):
                channels = sorted(self.table.channels_of(subscription))
                subscription.send_cursor(now, quiet, channels)

    def needs(self) -> set[str]:
        """The scopes that the open subscriptions need."""
        needed: set[str] = set()
        for subscription in self.table.subscriptions():
            if isinstance(subscription, SocketEvents):
                needed.add("events:read")
                if asks_audit(subscription.asked["events"]):
                    needed.add(AUDIT)
            elif isinstance(subscription, SocketChunks) and subscription.range.follow:
                needed.add("sessions:read")
        return needed

    @property
    def follows_sessions(self) -> bool:
        """Whether any subscription is to a session."""
        return any(isinstance(each, SocketChunks) for each in self.table.subscriptions())

    def close(self) -> None:
        for subscription in self.table.subscriptions():
            self.table.remove(subscription)
            subscription.close()

    # -- turns -----------------------------------------------------------------------------

    async def execute(self, principal: Principal, request: Execute, request_id: str) -> None:
        """Start or join a turn, and subscribe to it unless its session has a subscription."""
        message = request.message
        turn_request = message.request(self._limits)
        if message.traceparent is not None:
            turn_request = replace(turn_request, traceparent=message.traceparent)
        joins = turn_request.joins and turn_request.session_id is not None
        require(principal, "sessions:read" if joins else "sessions:write")
        if not turn_request.joins:
            await self._requests.take(principal)
        if turn_request.session_id is None:
            self._check_subscriptions([])
            await self._run(principal, request, turn_request, request_id)
            return
        channel = session_channel(turn_request.session_id)
        if session_in(channel) is None:
            raise SessionNotFound("no such session")
        self._check_subscriptions([channel])
        # The answer names the turn, so it comes before the turn's first chunk.
        subscription = self.table.get(channel)
        if subscription is not None:
            subscription.hold()
        try:
            await self._run(principal, request, turn_request, request_id)
        finally:
            if subscription is not None:
                subscription.release()

    async def _run(
        self, principal: Principal, request: Execute, turn_request: TurnRequest, request_id: str
    ) -> None:
        message = request.message
        callback = await self._webhooks.callback(principal, message.callback(principal))
        is_new = message.idempotency_key is None and not turn_request.joins
        if callback is not None and is_new:
            await self._webhooks.check_room(principal)
        ref = await self._sessions.execute(
            principal, turn_request, key=message.idempotency_key, request_id=request_id
        )
        if callback is not None:
            await self._webhooks.keep_of(callback, ref, self._sessions.authorize)
        start = await self._start_of_turn(principal, ref, message.compact)
        self._answer("started", message.id, session_id=ref.session_id, turn=ref.turn)
        existing = self.table.get(session_channel(ref.session_id))
        if isinstance(existing, SocketChunks):
            existing.extend(ref.turn)
        elif start is not None:
            await self._follow(ref, start, message.compact)

    async def _start_of_turn(
        self, principal: Principal, ref: TurnRef, compact: bool
    ) -> StartPosition | None:
        """The position before the client's first chunk of the turn; None if it has all chunks."""
        if ref.resume_from is not None:
            start = ReadFrom(after=ref.resume_from, turn=ref.turn, compact=compact)
            subscription = await self._sessions.subscribe(principal, ref.session_id, start)
            return None if subscription is None else StartPosition(ref.resume_from)
        state = await self._sessions.states.load(ref.session_id)
        if state is None:
            raise SessionNotFound("the session was deleted")
        return start_of_turn(state, ref.turn)

    async def _follow(self, ref: TurnRef, start: StartPosition, compact: bool) -> None:
        channel = session_channel(ref.session_id)
        self._check_subscriptions([channel])
        subscription = self._session_subscription(
            ref.session_id, start, until=ref.turn, compacted=compact
        )
        self.table.put([channel], subscription)
        subscription.start()
        await self._end_if_deleted(subscription)

    async def cancel(self, principal: Principal, request: Cancel) -> None:
        require(principal, "sessions:write")
        message = request.message
        done = await self._sessions.cancel(principal, message.session_id, message.turn)
        turns = done["cancelled"]
        self._answer(
            "cancelled",
            message.id,
            session_id=message.session_id,
            turn=next(iter(turns), None),
            turns=turns,
            status=done["status"],
        )

    async def post(self, principal: Principal, request: Post) -> None:
        """Say something to the open turn of a session."""
        require(principal, "sessions:write")
        message = request.message
        await self._requests.take(principal)
        posted = await self._sessions.conversations.post(
            principal, message.session_id, message.content, message_id=message.message_id
        )
        self._answer("accepted", message.id, **posted)

    async def give_input(self, principal: Principal, request: GiveInput, request_id: str) -> None:
        """Answer what a turn asks. The chunks that follow come as those before it."""
        require(principal, "sessions:write")
        message = request.message
        await self._requests.take(principal)
        given = await self._sessions.input(
            principal, message.session_id, message.request(), request_id=request_id
        )
        self._answer("answered", message.id, **given)

    # -- inside ----------------------------------------------------------------------------

    def _check_subscriptions(self, channels: Iterable[str]) -> None:
        """Raise PayloadTooLarge if these channels would be too many subscriptions."""
        names = list(channels)
        if self.table.size_with(names) > self._max_subscriptions:
            raise PayloadTooLarge(
                f"a socket has {self._max_subscriptions} subscriptions at most",
                details={"limit": self._max_subscriptions},
            )

    def _answer(self, kind: str, reply_to: str | int | None, **fields: object) -> None:
        self._writer.put(control(kind, **fields, id=reply_to))
