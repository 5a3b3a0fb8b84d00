"""Which subscription of a socket holds which channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Change(Generic[S]):
    """A subscription that lost channels; with none left it is over."""

    subscription: S
    left: frozenset[str]


class Table(Generic[S]):
    """A channel belongs to one subscription at most; a subscription has one channel at least."""

    def __init__(self) -> None:
        self._holders: dict[str, S] = {}

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return len(self.subscriptions())

    def subscriptions(self) -> list[S]:
        """Each once."""
        return list({id(held): held for held in self._holders.values()}.values())

    def get(self, channel: str) -> S | None:
        return self._holders.get(channel)

    def channels_of(self, subscription: S) -> frozenset[str]:
        return frozenset(c for c, held in self._holders.items() if held is subscription)

    def size_with(self, channels: Iterable[str]) -> int:
        """How many there would be after `put` of a new one with these channels."""
        taken = frozenset(channels)
        return 1 + len({id(held) for c, held in self._holders.items() if c not in taken})

    def put(self, channels: Iterable[str], subscription: S) -> list[Change[S]]:
        """Give it these channels; what others lost."""
        wanted = list(channels)
        changes = self.take(wanted)
        for channel in wanted:
            self._holders[channel] = subscription
        return changes

    def take(self, channels: Iterable[str]) -> list[Change[S]]:
        """Free these channels, held or not; who lost what."""
        losers: dict[int, S] = {}
        for channel in channels:
            held = self._holders.pop(channel, None)
            if held is not None:
                losers[id(held)] = held
        return [Change(loser, self.channels_of(loser)) for loser in losers.values()]

    def remove(self, subscription: S) -> frozenset[str]:
        """Forget a subscription; the channels it had."""
        channels = self.channels_of(subscription)
        for channel in channels:
            del self._holders[channel]
        return channels
