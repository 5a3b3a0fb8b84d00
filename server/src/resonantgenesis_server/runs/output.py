"""A turn's `output`: its text so far, up to a bound."""

from __future__ import annotations

import bisect

from ..codec.json import dumps
from ..log.base import MAX_APPEND_BYTES
from ..model.limits import Limits


class Output:
    """Joins text until it is `limits.output` bytes of JSON; what comes after is left out.

    Counted as JSON and not as characters, since it has to fit into one append as part of `done`,
    together with what else ends a turn.
    """

    __slots__ = ("_parts", "_room", "truncated")

    def __init__(self, limits: Limits) -> None:
        self.truncated = False
        self._parts: list[str] = []
        self._room = min(limits.output, MAX_APPEND_BYTES // 2)

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
            # The longest beginning that fits.
            fits = bisect.bisect_right(
                range(1, len(text)), self._room, key=lambda n: encoded_size(text[:n])
            )
            text, size = text[:fits], self._room
        if text:
            self._parts.append(text)
        self._room -= size


def encoded_size(text: str) -> int:
    """Bytes of JSON, without the quotes."""
    return len(dumps(text)) - 2
