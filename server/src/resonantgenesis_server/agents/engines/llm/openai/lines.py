"""The JSON values that servers of chat completions send, in any framing and cut anywhere.

The framing is events of SSE, lines of JSON, or one JSON text. The first characters decide and not
the Content-Type.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

from ..calls import ModelFailure
from . import MAX_EVENT
from .errors import MAX_WORDS, stream_failure

#: Bytes of an event that is tried before its line ends.
_MAX_TRIED = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_DONE = frozenset({b"[done]", b"done", b'"[done]"', b'"done"'})
_ERROR_EVENTS = ("error", "exception", "failed", "failure")


class LineReader:
    """Splits bytes, cut anywhere, into lines. A line ends with CR, LF or both."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        #: Of the line that has not ended.
        self.size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now. Raises ModelFailure for one that is too long."""
        if self._after_cr or b"\r" in data:
            data = self._plain(data)
        *lines, rest = data.split(b"\n")
        if lines and self._parts:
            lines[0] = b"".join([*self._parts, lines[0]])
            self._parts, self.size = [], 0
        if rest:
            self._parts.append(rest)
            self.size += len(rest)
            if self.size > MAX_EVENT:
                raise ModelFailure("unreadable", f"a line of over {MAX_EVENT} bytes")
        return lines

    def rest(self) -> bytes:
        """The last line, which lacks its end."""
        rest, self._parts, self.size = b"".join(self._parts), [], 0
        return rest

    def peek(self) -> bytes:
        """The unfinished line if JSON may end there; else b""."""
        if not self._parts or not self._parts[-1].endswith((b"}", b"]")):
            return b""
        return b"".join(self._parts)

    def _plain(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]  # its line has ended with the CR already
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class EventReader:
    """Turns bytes into the JSON objects of an answer, for `take`. Raises ModelFailure.

    `is_over`: the server has said that nothing follows. `is_odd`: some text was no proper JSON and
    may have surrogates. `words`: the unreadable part, for the log.
    """

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        self.is_over = False
        self.is_odd = False
        self.words = ""
        self._lines = LineReader()
        #: The lines so far of an event that needs several, or of one JSON text.
        self._held: list[bytes] = []
        self._held_size = 0
        self._is_document = False
        self._is_error = False
        #: Open braces of an answer that is JSON without events; None for other answers.
        self._braces: int | None = None
        self._has_begun = False

    def feed(self, data: bytes) -> None:
        if not self._has_begun:
            self._begin(data)
        for line in self._lines.feed(data):
            if self.is_over:
                return
            self._line(line)
        if self._braces is not None:
            self._braces += data.count(b"{") - data.count(b"}")
            if not self._braces:
                self._try_whole()
        elif self._lines.size:
            self._try_event()

    def close(self) -> None:
        """Take the event that the end of the bytes completes."""
        if self.is_over:
            return
        rest = self._lines.rest()
        if rest:
            self._line(rest)
        self._whole()

    def _begin(self, data: bytes) -> None:
        first = data.lstrip()[:1]
        self._has_begun = bool(first)
        if first in {b"{", b"["}:
            self._braces = 0

    def _try_whole(self) -> None:
        """Take JSON that seems whole: its end may be all that an open connection waits for."""
        try:
            value = orjson.loads(b"\n".join([*self._held, self._lines.peek()]))
        except orjson.JSONDecodeError:
            return
        self._lines.rest()
        self._forget()
        self._value(value)

    def _try_event(self) -> None:
        """Take an event that lacks the end of its line: no more bytes may come."""
        line = self._lines.peek() if self._lines.size < _MAX_TRIED and not self._held else b""
        data = line[5:].strip() if line.startswith(b"data:") else b""
        if not data:
            return
        if data.lower() not in _DONE:
            try:
                orjson.loads(data)
            except orjson.JSONDecodeError:
                return
        self._line(self._lines.rest())

    def _forget(self) -> None:
        self._held, self._held_size, self._is_document = [], 0, False

    def _line(self, line: bytes) -> None:
        if not self._held and line.startswith(b"data:"):
            self._data(line[5:].strip())
        else:
            self._other(line)

    def _data(self, data: bytes) -> None:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            self._odd_data(data)
        else:
            self._value(value)

    def _value(self, value: object) -> None:
        if self._is_error:
            raise stream_failure(value)
        if isinstance(value, dict):
            self._take(value)
        elif isinstance(value, list):
            if not all(isinstance(item, dict) for item in value):
                raise ModelFailure("unreadable", f"no event: {shown(value)}")
            for item in value:
                self._take(item)
        elif isinstance(value, str):
            self._text(value.encode("utf-8", "replace"))
        # Else null or a number, by which some servers keep a connection alive.

    def _odd_data(self, data: bytes) -> None:
        """Read data of an event that is no proper JSON, or only its beginning."""
        if data.startswith(b"data:"):
            self._data(data[5:].strip())
        elif data[:1] in {b"{", b"["} and data.lower() not in _DONE:
            try:
                value = self._lenient(data)
            except ValueError:
                self._hold(data)
            else:
                self._value(value)
        elif data and self._is_error:
            raise stream_failure(data.decode("utf-8", "replace"))
        else:
            self._text(data)

    def _text(self, data: bytes) -> None:
        """Words that are no JSON: the end, or a sign of life."""
        if data.strip().lower() in _DONE:
            self.is_over = True
        elif len(self.words) < MAX_WORDS:
            self.words = f"{self.words} {data[:MAX_WORDS].decode('utf-8', 'replace')}".strip()

    def _other(self, line: bytes) -> None:
        if self._is_document:
            self._hold(line)
        elif line.startswith(b"data:"):
            self._hold(line[5:].strip())
        elif not line:
            self._whole()
            self._is_error = False
        elif line.startswith(_BOM):
            self._line(line.removeprefix(_BOM))
        elif line.lstrip()[:1] in {b"{", b"["}:
            self._document(line.strip())
        else:
            self._field(line)

    def _field(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if name == b"event":
            self._is_error = value.strip().lower().decode("latin-1").endswith(_ERROR_EVENTS)
        elif colon and name.strip().lower() == b"error":
            raise stream_failure(_json_or_text(value.strip()))
        elif name not in {b"", b"id", b"retry", b"data"}:
            self._text(line)

    def _document(self, line: bytes) -> None:
        """A line of JSON that is no event: all of the answer, or one line of many."""
        if self._held:  # an event's data with a line break in it
            self._hold(line)
            return
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            try:
                value = self._lenient(line)
            except ValueError:
                self._is_document = True
                self._hold(line)
                return
        self._value(value)

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_size += len(line)
        if self._held_size > MAX_EVENT:
            raise ModelFailure("unreadable", f"an event of over {MAX_EVENT} bytes")

    def _whole(self) -> None:
        """Take the event whose lines are held, at a blank line or at the end."""
        if not self._held:
            return
        data = b"\n".join(self._held)
        self._forget()
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            try:
                value = self._lenient(data)
            except ValueError as error:
                raise ModelFailure("unreadable", f"{error}: {data[:MAX_WORDS]!r}") from error
        self._value(value)

    def _lenient(self, data: bytes) -> object:
        """Parse JSON with NaN, raw control characters, half characters, or bytes that are no UTF-8.

        Bad bytes become surrogates, which `texts` mends where it can.
        """
        try:
            value: object = json.loads(data.decode("utf-8", "surrogateescape"), strict=False)
        except RecursionError as error:
            raise ValueError("JSON that is nested too deep") from error
        self.is_odd = True
        return value


def shown(value: object) -> str:
    """The first characters of a value, for the log."""
    try:
        return repr(value)[:MAX_WORDS]
    except RecursionError:
        return "JSON that is nested too deep"


def _json_or_text(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode("utf-8", "replace")
