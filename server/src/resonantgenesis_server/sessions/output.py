"""A turn's `output`: its text so far, up to a bound."""

from __future__ import annotations

import bisect

from ..codec.json import dumps
from ..model.limits import LARGEST_PART, Limits


class Output:
    """Joins text until it is `limits.output` bytes of JSON; what comes after is left out.

    Counted as JSON and not as characters, since the `done` that it is part of has to fit into one
    message of a socket, whatever the text.
    """

    __slots__ = ("_parts", "_room", "truncated")

    def __init__(self, limits: Limits) -> None:
        self.truncated = False
        self._parts: list[str] = []
        self._room = min(limits.output, LARGEST_PART)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add(self, text: str, size: int | None = None) -> None:
        """`size`: bytes of JSON that the text takes, for who knows."""
        if self.truncated:
            return
        if size is None:
            size = encoded_size(text)
        if size > self._room:
            self.truncated = True
            text, size = beginning(text, self._room), self._room
        if text:
            self._parts.append(text)
        self._room -= size


def beginning(text: str, room: int) -> str:
    """The longest beginning of a text that takes at most `room` bytes of JSON."""
    if len(text) * 6 <= room or encoded_size(text) <= room:
        return text
    fits = bisect.bisect_right(range(1, len(text)), room, key=lambda n: encoded_size(text[:n]))
    return text[:fits]


def encoded_size(text: str) -> int:
    """Bytes of JSON, without the quotes."""
    return len(dumps(text)) - 2
