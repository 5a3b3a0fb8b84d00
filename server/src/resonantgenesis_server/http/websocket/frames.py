"""Compressed messages kept for a while, since what one socket gets a thousand others get too."""

from __future__ import annotations

from collections import OrderedDict

from ...codec.websocket import deflated, text_frame

#: Shorter messages gain nothing from compression.
LEAST = 128
_KEPT_BYTES = 1 << 20


class FrameCache:
    """Text frames of messages, for one width of the window; the newest MiB of them."""

    def __init__(self) -> None:
        self._frames: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._size = 0

    def frame(self, message: bytes, window_bits: int | None) -> bytes:
        """The frame of a message; `window_bits` None: not compressed."""
        if window_bits is None or len(message) < LEAST:
            return text_frame(message)
        # The hash of a bytes object is computed once and a hit compares by identity first, so
        # looking up a message that is shared costs less than even a short one's deflate.
        key = (message, window_bits)
        frame = self._frames.get(key)
        if frame is None:
            frame = text_frame(deflated(message, window_bits), compressed=True)
            self._keep(key, frame)
        return frame

    def _keep(self, key: tuple[bytes, int], frame: bytes) -> None:
        self._frames[key] = frame
        self._size += len(key[0]) + len(frame)
        while self._size > _KEPT_BYTES:
            (message, _), old = self._frames.popitem(last=False)
            self._size -= len(message) + len(old)


SHARED = FrameCache()
