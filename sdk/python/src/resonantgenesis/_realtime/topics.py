"""What both kinds of subscriptions on a socket share: one question at a time, retries, parking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from .._core.retry import Retries
from ..errors import StreamError
from .consumers import Feed
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
