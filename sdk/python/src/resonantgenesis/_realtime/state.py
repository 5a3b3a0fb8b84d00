"""The client's half of a socket without I/O: who reads what, from where, and what to say for it.

It outlives sockets: on a new one it says what subscriptions, turns and questions need, each from
its own place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .._core.buffer import json_object
from .._core.messages import error_from_chunk, seconds
from ..errors import StreamError
from .consumers import ChunkFeed, EventFeed, Feed
from .requests import Ask, Asks, Message
from .subscriptions import Channels, NewRetries, Sessions

log = logging.getLogger("resonantgenesis")


class Outcome:
    """The answer to a question of a caller; `wake` is called when it is there."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.answer: Mapping[str, Any] | None = None
        self.error: StreamError | None = None

    @property
    def there(self) -> bool:
        """Whether it has come."""
        return self.answer is not None or self.error is not None

    def answered(self, answer: Mapping[str, Any]) -> None:
        """It has come."""
        self.answer = answer
        self.wake()

    def failed(self, error: StreamError) -> None:
        """It will not come."""
        self.error = error
        self.wake()


class RealtimeState:
    """Subscriptions, turns and questions of one `Realtime`.

    `new_retries` makes the budget for one question that the server puts off. Texts to be sent
    wait in `asks.outbox`. `error`: it is over for all. `draining`: the server goes away and asks
    to come back after so many seconds. `last_word`: the error it told before it closed.
    """

    def __init__(self, new_retries: NewRetries) -> None:
        self.asks = Asks()
        self.error: StreamError | None = None
        self.draining: float | None = None
        self.last_word: StreamError | None = None
        self._new_retries = new_retries
        self._channels = Channels(self.asks, new_retries)
        self._sessions = Sessions(self.asks, new_retries)

    # -- what consumers want --------------------------------------------------------------------

    def start(self, feed: Feed[Any]) -> None:
        """Subscribes, watches a session or starts a turn: what the feed is for. Raises ValueError
        for a channel that is subscribed to already."""
        if self.error is not None:
            feed.end(self.error)
        elif isinstance(feed, EventFeed):
            self._channels.subscribe(feed)
        elif isinstance(feed, ChunkFeed) and feed.body is not None:
            self._sessions.execute(feed)
        elif isinstance(feed, ChunkFeed) and feed.session_id is not None:
            self._sessions.watch(feed, feed.session_id)

    def leave(self, feed: Feed[Any]) -> None:
        """Its consumer is gone; the turn, if it is one, goes on."""
        if isinstance(feed, EventFeed):
            self._channels.leave(feed)
        elif isinstance(feed, ChunkFeed):
            self._sessions.leave(feed)
        feed.end()

    def taken(self, feed: Feed[Any]) -> None:
        """Its consumer has taken something."""
        if not feed.parked or feed.over or not feed.drained or self.error is not None:
            return
        if isinstance(feed, EventFeed):
            self._channels.resume(feed)
        elif isinstance(feed, ChunkFeed):
            self._sessions.resume(feed)

    def request(self, message: Message, *, lasting: bool = True) -> Outcome:
        """Asks something else; one that does not last fails with the socket it was asked on."""
        outcome = Outcome()
        if self.error is not None:
            outcome.failed(self.error)
            return outcome
        retries = self._new_retries()
        self.asks.ask(Ask(lambda: message, outcome.answered, outcome.failed, retries, lasting))
        return outcome

    # -- what the socket does -------------------------------------------------------------------

    def link_up(self) -> None:
        """A socket is there."""
        self.draining = self.last_word = None
        self._sessions.link_up()
        self._channels.link_up()
        self.asks.link_up()

    def link_down(self) -> None:
        """It is gone."""
        self.asks.link_down()

    def fail(self, error: StreamError) -> None:
        """There will be no socket any more."""
        self.error = error
        self.asks.fail(error)
        self._sessions.fail(error)
        self._channels.fail(error)

    def receive(self, text: str | bytes, now: float) -> bool:
        """A message has come; True if it brought something."""
        message = json_object(text)
        if message is None:
            return False
        channel, session_id, event = (message.get(n) for n in ("channel", "session_id", "event"))
        if isinstance(channel, str) and isinstance(event, dict):
            self._channels.event(channel, event, len(text))
            return True
        if isinstance(session_id, str) and "position" in message:
            self._sessions.chunk(session_id, message, len(text), now)
            return True
        if not self.asks.answer(message, now):
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
        """An error that nobody asked for: about channels, or about the socket itself."""
        error = error_from_chunk(message, session_id=None, position=None)
        channels = _texts(error.details.get("channels"))
        topics = [*self._channels.of(channels), *self._sessions.of(channels)]
        for topic in topics:
            topic.broken(error, now)
        if not topics:
            self.last_word = error
            log.info("the server says: %s", error)


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
