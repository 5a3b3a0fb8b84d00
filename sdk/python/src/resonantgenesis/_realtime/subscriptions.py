"""What both kinds of subscriptions on a socket share: one question at a time, retries, parking."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._core.progress import position_of
from .._core.retry import Retries
from ..errors import ConnectionLost, PositionExpired, StreamError
from .consumers import ChunkFeed, EventFeed, Feed
from .requests import Ask, Asks, Message

NewRetries = Callable[[], Retries]


class Topic(ABC):
    """One subscription of the server's, and who reads it.

    Between a question (`asking`) and its answer, what an older subscription still sends is on
    its way: it must neither make a gap nor come twice.
    """

    def __init__(self, channels: tuple[str, ...], asks: Asks, new_retries: NewRetries) -> None:
        self.channels = channels
        self._asks = asks
        self._new_retries = new_retries
        # Of the subscription itself, which the server may end or leave incomplete.
        self._retries = new_retries()
        self._ask: Ask | None = None
        self._stopped = False

    @property
    def asking(self) -> bool:
        """Whether the server has not answered yet."""
        return self._ask is not None

    @property
    @abstractmethod
    def feeds(self) -> list[Feed[Any]]:
        """Who reads it."""

    @abstractmethod
    def message(self) -> Message:
        """Subscribes, from where the readers are."""

    @abstractmethod
    def subscribed(self, answer: Mapping[str, Any]) -> None:
        """The server follows it. Raises StreamError if it is not what it was."""

    def ask(self, *, due: float | None = None) -> None:
        """(Re-)subscribes, now or when it is due."""
        self.withdraw()
        self._stopped = False
        made = Ask(self.message, self._answered, self.failed, self._new_retries(), due=due)
        self._ask = made
        self._asks.ask(made)

    def ensure(self) -> None:
        """On a new socket: subscribed, if anybody has room."""
        if self._ask is None and not self._all_parked():
            self.ask()

    def park(self) -> None:
        """With nobody left who has room, the server need not send."""
        if self._ask is None and not self._stopped and self._all_parked():
            self.unsubscribe()

    def withdraw(self) -> None:
        """The answer does not matter any more."""
        if self._ask is not None:
            self._asks.withdraw(self._ask)
            self._ask = None

    def unsubscribe(self) -> None:
        """The server need not send any more."""
        self.withdraw()
        self._stopped = True
        self._asks.say({"type": "unsubscribe", "channels": list(self.channels)})

    def came(self) -> None:
        """Something came through."""
        self._retries.progress()

    def broken(self, error: StreamError, now: float) -> None:
        """The subscription has ended, or is incomplete: asked for again while that may help."""
        wait = self._retries.after(error) if error.retryable else None
        if wait is None:
            self.failed(error)
        else:
            self.ask(due=now + wait.seconds)

    def failed(self, error: StreamError) -> None:
        """It is over, for all its readers."""
        self.withdraw()
        for feed in self.feeds:
            feed.end(error)

    def _answered(self, answer: Mapping[str, Any]) -> None:
        self._ask = None
        try:
            self.subscribed(answer)
        except StreamError as error:
            self.failed(error)

    def _all_parked(self) -> bool:
        feeds = self.feeds
        return bool(feeds) and all(feed.parked for feed in feeds)


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


log = logging.getLogger("resonantgenesis")


class SessionTopic(Topic):
    """One session. `begun`: the places before its newest turns, as far as they were seen."""

    def __init__(self, session_id: str, asks: Asks, new_retries: NewRetries) -> None:
        super().__init__((channel_of(session_id),), asks, new_retries)
        self.session_id = session_id
        self.readers: list[ChunkFeed] = []
        self.last = 0
        self._epoch: str | None = None
        self._begun: dict[int, int] = {1: 0}

    @property
    def feeds(self) -> list[Feed[Any]]:
        return list(self.readers)

    def message(self) -> Message:
        """From the place of whoever has least; the others drop what they know."""
        reading = [feed for feed in self.readers if not feed.parked]
        known = [feed.place for feed in reading if feed.place is not None]
        message: Message = {"type": "subscribe", "channels": list(self.channels)}
        if known:
            message["resume_from"] = min(known)
        if reading and all(feed.compact for feed in reading):
            message["compact"] = True
        return message

    def subscribed(self, answer: Mapping[str, Any]) -> None:
        epoch, position = answer.get("epoch"), answer.get("position")
        if isinstance(epoch, str):
            if self._epoch not in (None, epoch):
                raise PositionExpired(
                    "the server's store was replaced, positions from before mean nothing",
                    details={"epoch": epoch},
                    session_id=self.session_id,
                )
            self._epoch = epoch
        for feed in self.readers:
            feed.placed(position if isinstance(position, int) else 0)

    def join(self, feed: ChunkFeed, turn: int, *, followed: bool) -> None:
        """A turn of this session was started for `feed`; `followed`: the server does not begin
        with it, but goes on from where its subscription has got."""
        begin = self._begun.get(turn)
        newest = max([*self._begun, *(one.turn or 0 for one in self.readers)])
        if begin is None and followed and (turn < newest or feed.own_key):
            # Followed from behind the turn's beginning, which only the log knows: it is looked
            # for from the last one before it that is known.
            feed.seek_from = max((p for t, p in self._begun.items() if t < turn), default=0)
        feed.started(self.session_id, turn, begin)
        self.readers.append(feed)
        passed = begin is not None and begin < self.last
        if feed.seek_from is not None or (followed and passed):
            self.ask()

    def chunk(self, raw: dict[str, Any], size: int, now: float) -> None:
        """A chunk has come."""
        position = position_of(raw)
        if position is None:
            return
        self.came()
        self._note(raw, position)
        whole = [feed.offer(raw, position, size) for feed in self.readers]
        self.readers = [feed for feed in self.readers if not feed.over]
        if not all(whole) and not self.asking:
            log.info("%s: chunks before %d are missing; read again", self.session_id, position)
            self.broken(ConnectionLost("chunks are missing", session_id=self.session_id), now)

    def _note(self, raw: Mapping[str, Any], position: int) -> None:
        self.last = max(self.last, position)
        turn = raw.get("turn")
        if not isinstance(turn, int):
            return
        if raw.get("type") == "done":
            self._begun[turn + 1] = position
        elif raw.get("type") == "step":
            self._begun.setdefault(turn, position - 1)
        if len(self._begun) > 4:
            del self._begun[min(self._begun)]


class Sessions:
    """All of them, and the turns that are about to start."""

    def __init__(self, asks: Asks, new_retries: NewRetries) -> None:
        self._asks = asks
        self._new_retries = new_retries
        self._topics: dict[str, SessionTopic] = {}
        self._starting: dict[ChunkFeed, Ask] = {}

    def watch(self, feed: ChunkFeed, session_id: str) -> None:
        """Reads a session, from the feed's place."""
        topic = self._topic(session_id)
        topic.readers.append(feed)
        topic.ask()

    def execute(self, feed: ChunkFeed) -> None:
        """Starts a turn, once, and reads it."""
        self._starting[feed] = self._asks.ask(
            Ask(
                feed.execute_message,
                lambda answer: self._started(feed, answer),
                lambda error: self._refused(feed, error),
                self._new_retries(),
            )
        )

    def leave(self, feed: ChunkFeed) -> None:
        """Its reader is gone; a turn goes on."""
        ask = self._starting.pop(feed, None)
        if ask is not None:
            self._asks.withdraw(ask)
        for topic in list(self._topics.values()):
            if any(feed is one for one in topic.readers):
                topic.readers = [one for one in topic.readers if one is not feed]
                self._tidy(topic)

    def resume(self, feed: ChunkFeed) -> None:
        """Its reader has made room."""
        feed.parked = False
        topic = self._topics.get(feed.session_id or "")
        if topic is not None:
            topic.ask()

    def chunk(self, session_id: str, raw: dict[str, Any], size: int, now: float) -> None:
        """A chunk has come."""
        topic = self._topics.get(session_id)
        if topic is not None:
            topic.chunk(raw, size, now)
            topic.park()
            self._tidy(topic)

    def of(self, channels: Iterable[str]) -> list[SessionTopic]:
        """The sessions of these channels."""
        wanted = set(channels)
        return [topic for topic in self._topics.values() if topic.channels[0] in wanted]

    def link_up(self) -> None:
        """A new socket: turns of which nothing has come are asked for by their keys again, since
        nobody knows where they begin; the rest from their places."""
        for topic in list(self._topics.values()):
            again = [feed for feed in topic.readers if feed.starting]
            topic.readers = [feed for feed in topic.readers if not feed.starting]
            for feed in again:
                self.execute(feed)
            if topic.readers:
                topic.ensure()
            else:
                self._forget(topic)

    def fail(self, error: StreamError) -> None:
        """There will be no more sockets."""
        for feed in [feed for topic in self._topics.values() for feed in topic.readers]:
            feed.end(error)
        for feed in list(self._starting):
            feed.end(error)

    def _topic(self, session_id: str) -> SessionTopic:
        topic = self._topics.get(session_id)
        if topic is None:
            topic = SessionTopic(session_id, self._asks, self._new_retries)
            self._topics[session_id] = topic
        return topic

    def _started(self, feed: ChunkFeed, answer: Mapping[str, Any]) -> None:
        self._starting.pop(feed, None)
        session_id, turn = answer.get("session_id"), answer.get("turn")
        if isinstance(session_id, str) and isinstance(turn, int):
            followed = session_id in self._topics
            self._topic(session_id).join(feed, turn, followed=followed)
        else:
            feed.end(ConnectionLost("the server does not name the turn that it started"))

    def _refused(self, feed: ChunkFeed, error: StreamError) -> None:
        self._starting.pop(feed, None)
        feed.end(error)
        topic = self._topics.get(str((feed.body or {}).get("session_id")))
        if topic is not None:
            self._tidy(topic)

    def _tidy(self, topic: SessionTopic) -> None:
        """Without readers the subscription goes; but not while a turn of the session is about to
        start, which the server would tell over it."""
        due = any(
            (feed.body or {}).get("session_id") == topic.session_id for feed in self._starting
        )
        if not topic.readers and not due:
            self._forget(topic)
            topic.unsubscribe()

    def _forget(self, topic: SessionTopic) -> None:
        topic.withdraw()
        self._topics.pop(topic.session_id, None)


def channel_of(session_id: str) -> str:
    """The channel of a session's chunks."""
    return f"session:{session_id}"
