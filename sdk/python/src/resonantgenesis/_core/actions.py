"""Actions that a machine asks for, and their outcomes: the interface between logic and I/O.

A shell takes `machine.next()`, performs it, and reports with `machine.give(outcome)`. Emit and
Finish are results and need no report. Before any action but Read and Emit the shell closes an
open stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import ConnectionLost, StreamError
from .messages import Answer, Request
from .retry import Wait as Wait

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Open:
    """Send the request and open its answer as a stream: Opened, Answered, Lost or Silent."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """Read from the open stream: Received, Ended, Lost, or Silent after `timeout` seconds."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send the request and read its whole answer: Answered, Lost or Silent."""

    request: Request


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """Hand the chunk or event to the caller."""

    item: T


@dataclass(frozen=True, slots=True)
class Finish:
    """Raise `error`, or end without one."""

    error: StreamError | None = None


Action = Open | Read | Fetch | Wait | Emit[T] | Finish


@dataclass(frozen=True, slots=True)
class Opened:
    """The requested stream is open; header names are in lower case."""

    headers: Mapping[str, str]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """Any other answer, read to its end."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes of the open stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The open stream ended as HTTP ends a body."""


@dataclass(frozen=True, slots=True)
class Lost:
    """No connection, or it broke; `reason` is for people, `reached` False: there was never one."""

    reason: str
    reached: bool = field(default=True, compare=False)

    def error(self) -> ConnectionLost:
        """The exception to raise for it."""
        return ConnectionLost(self.reason, reached=self.reached)


@dataclass(frozen=True, slots=True)
class Silent:
    """Connected, but nothing came in time."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The wait is over."""


Outcome = Opened | Answered | Received | Ended | Lost | Silent | Waited
