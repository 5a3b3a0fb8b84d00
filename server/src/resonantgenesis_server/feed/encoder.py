"""Makes the bytes of entries: each transport and each protocol of other clients has its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Self

from ..log.base import Entry


class Encoder(ABC):
    """Makes the bytes of entries. Equal encoders, with equal hashes, share the bytes.

    Most have no state. One that has is equal to another only if both make the same bytes of a turn:
    then their states are equal wherever both have everything.
    """

    __slots__ = ()

    def copy(self) -> Self:
        """An encoder that goes on from here by itself."""
        return self

    @abstractmethod
    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        """A frame or message for each entry that the client is to see."""

    @abstractmethod
    def live(self, entries: Sequence[Entry]) -> bytes | None:
        """The bytes for all parked readers. None if each must take these entries by itself."""
