"""Subscriptions on a socket: to channels of events, and to sessions and their turns."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._core.progress import position_of
from .._core.retry import RetryBudget
from ..errors import ConnectionLost, PositionExpired, StreamError
from .consumers import ChunkConsumer, Consumer, EventConsumer
from .requests import Message, PendingRequests, SocketRequest

NewRetryBudget = Callable[[], RetryBudget]


class Subscription(ABC):
    """One subscription on the server, and its consumers.

    Between a request (`asking`) and its answer, items of the older subscription are still on
    their way; they must neither make a gap nor come twice.
    """

    def __init__(
        self, channels: tuple[str, ...], requests: PendingRequests, new_retry_budget: NewRetryBudget
    ) -> None:
        self.channels = channels
        self._requests = requests
        self._new_retry_budget = new_retry_budget
        # Of the subscription itself, which the server may end or leave incomplete.
        self._retries = new_retry_budget()
        self._request: SocketRequest | None = None
        self._stopped = False

    @property
    def asking(self) -> bool:
        """Whether the server has not answered yet."""
        return self._request is not None

    @property
    @abstractmethod
    def consumers(self) -> list[Consumer[Any]]:
        """Its consumers."""

    @abstractmethod
    def message(self) -> Message:
        """The message that subscribes from the consumers' places."""

    @abstractmethod
    def subscribed(self, answer: Mapping[str, Any]) -> None:
        """Note the server's confirmation. Raises StreamError if the log is another one."""

    def subscribe(self, *, due: float | None = None) -> None:
        """(Re-)subscribes, now or when it is due."""
        self.withdraw()
        self._stopped = False
        made = SocketRequest(
            self.message, self._answered, self.failed, self._new_retry_budget(), due=due
        )
        self._request = made
        self._requests.put(made)

    def ensure(self) -> None:
        """Subscribe on a new socket, if any consumer has room."""
        if self._request is None and not self._all_parked():
            self.subscribe()

    def park(self) -> None:
        """Unsubscribe if no consumer has room."""
        if self._request is None and not self._stopped and self._all_parked():
            self.unsubscribe()

    def withdraw(self) -> None:
        """Forget the open request."""
        if self._request is not None:
            self._requests.withdraw(self._request)
            self._request = None

    def unsubscribe(self) -> None:
        """Tell the server to stop sending."""
        self.withdraw()
        self._stopped = True
        self._requests.say({"type": "unsubscribe", "channels": list(self.channels)})

    def came(self) -> None:
        """Note progress: the retries begin anew."""
        self._retries.progress()

    def broken(self, error: StreamError, now: float) -> None:
        """Subscribe again after an end or a gap, while that may help."""
        wait = self._retries.after(error) if error.retryable else None
        if wait is None:
            self.failed(error)
        else:
            self.subscribe(due=now + wait.seconds)

    def failed(self, error: StreamError) -> None:
        """End it for all its consumers."""
        self.withdraw()
        for consumer in self.consumers:
            consumer.end(error)

    def _answered(self, answer: Mapping[str, Any]) -> None:
        self._request = None
        try:
            self.subscribed(answer)
        except StreamError as error:
            self.failed(error)

    def _all_parked(self) -> bool:
        consumers = self.consumers
        return bool(consumers) and all(consumer.parked for consumer in consumers)


class ChannelSubscription(Subscription):
    """The one subscription to a set of channels."""

    def __init__(
        self, consumer: EventConsumer, requests: PendingRequests, new_retry_budget: NewRetryBudget
    ) -> None:
        super().__init__(consumer.channels, requests, new_retry_budget)
        self.consumer = consumer

    @property
    def consumers(self) -> list[Consumer[Any]]:
        return [self.consumer]

    def message(self) -> Message:
        return self.consumer.message()

    def subscribed(self, answer: Mapping[str, Any]) -> None:
        cursor = answer.get("cursor")
        if isinstance(cursor, str) and self.consumer.queue.cursor is None:
            self.consumer.queue.start(cursor)
        self.consumer.confirmed()

    def failed(self, error: StreamError) -> None:
        """End it, unless its place is gone and it may go on from the earliest event."""
        earliest = error.details.get("earliest")
        skip = self.consumer.on_expired == "earliest" and error.code == "POSITION_EXPIRED"
        if skip and isinstance(earliest, str) and earliest != self.consumer.queue.cursor:
            self.consumer.gap(earliest)
            self.subscribe()
        else:
            super().failed(error)


