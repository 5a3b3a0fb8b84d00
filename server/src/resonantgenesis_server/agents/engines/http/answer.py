"""An endpoint's answer: server-sent events, lines of JSON, or plain text, as values of chunks."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Protocol

from ....codec.json import NotJson, loads
from ...remote import BadChunk

#: Bytes of one line, or of one event.
_MAX_LINE = 1_000_000
#: The last event of streams in the form of OpenAI's.
_DONE = b"[DONE]"
_END = {"type": "done"}
ACCEPT = b"text/event-stream, application/x-ndjson;q=0.9, text/plain;q=0.5"


class AnswerDecoder(Protocol):
    """Takes the bytes of a body as they come, and gives the JSON values that are whole. Raises
    BadChunk."""

    def feed(self, data: bytes) -> Iterator[object]: ...

    def end(self) -> Iterator[object]:
        """The body has ended."""
        ...


def decoder_of(content_type: str) -> AnswerDecoder | None:
    """The decoder for a Content-Type; None: there is none."""
    kind = content_type.partition(";")[0].strip().lower()
    make = _DECODERS.get(kind)
    return None if make is None else make()


class _LineBuffer:
    def __init__(self) -> None:
        #: The pieces of the line that has begun, and their bytes. They are joined once: an endpoint
        #: may send a long line in many small pieces.
        self._pieces: list[bytes] = []
        self._size = 0

    def split(self, data: bytes) -> list[bytes]:
        first, *lines = data.split(b"\n")
        self._size += len(first)
        if self._size > _MAX_LINE or any(len(line) > _MAX_LINE for line in lines):
            raise BadChunk(f"the agent sent a line of over {_MAX_LINE} bytes")
        self._pieces.append(first)
        if not lines:
            return []
        lines = [b"".join(self._pieces), *lines]
        rest = lines.pop()
        self._pieces, self._size = [rest], len(rest)
        return [line.removesuffix(b"\r") for line in lines]

    def rest(self) -> bytes:
        rest = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return rest.removesuffix(b"\r")


class _JsonLines:
    """Each line is a value; empty lines are heartbeats."""

    def __init__(self) -> None:
        self._lines = _LineBuffer()

    def feed(self, data: bytes) -> Iterator[object]:
        for line in self._lines.split(data):
            if line.strip():
                yield _parsed(line)

    def end(self) -> Iterator[object]:
        if rest := self._lines.rest().strip():
            yield _parsed(rest)


class _Events:
    """The `data` of each event is a value; comments are heartbeats, other fields are ignored."""

    def __init__(self) -> None:
        self._lines = _LineBuffer()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[object]:
        for line in self._lines.split(data):
            if line:
                self._field(line)
            elif self._data:
                yield self._event()

    def end(self) -> Iterator[object]:
        """An event that no empty line ends is not whole."""
        return iter(())

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name != b"data":
            return
        value = value.removeprefix(b" ")
        self._size += len(value)
        if self._size > _MAX_LINE:
            raise BadChunk(f"the agent sent an event of over {_MAX_LINE} bytes")
        self._data.append(value)

    def _event(self) -> object:
        data, self._data, self._size = b"\n".join(self._data), [], 0
        return _END if data.strip() == _DONE else _parsed(data)


class _Text:
    """The body is the answer's text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> Iterator[object]:
        if text := self._decoder.decode(data):
            yield text

    def end(self) -> Iterator[object]:
        if text := self._decoder.decode(b"", final=True):
            yield text


def _parsed(data: bytes) -> object:
    try:
        return loads(data)
    except NotJson:
        raise BadChunk("the agent sent what is no JSON") from None


_DECODERS: dict[str, Callable[[], AnswerDecoder]] = {
    "text/event-stream": _Events,
    "application/x-ndjson": _JsonLines,
    "application/jsonl": _JsonLines,
    "text/plain": _Text,
}
