"""Decoder of `text/event-stream`, after the HTML standard (section 9.2.6), fed with bytes.

Kept from the standard: one leading BOM is dropped; CR, LF and CRLF end a line, also when a
network block ends between CR and LF; bytes that are not UTF-8 become U+FFFD; an id with a NUL is
ignored; a block without data dispatches nothing but still sets the last event id; an unfinished
block at the end is dropped. Added to it: bounds, since a peer that never ends a line must not
take the memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: A `done` may carry 1 MiB of output, and JSON escapes make six bytes of one.
DEFAULT_MAX_BYTES = 8 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Frame:
    """One dispatched event; `event` is "message" where the block named none.

    `id` is the last event id, also of an earlier block; `own_id` says that this block named it.
    """

    event: str
    data: str
    id: str = ""
    own_id: bool = False


class FrameTooLarge(ValueError):
    """A line or an event went over its bound; the decoder is of no further use."""


class SSEDecoder:
    """Bytes in, events out; `max_line` and `max_event` are bounds in bytes.

    `last_event_id` is the id to reconnect from; `retry` is the reconnection time in seconds, None
    until the peer has sent one; `blocks` counts the blocks, also those without data.
    """

    def __init__(
        self, *, max_line: int = DEFAULT_MAX_BYTES, max_event: int = DEFAULT_MAX_BYTES
    ) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self.blocks = 0
        self._max_line = max_line
        self._max_event = max_event
        self._buffer = bytearray()
        self._scanned = 0
        self._at_start = True
        self._skip_lf = False
        self._id = ""
        self._own_id = False
        self._event = ""
        self._data: list[str] = []
        self._data_size = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The events that `data` completes. Raises FrameTooLarge."""
        self._buffer += data
        if self._at_start and not self._past_start():
            return []
        frames: list[Frame] = []
        start = 0
        while (line_end := self._next_line_end(start)) is not None:
            stop, following = line_end
            self._check_line(stop - start)
            frame = self._line(bytes(self._buffer[start:stop]))
            if frame is not None:
                frames.append(frame)
            start = following
        del self._buffer[:start]
        self._scanned = len(self._buffer)
        self._check_line(len(self._buffer))
        return frames

    def _past_start(self) -> bool:
        # A BOM may arrive a byte at a time: wait while what is there could still become one.
        if len(self._buffer) < len(_BOM) and _BOM.startswith(self._buffer):
            return False
        if self._buffer.startswith(_BOM):
            del self._buffer[: len(_BOM)]
        self._at_start = False
        return True

    def _next_line_end(self, start: int) -> tuple[int, int] | None:
        if self._skip_lf and start < len(self._buffer):
            # The CR before it has already ended the line, so that no event waits for this byte.
            self._skip_lf = False
            if self._buffer[start] == 0x0A:
                del self._buffer[start]
        match = _LINE_END.search(self._buffer, max(start, self._scanned))
        if match is None:
            return None
        self._skip_lf = match.end() == len(self._buffer) and match.group() == b"\r"
        return match.start(), match.end()

    def _check_line(self, size: int) -> None:
        if size > self._max_line:
            raise FrameTooLarge(f"a line of the event stream is longer than {self._max_line} bytes")

    def _line(self, line: bytes) -> Frame | None:
        if not line:
            return self._dispatch()
        if line[0] == 0x3A:
            return None
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        self._field(name, value)
        return None

    def _field(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._data_size += len(value) + 1
            if self._data_size > self._max_event:
                raise FrameTooLarge(f"an event is larger than {self._max_event} bytes")
            self._data.append(value.decode("utf-8", "replace"))
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id, self._own_id = value.decode("utf-8", "replace"), True
        elif name == b"retry" and value.isdigit() and len(value) <= 10:
            self.retry = int(value) / 1000

    def _dispatch(self) -> Frame | None:
        self.last_event_id = self._id
        self.blocks += 1
        event, data, own_id = self._event, self._data, self._own_id
        self._event, self._data, self._data_size, self._own_id = "", [], 0, False
        if not data:
            return None
        return Frame(event or "message", "\n".join(data), self._id, own_id)
