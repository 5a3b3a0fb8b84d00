"""The turns of one agent that run at once at this node; the others wait in a fair order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

#: Names an agent: its id, with its organization's unless the agent is every organization's.
SlotKey = tuple[str, ...]


class SlotTicket:
    """One turn's place among those of its agent. `leave` gives the place back, granted or not."""

    def __init__(self, line: _AgentQueue, owner: str, granted: Callable[[], None]) -> None:
        self.has_slot = False
        self.owner = owner
        self._line = line
        self._granted = granted

    def grant(self) -> None:
        self.has_slot = True
        self._granted()

    def leave(self) -> None:
        self._line.leave(self)


class AgentSlots:
    """The agents that have turns which run or wait for a slot."""

    def __init__(self) -> None:
        self._lines: dict[SlotKey, _AgentQueue] = {}

    def ask(self, key: SlotKey, limit: int, owner: str, granted: Callable[[], None]) -> SlotTicket:
        """A ticket; `granted` is called once it has a slot, perhaps now. `limit` is the agent's
        newest; among the owners that wait, the slots go round."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _AgentQueue(lambda: self._lines.pop(key, None))
        line.limit = limit
        ticket = SlotTicket(line, owner, granted)
        line.enter(ticket)
        return ticket


class _AgentQueue:
    """The turns of one agent."""

    def __init__(self, emptied: Callable[[], object]) -> None:
        self.limit = 1
        self._emptied = emptied
        self._running: set[SlotTicket] = set()
        #: By owner. The owner whose turn is next stands first.
        self._waiting: OrderedDict[str, deque[SlotTicket]] = OrderedDict()

    def enter(self, ticket: SlotTicket) -> None:
        self._waiting.setdefault(ticket.owner, deque()).append(ticket)
        self._fill()

    def leave(self, ticket: SlotTicket) -> None:
        """Harmless if repeated."""
        self._running.discard(ticket)
        waiting = self._waiting.get(ticket.owner)
        if waiting is not None and ticket in waiting:
            waiting.remove(ticket)
            if not waiting:
                del self._waiting[ticket.owner]
        self._fill()
        if not self._running and not self._waiting:
            self._emptied()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self.limit:
            owner, tickets = self._waiting.popitem(last=False)
            ticket = tickets.popleft()
            if tickets:
                self._waiting[owner] = tickets  # behind the others
            self._running.add(ticket)
            ticket.grant()