class ChannelSubscriptions:
    """All subscriptions to channels; a channel belongs to one of them, as on the server."""

    def __init__(self, requests: PendingRequests, new_retry_budget: NewRetryBudget) -> None:
        self._requests = requests
        self._new_retry_budget = new_retry_budget
        self._subscriptions: dict[str, ChannelSubscription] = {}

    def subscribe(self, consumer: EventConsumer) -> None:
        """Subscribe. Raises ValueError for a channel that has a subscription already."""
        taken = [
            channel for channel in consumer.channels if self._subscription(channel) is not None
        ]
        if taken:
            raise ValueError(
                f"{', '.join(taken)}: already subscribed on this socket, where a channel has one "
                "subscription; leave that one first, or open another realtime()"
            )
        subscription = ChannelSubscription(consumer, self._requests, self._new_retry_budget)
        self._subscriptions |= dict.fromkeys(consumer.channels, subscription)
        subscription.subscribe()

    def leave(self, consumer: EventConsumer) -> None:
        """Remove a consumer."""
        subscription = self._subscriptions.get(consumer.channels[0])
        if subscription is not None and subscription.consumer is consumer:
            for channel in consumer.channels:
                del self._subscriptions[channel]
            subscription.unsubscribe()

    def resume(self, consumer: EventConsumer) -> None:
        """Go on for a consumer that has made room."""
        consumer.parked = False
        subscription = self._subscription(consumer.channels[0])
        if subscription is not None and subscription.consumer is consumer:
            subscription.subscribe()

    def event(self, channel: str, raw: dict[str, Any], size: int) -> None:
        """Hand an event to its consumer."""
        subscription = self._subscription(channel)
        if subscription is not None and not subscription.asking:
            subscription.came()
            subscription.consumer.offer(raw, size)
            subscription.park()

    def cursor(self, channels: Iterable[str], cursor: str) -> None:
        """Move quiet channels to `cursor`."""
        for subscription in self.of(channels):
            if not subscription.asking:
                subscription.came()
                subscription.consumer.reach(cursor)

    def of(self, channels: Iterable[str]) -> list[ChannelSubscription]:
        """The subscriptions of these channels, each once."""
        found = [
            subscription
            for name in channels
            if (subscription := self._subscription(name)) is not None
        ]
        return list(dict.fromkeys(found))

    def socket_opened(self) -> None:
        """Subscribe again on a new socket."""
        for subscription in self.of(list(self._subscriptions)):
            subscription.ensure()

    def fail(self, error: StreamError) -> None:
        """End all consumers: there will be no more sockets."""
        for subscription in self.of(list(self._subscriptions)):
            subscription.consumer.end(error)

    def _subscription(self, channel: str) -> ChannelSubscription | None:
        subscription = self._subscriptions.get(channel)
        return None if subscription is None or subscription.consumer.over else subscription


log = logging.getLogger("resonantgenesis")


class SessionSubscription(Subscription):
    """One session. `begun`: the places before its newest turns, as far as they were seen."""

    def __init__(
        self, session_id: str, requests: PendingRequests, new_retry_budget: NewRetryBudget
    ) -> None:
        super().__init__((channel_of(session_id),), requests, new_retry_budget)
        self.session_id = session_id
        self.readers: list[ChunkConsumer] = []
        self.last = 0
        self._epoch: str | None = None
        self._begun: dict[int, int] = {1: 0}

    @property
    def consumers(self) -> list[Consumer[Any]]:
        return list(self.readers)

    def message(self) -> Message:
        """Subscribe from the lowest place of all consumers; the others drop duplicates."""
        reading = [consumer for consumer in self.readers if not consumer.parked]
        known = [consumer.place for consumer in reading if consumer.place is not None]
        message: Message = {"type": "subscribe", "channels": list(self.channels)}
        if known:
            message["resume_from"] = min(known)
        if reading and all(consumer.compact for consumer in reading):
            message["compact"] = True
        return message

    def subscribed(self, answer: Mapping[str, Any]) -> None:
        epoch, position = answer.get("epoch"), answer.get("position")
        if isinstance(epoch, str):
            if self._epoch not in (None, epoch):
                raise PositionExpired(
                    "the server's store was replaced: earlier positions mean nothing",
                    details={"epoch": epoch},
                    session_id=self.session_id,
                )
            self._epoch = epoch
        for consumer in self.readers:
            consumer.placed(position if isinstance(position, int) else 0)

    def join(self, consumer: ChunkConsumer, turn: int, *, followed: bool) -> None:
        """A turn of this session was started for `consumer`; `followed`: the server does not begin
        with it, but goes on from where its subscription has got."""
        begin = self._begun.get(turn)
        newest = max([*self._begun, *(one.turn or 0 for one in self.readers)])
        if begin is None and followed and (turn < newest or consumer.own_key):
            # Followed from behind the turn's beginning, which only the log knows: it is looked
            # for from the last one before it that is known.
            consumer.seek_from = max((p for t, p in self._begun.items() if t < turn), default=0)
        consumer.started(self.session_id, turn, begin)
        self.readers.append(consumer)
        passed = begin is not None and begin < self.last
        if consumer.seek_from is not None or (followed and passed):
            self.subscribe()

    def chunk(self, raw: dict[str, Any], size: int, now: float) -> None:
        """Hand a chunk to the session's consumers."""
        position = position_of(raw)
        if position is None:
            for consumer in self.readers:
                consumer.aside(raw, size)
            return
        self.came()
        self._note(raw, position)
        whole = [consumer.offer(raw, position, size) for consumer in self.readers]
        self.readers = [consumer for consumer in self.readers if not consumer.over]
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


