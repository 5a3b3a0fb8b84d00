"""What the provider is to answer, whatever the wire format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """The model calls a tool; `raw` are arguments as text, for those that are no JSON."""

    tool: str
    args: Mapping[str, Any] = field(default_factory=dict)
    call_id: str = ""
    raw: str | None = None

    @property
    def arguments(self) -> str:
        return json.dumps(self.args) if self.raw is None else self.raw


class Gate:
    """Streams that reach it wait for each other: it opens for all once `count` are there."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._open = asyncio.Event()

    async def passed(self) -> None:
        self._missing -= 1
        if self._missing <= 0:
            self._open.set()
        await self._open.wait()

    def open(self) -> None:
        """For all that wait and all that come; to be called in the provider's loop."""
        self._open.set()


@dataclass(frozen=True)
class Reply:
    """One answer of the model.

    `text` and `reasoning` are its deltas, `sources` addresses that it cites; `usage` input and
    output tokens, None for a server that tells none. A `status` other than 200 refuses the request
    with `error` (type, code, message).
    After `break_at` deltas the stream ends as `break_how` says: an error event, the connection
    cut, silence until the client goes, or an end that lacks its last events. `gap` are seconds
    before each delta. Before delta `gate_at` the stream waits at `gate`.
    """

    text: Sequence[str] = ()
    reasoning: Sequence[str] = ()
    sources: Sequence[str] = ()
    calls: Sequence[Call] = ()
    finish: str | None = None
    usage: tuple[int, int] | None = (11, 7)
    status: int = 200
    error: tuple[str, str, str] = ("server_error", "", "the model failed")
    headers: Mapping[str, str] = field(default_factory=dict)
    break_at: int | None = None
    break_how: Literal["error", "cut", "stall", "short"] = "error"
    gap: float = 0.0
    gate: Gate | None = None
    gate_at: int = 0

    @classmethod
    def saying(cls, text: str, **fields: Any) -> Reply:
        """A text, word by word."""
        words = text.split(" ")
        deltas = [word + " " for word in words[:-1]] + words[-1:]
        return cls(text=deltas, **fields)

    @classmethod
    def refusing(
        cls, status: int, kind: str, message: str, *, code: str = "", **headers: str
    ) -> Reply:
        """An HTTP error; `retry_after` becomes the header Retry-After."""
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return cls(status=status, error=(kind, code, message), headers=named)


#: From the number of a model's request (0, 1 …) and its body to the answer.
Script = Callable[[int, Json], Reply]


def in_order(replies: Sequence[Reply]) -> Script:
    """One after the other; the last for every request that follows."""
    return lambda number, _body: replies[min(number, len(replies) - 1)]


def by_name(model: str) -> Reply | None:
    """What a model answers that nobody has told what to say.

    `count-100` counts to 100; `count-100-20` waits 20 ms before each number.
    """
    kind, *numbers = model.split("-")
    if kind != "count" or not 1 <= len(numbers) <= 2 or not all(n.isdigit() for n in numbers):
        return None
    count = int(numbers[0])
    gap = int(numbers[1]) / 1000 if len(numbers) == 2 else 0.0
    return Reply(text=[f"{n} " for n in range(1, count + 1)], usage=(9, count), gap=gap)
