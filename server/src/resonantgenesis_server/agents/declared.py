"""What an agent in Python says of itself: limits of its turns, and words for those who call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])
_DECLARED = "__resonantgenesis_agent__"


@dataclass(frozen=True, slots=True)
class Declaration:
    """The arguments of `agent`; None leaves the choice to the server."""

    timeout_seconds: float | None = None
    max_steps: int | None = None
    concurrency: int | None = None
    description: str | None = None
    input_schema: Mapping[str, Any] | None = None
    restartable: bool = True

    def __post_init__(self) -> None:
        for name in ("timeout_seconds", "max_steps", "concurrency"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be over 0")

    def defaults(self) -> dict[str, Any]:
        """The values for turns, by the names of an agent's `defaults`."""
        named = {
            "timeout_seconds": self.timeout_seconds,
            "max_steps": self.max_steps,
            "concurrency": self.concurrency,
        }
        return {name: value for name, value in named.items() if value is not None}


def agent(
    *,
    timeout_seconds: float | None = None,
    max_steps: int | None = None,
    concurrency: int | None = None,
    description: str | None = None,
    input_schema: Mapping[str, Any] | None = None,
    restartable: bool = True,
) -> Callable[[T], T]:
    """Declare limits of an agent: a decorator of its function or class.

    `timeout_seconds` and `max_steps` hold for turns whose request names none. Turns beyond
    `concurrency` wait as queued, at each node. `input_schema` is a JSON Schema of the `context`
    that the agent reads; clients see it, and the server does not check it. `restartable` False: a
    turn that waits cannot go on once the process that asked has died.
    """
    declaration = Declaration(
        timeout_seconds, max_steps, concurrency, description, input_schema, restartable
    )

    def declare(function: T) -> T:
        setattr(function, _DECLARED, declaration)
        return function

    return declare


def declaration_of(function: Callable[..., Any]) -> Declaration:
    """What was declared of a function, or of the object whose method it is."""
    owner = getattr(function, "__self__", None)
    found = getattr(function, _DECLARED, None) or getattr(owner, _DECLARED, None)
    return found if isinstance(found, Declaration) else Declaration()
