"""A turn's chunks as the frames of another protocol, without I/O.

The frames of a turn are one sequence: they depend on the turn's chunks alone, not on when or how
often they are read. So a client that counts its frames can go on from any of them.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import orjson

from ..codec.json import dumps
from ..codec.sse import HEARTBEAT
from ..http.serving.stream_connection import chunked
from ..http.sse.stream import ENDING, SseEncoder
from ..log.base import Entry

Chunk = Mapping[str, Any]


class TurnFrames(ABC):
    """Folds the chunks of one turn, in order, into frames.

    Two objects with equal keys that have taken in the same chunks give equal frames from then on.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def key(self) -> tuple[object, ...]:
        """The form of the frames, the session, the turn, and every option that changes a frame."""

    @abstractmethod
    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        """The frames of the next chunk. `kind` is the kind of its entry: message, done …"""

    def aside(self, chunk: Chunk) -> list[bytes]:
        """The frames of transient data, which is not in the log. They must change nothing here.

        None where clients go on from the number of frames that they have: nobody who reads later
        could count these. And none before the turn's own first frame.
        """
        return []

    def copy(self) -> Self:
        """A fold that goes on from here by itself."""
        return copy.copy(self)


class FramesEncoder(SseEncoder):
    """Writes a turn to a client of another protocol, from frame `skip` on."""

    __slots__ = ("_fold", "_hash", "_skip")

    cuts: ClassVar[bool] = True

    def __init__(self, fold: TurnFrames, skip: int = 0) -> None:
        self._fold = fold
        self._skip = skip
        self._hash = hash(fold.key)

    def __eq__(self, other: object) -> bool:
        # Encoders that skip are read ahead of their client's place, and share nothing yet.
        return self is other or (
            isinstance(other, FramesEncoder)
            and not self._skip
            and not other._skip
            and self._fold.key == other._fold.key
        )

    def __hash__(self) -> int:
        return self._hash

    def copy(self) -> Self:
        return type(self)(self._fold.copy(), self._skip)

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        found: list[bytes] = []
        for entry in entries:
            chunk = orjson.loads(entry.body)
            found += (
                self._fold.frames(entry.kind, chunk) if entry.position else self._fold.aside(chunk)
            )
        if not self._skip:
            return found
        passed = min(self._skip, len(found))
        self._skip -= passed
        return found[passed:]

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        # A subscription may end with one of these, which its range has to say.
        if any(entry.kind in ENDING for entry in entries):
            return None
        found = b"".join(self.encode(entries))
        return chunked(found) if found else b""  # an empty part would end the body

    def heartbeat(self, position: int) -> bytes:
        return HEARTBEAT


def data_frame(value: object) -> bytes:
    """A frame with one line of JSON.

    U+0085, U+2028 and U+2029 are escaped: common line readers split there.
    """
    return b"data: %b\n\n" % dumps(value)
