"""What a client asks for on its socket, done. Each answers with a message or raises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...codec.events import cursor_of
from ...codec.websocket import control
from ...events.service import EventService
from ...model.errors import PayloadTooLarge, SessionNotFound
from ...model.events import event_stream, notes_on
from ...model.limits import Limits
from ...model.principal import Principal
from ...sessions.range import ReadFrom, StartPosition, start_of_turn
from ...sessions.request import TurnRef, TurnRequest
from ...sessions.service import SessionService
from ..auth.authenticator import require
from ..limits import RequestLimit, SocketLimits
from .messages import (
    Cancel,
    Execute,
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
    """What sockets are served from."""

    sessions: SessionService
    events: EventService
    limits: Limits
    requests: RequestLimit
    socket: SocketLimits


class Commands:
    """One socket's subscriptions and turns. Raises ApiError, LogError and StoreError."""

    def __init__(self, services: Services, writer: SocketWriter, ended: Ended) -> None:
        self.table: ChannelTable[SocketSubscription] = ChannelTable()
        self._sessions = services.sessions
        self._events = services.events
        self._limits = services.limits
        self._requests = services.requests
        self._most = services.socket.subscriptions
        self._writer = writer
        self._ended = ended

    # -- events ----------------------------------------------------------------------------

    async def subscribe_events(self, principal: Principal, request: SubscribeEvents) -> None:
        require(principal, "events:read")
        message, channels = request.message, request.channels
        asked: dict[str, Any] = {"events": message.events, "filters": message.filters}
        selection = self._events.select(principal, channels=channels, **asked)
        self._check_room(channels)
        place, _ = await self._events.place(principal, message.since)
        # Nothing is awaited from here on: what the others have told must not change meanwhile.
        self._check_room(channels)
        floors = {} if message.since is not None else self._floors(channels, place)
        after = min(floors.values(), default=place)
        feed = SocketEvents(
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
        self._lose(principal, self.table.put(channels, feed))
        cursor = cursor_of(self._events.epoch, after)
        notes = {"notes": notes} if (notes := notes_on(channels)) else {}
        self._answer("subscribed", message.id, channels=list(channels), cursor=cursor, **notes)
        feed.start()

    def _floors(self, channels: Iterable[str], now: int) -> dict[str, int]:
        """Where each channel goes on: where its subscription has got, else now."""
        held = {channel: self.table.get(channel) for channel in channels}
        return {c: now if feed is None else feed.reached for c, feed in held.items()}

    def _lose(self, principal: Principal, changes: list[Change[SocketSubscription]]) -> None:
        """Others lost channels: they are over, or go on with what is left to them."""
        for change in changes:
            feed = change.subscription
            if change.left and isinstance(feed, SocketEvents):
                left = sorted(change.left)
                feed.narrow(self._events.select(principal, channels=left, **feed.asked))
            else:
                feed.close()

    # -- sessions --------------------------------------------------------------------------

    async def subscribe_session(self, principal: Principal, request: SubscribeSession) -> None:
        require(principal, "sessions:read")
        message, session_id = request.message, request.session_id
        channel = session_channel(session_id)
        self._check_room([channel])
        start = await self._place_of(principal, session_id, message.resume_from, message.compact)
        self._check_room([channel])
        if message.resume_from is None:
            start = self._where_it_was(channel) or start
        feed = self._chunk_feed(session_id, start, compacted=message.compact)
        self._lose(principal, self.table.put([channel], feed))
        self._answer(
            "subscribed",
            message.id,
            channels=[channel],
            position=start.after,
            epoch=self._sessions.epoch,
        )
        feed.start()
        await self._check_there(feed)

    async def _place_of(
        self, principal: Principal, session_id: str, after: int | None, compact: bool
    ) -> StartPosition:
        """Where a subscription that stays begins. Raises what `subscribe` does."""
        start = ReadFrom(after=after, follow=True, compact=compact)
        subscription = await self._sessions.subscribe(principal, session_id, start)
        return StartPosition(0 if subscription is None else subscription.position)

    def _where_it_was(self, channel: str) -> StartPosition | None:
        """Where the subscription that is about to be replaced has got."""
        feed = self.table.get(channel)
        if not isinstance(feed, SocketChunks) or feed.range.skip:
            return None
        return StartPosition(feed.reached)

    def _chunk_feed(
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

    async def _check_there(self, feed: SocketChunks) -> None:
        """A session deleted before the feed was registered: nobody else would tell it."""
        if await self._sessions.states.load(feed.session_id) is None:
            feed.gone()

    # -- both ------------------------------------------------------------------------------

    def unsubscribe(self, principal: Principal, request: Unsubscribe) -> None:
        self._lose(principal, self.table.take(request.channels))
        self._answer("unsubscribed", request.message.id, channels=list(request.channels))

    def tell_cursors(self, now: float, quiet: float) -> None:
        """To subscriptions of events that have been quiet that long."""
        for feed in self.table.subscriptions():
            if isinstance(feed, SocketEvents):
                channels = sorted(self.table.channels_of(feed))
                feed.tell_cursor(now, quiet, channels)

    def needs(self) -> set[str]:
        """The scopes without which the standing subscriptions may not go on."""
        feeds = self.table.subscriptions()
        needed = {"events:read"} if any(isinstance(f, SocketEvents) for f in feeds) else set()
        if any(isinstance(f, SocketChunks) and f.range.follow for f in feeds):
            needed.add("sessions:read")
        return needed

    @property
    def follows_sessions(self) -> bool:
        """Whether any subscription is to a session."""
        return any(isinstance(feed, SocketChunks) for feed in self.table.subscriptions())

    def close(self) -> None:
        for feed in self.table.subscriptions():
            self.table.remove(feed)
            feed.close()

    # -- turns -----------------------------------------------------------------------------

    async def execute(self, principal: Principal, request: Execute, request_id: str) -> None:
        """Start or join a turn, and follow it unless its session is followed already."""
        message = request.message
        turn_request = message.request(self._limits)
        joins = turn_request.joins and turn_request.session_id is not None
        require(principal, "sessions:read" if joins else "sessions:write")
        if not turn_request.joins:
            await self._requests.take(principal)
        if turn_request.session_id is None:
            self._check_room([])
            await self._run(principal, request, turn_request, request_id)
            return
        channel = session_channel(turn_request.session_id)
        if session_in(channel) is None:
            raise SessionNotFound("no such session")
        self._check_room([channel])
        # Its first chunks must not come before the answer that tells of the turn.
        feed = self.table.get(channel)
        if feed is not None:
            feed.hold()
        try:
            await self._run(principal, request, turn_request, request_id)
        finally:
            if feed is not None:
                feed.release()

    async def _run(
        self, principal: Principal, request: Execute, turn_request: TurnRequest, request_id: str
    ) -> None:
        message = request.message
        ref = await self._sessions.execute(
            principal, turn_request, key=message.idempotency_key, request_id=request_id
        )
        start = await self._place_of_turn(principal, ref, message.compact)
        self._answer("started", message.id, session_id=ref.session_id, turn=ref.turn)
        standing = self.table.get(session_channel(ref.session_id))
        if isinstance(standing, SocketChunks):
            standing.extend(ref.turn)
        elif start is not None:
            await self._follow(ref, start, message.compact)

    async def _place_of_turn(
        self, principal: Principal, ref: TurnRef, compact: bool
    ) -> StartPosition | None:
        """Where the turn's chunks begin for this client; None if it has them all."""
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
        self._check_room([channel])
        feed = self._chunk_feed(ref.session_id, start, until=ref.turn, compacted=compact)
        self.table.put([channel], feed)
        feed.start()
        await self._check_there(feed)

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

    # -- inside ----------------------------------------------------------------------------

    def _check_room(self, channels: Iterable[str]) -> None:
        names = list(channels)
        if self.table.size_with(names) > self._most:
            raise PayloadTooLarge(
                f"a socket has {self._most} subscriptions at most", details={"limit": self._most}
            )

    def _answer(self, kind: str, given: str | int | None, **fields: object) -> None:
        self._writer.put(control(kind, **fields, id=given))