class SessionSubscriptions:
    """All subscriptions to sessions, and the turns that are about to start."""

    def __init__(self, requests: PendingRequests, new_retry_budget: NewRetryBudget) -> None:
        self._requests = requests
        self._new_retry_budget = new_retry_budget
        self._subscriptions: dict[str, SessionSubscription] = {}
        self._starting: dict[ChunkConsumer, SocketRequest] = {}

    def watch(self, consumer: ChunkConsumer, session_id: str) -> None:
        """Read a session from the consumer's place."""
        subscription = self._subscription(session_id)
        subscription.readers.append(consumer)
        subscription.subscribe()

    def execute(self, consumer: ChunkConsumer) -> None:
        """Start a turn, once, and read it."""
        self._starting[consumer] = self._requests.put(
            SocketRequest(
                consumer.execute_message,
                lambda answer: self._started(consumer, answer),
                lambda error: self._refused(consumer, error),
                self._new_retry_budget(),
            )
        )

    def leave(self, consumer: ChunkConsumer) -> None:
        """Remove a consumer; a turn goes on."""
        request = self._starting.pop(consumer, None)
        if request is not None:
            self._requests.withdraw(request)
        for subscription in list(self._subscriptions.values()):
            if any(consumer is one for one in subscription.readers):
                subscription.readers = [one for one in subscription.readers if one is not consumer]
                self._tidy(subscription)

    def resume(self, consumer: ChunkConsumer) -> None:
        """Go on for a consumer that has made room."""
        consumer.parked = False
        subscription = self._subscriptions.get(consumer.session_id or "")
        if subscription is not None:
            subscription.subscribe()

    def chunk(self, session_id: str, raw: dict[str, Any], size: int, now: float) -> None:
        """Hand a chunk to the session's consumers."""
        subscription = self._subscriptions.get(session_id)
        if subscription is not None:
            subscription.chunk(raw, size, now)
            subscription.park()
            self._tidy(subscription)

    def of(self, channels: Iterable[str]) -> list[SessionSubscription]:
        """The sessions of these channels."""
        wanted = set(channels)
        return [
            subscription
            for subscription in self._subscriptions.values()
            if subscription.channels[0] in wanted
        ]

    def socket_opened(self) -> None:
        """A new socket: turns of which nothing has come are asked for by their keys again, since
        nobody knows where they begin; the rest from their places."""
        for subscription in list(self._subscriptions.values()):
            again = [consumer for consumer in subscription.readers if consumer.starting]
            subscription.readers = [
                consumer for consumer in subscription.readers if not consumer.starting
            ]
            for consumer in again:
                self.execute(consumer)
            if subscription.readers:
                subscription.ensure()
            else:
                self._forget(subscription)

    def fail(self, error: StreamError) -> None:
        """End all consumers: there will be no more sockets."""
        for consumer in [
            consumer
            for subscription in self._subscriptions.values()
            for consumer in subscription.readers
        ]:
            consumer.end(error)
        for consumer in list(self._starting):
            consumer.end(error)

    def _subscription(self, session_id: str) -> SessionSubscription:
        subscription = self._subscriptions.get(session_id)
        if subscription is None:
            subscription = SessionSubscription(session_id, self._requests, self._new_retry_budget)
            self._subscriptions[session_id] = subscription
        return subscription

    def _started(self, consumer: ChunkConsumer, answer: Mapping[str, Any]) -> None:
        self._starting.pop(consumer, None)
        session_id, turn = answer.get("session_id"), answer.get("turn")
        if isinstance(session_id, str) and isinstance(turn, int):
            followed = session_id in self._subscriptions
            self._subscription(session_id).join(consumer, turn, followed=followed)
        else:
            consumer.end(ConnectionLost("the server did not name the turn that it started"))

    def _refused(self, consumer: ChunkConsumer, error: StreamError) -> None:
        self._starting.pop(consumer, None)
        consumer.end(error)
        subscription = self._subscriptions.get(str((consumer.body or {}).get("session_id")))
        if subscription is not None:
            self._tidy(subscription)

    def _tidy(self, subscription: SessionSubscription) -> None:
        """Without readers the subscription goes; but not while a turn of the session is about to
        start, which the server would tell over it."""
        due = any(
            (consumer.body or {}).get("session_id") == subscription.session_id
            for consumer in self._starting
        )
        if not subscription.readers and not due:
            self._forget(subscription)
            subscription.unsubscribe()

    def _forget(self, subscription: SessionSubscription) -> None:
        subscription.withdraw()
        self._subscriptions.pop(subscription.session_id, None)


def channel_of(session_id: str) -> str:
    """The channel of a session's chunks."""
    return f"session:{session_id}"
