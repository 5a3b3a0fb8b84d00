"""The client's side of a socket without I/O: consumers, their places, and messages to send.

It outlives sockets: on a new one it says what subscriptions, turns and questions need, each from
its own place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .._core.buffer import json_object
from .._core.messages import error_from_chunk, seconds
from ..errors import StreamError
from .consumers import ChunkConsumer, Consumer, EventConsumer
from .requests import Message, PendingReply, PendingRequests, SocketRequest
from .subscriptions import ChannelSubscriptions, NewRetryBudget, SessionSubscriptions

log = logging.getLogger("resonantgenesis")


class RealtimeState:
    """Subscriptions, turns and questions of one `Realtime`.

    `new_retry_budget` makes the budget of one request that the server puts off. Texts to send wait
    in `requests.outbox`. `error`: it is over for all. `draining`: the server goes away and asks
    clients to come back after so many seconds. `last_word`: the error it sent before it closed.
    """

    def __init__(self, new_retry_budget: NewRetryBudget) -> None:
        self.requests = PendingRequests()
        self.error: StreamError | None = None
        self.draining: float | None = None
        self.last_word: StreamError | None = None
        self._new_retry_budget = new_retry_budget
        self._channels = ChannelSubscriptions(self.requests, new_retry_budget)
        self._sessions = SessionSubscriptions(self.requests, new_retry_budget)

    # -- from consumers -------------------------------------------------------------------------

    def start(self, consumer: Consumer[Any]) -> None:
        """Subscribe, watch a session or start a turn, by the kind of consumer.

        Raises ValueError for a channel that is subscribed to already.
        """
        if self.error is not None:
            consumer.end(self.error)
        elif isinstance(consumer, EventConsumer):
            self._channels.subscribe(consumer)
        elif isinstance(consumer, ChunkConsumer) and consumer.body is not None:
            self._sessions.execute(consumer)
        elif isinstance(consumer, ChunkConsumer) and consumer.session_id is not None:
            self._sessions.watch(consumer, consumer.session_id)

    def leave(self, consumer: Consumer[Any]) -> None:
        """Remove a consumer; a turn goes on."""
        if isinstance(consumer, EventConsumer):
            self._channels.leave(consumer)
        elif isinstance(consumer, ChunkConsumer):
            self._sessions.leave(consumer)
        consumer.end()

    def taken(self, consumer: Consumer[Any]) -> None:
        """Note that a consumer has taken an item, and go on if it was parked."""
        if not consumer.parked or consumer.over or not consumer.drained or self.error is not None:
            return
        if isinstance(consumer, EventConsumer):
            self._channels.resume(consumer)
        elif isinstance(consumer, ChunkConsumer):
            self._sessions.resume(consumer)

    def request(self, message: Message, *, lasting: bool = True) -> PendingReply:
        """Send another request; one that does not last fails with its socket."""
        reply = PendingReply()
        if self.error is not None:
            reply.failed(self.error)
            return reply
        retries = self._new_retry_budget()
        self.requests.put(
            SocketRequest(lambda: message, reply.answered, reply.failed, retries, lasting)
        )
        return reply

    # -- from the socket ------------------------------------------------------------------------

    def socket_opened(self) -> None:
        """Note that a socket is open."""
        self.draining = self.last_word = None
        self._sessions.socket_opened()
        self._channels.socket_opened()
        self.requests.socket_opened()

    def socket_lost(self) -> None:
        """Note that the socket is gone."""
        self.requests.socket_lost()

    def fail(self, error: StreamError) -> None:
        """End everything: there will be no socket any more."""
        self.error = error
        self.requests.fail(error)
        self._sessions.fail(error)
        self._channels.fail(error)

    def receive(self, text: str | bytes, now: float) -> bool:
        """Take a message; True if it brought a chunk or an event."""
        message = json_object(text)
        if message is None:
            return False
        channel, session_id, event = (message.get(n) for n in ("channel", "session_id", "event"))
        if isinstance(channel, str) and isinstance(event, dict):
            self._channels.event(channel, event, len(text))
            return True
        if isinstance(session_id, str) and ("position" in message or "transient" in message):
            self._sessions.chunk(session_id, message, len(text), now)
            return True
        if not self.requests.answer(message, now):
            self._control(message, now)
        return False

    def _control(self, message: Mapping[str, Any], now: float) -> None:
        names = _texts(message.get("channels"))
        cursor = message.get("cursor")
        match message.get("type"):
            case "cursor" if isinstance(cursor, str):
                self._channels.cursor(names, cursor)
            case "draining":
                self.draining = seconds(message.get("retry_after")) or 1.0
            case "error":
                self._told(message, now)

    def _told(self, message: Mapping[str, Any], now: float) -> None:
        """Take an error that answers no request: it is about channels, or about the socket."""
        error = error_from_chunk(message, session_id=None, position=None)
        channels = _texts(error.details.get("channels"))
        subscriptions = [*self._channels.of(channels), *self._sessions.of(channels)]
        for subscription in subscriptions:
            subscription.broken(error, now)
        if not subscriptions:
            self.last_word = error
            log.info("the server says: %s", error)


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
