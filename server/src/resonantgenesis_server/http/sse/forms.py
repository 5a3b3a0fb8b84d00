"""How streams look on the wire; no I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...codec.sse import HEARTBEAT, OPENING, chunk_frame
from ...feed.compact import compact
from ...log.base import Entry
from ..serving.stream_connection import chunked


@dataclass(frozen=True, slots=True)
class SseForm(ABC):
    """How entries look on the wire. Forms that are equal share a live batch's bytes."""

    @abstractmethod
    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        """One frame per entry that the client is to see."""

    def live(self, entries: Sequence[Entry]) -> bytes:
        """What every connection is written, in chunked encoding."""
        return chunked(b"".join(self.encode(entries)))


@dataclass(frozen=True, slots=True)
class ChunkForm(SseForm):
    """A session's chunks."""

    compacted: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        return map(chunk_frame, compact(entries) if self.compacted else entries)

    def live(self, entries: Sequence[Entry]) -> bytes:
        # Whether a view ends with a `done` is for the view to say.
        for entry in entries:
            if entry.kind == "done":
                return b""
        if len(entries) == 1:  # nearly always
            return chunked(chunk_frame(entries[0]))
        return SseForm.live(self, entries)


class Frames(Protocol):
    """A stream's form, and what it says besides."""

    @property
    def form(self) -> SseForm: ...

    def opening(self) -> bytes:
        """Sent at once."""
        ...

    def heartbeat(self) -> bytes:
        """Sent after silence."""
        ...


class ChunkFrames:
    """A stream of a session's chunks."""

    __slots__ = ("form",)

    def __init__(self, form: SseForm) -> None:
        self.form = form

    def opening(self) -> bytes:
        return OPENING

    def heartbeat(self) -> bytes:
        return HEARTBEAT


#: Streams of chunks know nothing but their form.
CHUNKS = ChunkFrames(ChunkForm(compacted=False))
COMPACT_CHUNKS = ChunkFrames(ChunkForm(compacted=True))
