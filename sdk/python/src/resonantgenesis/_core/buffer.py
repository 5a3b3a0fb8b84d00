"""The received part of a stream that its reader has not taken yet."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from ..errors import InvalidRequest
from .sse import Frame, FrameTooLarge, SSEDecoder


class StreamBuffer(ABC):
    """Received items that wait for the reader in `ready`, oldest first.

    `fresh` counts the items since `connected`; `complete`: nothing more is due. `feed` raises a
    StreamError for a useless connection, a retryable one if another connection may do better.
    """

    def __init__(self, max_event: int) -> None:
        self._max_event = max_event
        self._decoder = self._new_decoder()
        self.ready: deque[dict[str, Any]] = deque()
        self.fresh = 0
        self.complete = False

    @property
    def retry(self) -> float:
        """The reconnection time that the stream named, in seconds."""
        return self._decoder.retry or 0.0

    @property
    def carries(self) -> bool:
        """Whether this connection brought more than a comment at its beginning.

        A server that is about to stop still opens streams.
        """
        return self.fresh > 0 or self._decoder.blocks > 1 or bool(self._decoder.last_event_id)

    def connected(self) -> None:
        """Begin a new connection: drop the unfinished bytes of the old one."""
        self._decoder = self._new_decoder()
        self.fresh = 0

    def feed(self, data: bytes) -> None:
        """Take the items that `data` completes."""
        try:
            frames = self._decoder.feed(data)
        except FrameTooLarge as error:
            raise InvalidRequest(str(error), code="PAYLOAD_TOO_LARGE") from error
        for frame in frames:
            if self.complete:
                return
            self._frame(frame)

    @abstractmethod
    def _frame(self, frame: Frame) -> None:
        """Take one frame."""

    def _new_decoder(self) -> SSEDecoder:
        return SSEDecoder(max_line=self._max_event, max_event=self._max_event)


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object of `text`; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
