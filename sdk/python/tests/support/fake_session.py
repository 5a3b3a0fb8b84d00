"""A session of the fake server: a list of chunks, and a bell that rings when it grows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from .fake_wire import Payload


@dataclass
class Session:
    id: str
    agent_id: str
    context: dict[str, Any]
    log: list[Payload] = field(default_factory=list)
    turns: int = 0
    goals: list[str] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: set[int] = field(default_factory=set)

    def append(self, payload: Payload) -> None:
        self.log.append({**payload, "position": len(self.log) + 1})
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()

    @property
    def running(self) -> bool:
        return self.turns > len(self.dones())

    def turn_start(self, turn: int) -> int:
        """The position before the first chunk of a turn."""
        ends = [chunk["position"] for chunk in self.log if chunk["type"] == "done"]
        return 0 if turn <= 1 else ends[turn - 2]

    def dones(self) -> list[Payload]:
        return [chunk for chunk in self.log if chunk["type"] == "done"]

    def text(self) -> str:
        return "".join(chunk.get("content", "") for chunk in self.log)
