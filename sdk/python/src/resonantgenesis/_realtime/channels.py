"""Subscriptions to channels of events on a socket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import StreamError
from .consumers import EventFeed, Feed
from .requests import Asks, Message
from .topics import NewRetries, Topic


class EventTopic(Topic):
    """The one subscription to its channels."""

    def __init__(self, feed: EventFeed, asks: Asks, new_retries: NewRetries) -> None:
        super().__init__(feed.channels, asks, new_retries)
        self.feed = feed

    @property
    def feeds(self) -> list[Feed[Any]]:
        return [self.feed]

    def message(self) -> Message:
        return self.feed.message()

    def subscribed(self, answer: Mapping[str, Any]) -> None:
        cursor = answer.get("cursor")
        if isinstance(cursor, str) and self.feed.queue.cursor is None:
            self.feed.queue.start(cursor)
        self.feed.confirmed()

    def failed(self, error: StreamError) -> None:
        """Over, unless its place is gone and it may go on from the earliest that is kept."""
        earliest = error.details.get("earliest")
        skip = self.feed.on_expired == "earliest" and error.code == "POSITION_EXPIRED"
        if skip and isinstance(earliest, str) and earliest != self.feed.queue.cursor:
            self.feed.gap(earliest)
            self.ask()
        else:
            super().failed(error)


class Channels:
    """All of them; a channel belongs to one subscription, as on the server."""

    def __init__(self, asks: Asks, new_retries: NewRetries) -> None:
        self._asks = asks
        self._new_retries = new_retries
        self._topics: dict[str, EventTopic] = {}

    def subscribe(self, feed: EventFeed) -> None:
        """Raises ValueError where a channel is subscribed to already."""
        taken = [channel for channel in feed.channels if self._topic(channel) is not None]
        if taken:
            raise ValueError(
                f"{', '.join(taken)}: already subscribed on this socket, where a channel has one "
                "subscription; leave that one first, or open another realtime()"
            )
        topic = EventTopic(feed, self._asks, self._new_retries)
        self._topics |= dict.fromkeys(feed.channels, topic)
        topic.ask()

    def leave(self, feed: EventFeed) -> None:
        """Its reader is gone."""
        topic = self._topics.get(feed.channels[0])
        if topic is not None and topic.feed is feed:
            for channel in feed.channels:
                del self._topics[channel]
            topic.unsubscribe()

    def resume(self, feed: EventFeed) -> None:
        """Its reader has made room."""
        feed.parked = False
        topic = self._topic(feed.channels[0])
        if topic is not None and topic.feed is feed:
            topic.ask()

    def event(self, channel: str, raw: dict[str, Any], size: int) -> None:
        """An event has come."""
        topic = self._topic(channel)
        if topic is not None and not topic.asking:
            topic.came()
            topic.feed.offer(raw, size)
            topic.park()

    def cursor(self, channels: Iterable[str], cursor: str) -> None:
        """Quiet channels have got as far as this."""
        for topic in self.of(channels):
            if not topic.asking:
                topic.came()
                topic.feed.reach(cursor)

    def of(self, channels: Iterable[str]) -> list[EventTopic]:
        """The subscriptions of these channels, each once."""
        found = [topic for name in channels if (topic := self._topic(name)) is not None]
        return list(dict.fromkeys(found))

    def link_up(self) -> None:
        """A new socket."""
        for topic in self.of(list(self._topics)):
            topic.ensure()

    def fail(self, error: StreamError) -> None:
        """There will be no more sockets."""
        for topic in self.of(list(self._topics)):
            topic.feed.end(error)

    def _topic(self, channel: str) -> EventTopic | None:
        topic = self._topics.get(channel)
        return None if topic is None or topic.feed.over else topic
