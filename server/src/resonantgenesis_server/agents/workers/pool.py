"""The workers that are connected to this node, and the turns of this node that they work on."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ... import metrics
from ...codec.json import dumps
from ...model.errors import AgentError
from ...model.ids import new_id
from .assignment import AgentName, Assignment, WorkerMessage

#: Seconds between two looks for workers at other nodes, while a turn waits for one.
_LOOK = 1.0
#: Bytes of an assignment that are taken before the worker is told so, well below its window.
_ACK_BYTES = 64 * 1024
#: Seconds until a client may try again when no worker has come.
_RETRY_AFTER = 5.0
_NODE = re.compile(r"[0-9]{1,9}")
_sockets = itertools.count(1)


@dataclass(frozen=True, slots=True)
class HeldAssignment:
    """An assignment that a worker says it has. `is_over`: its handler has ended, and the last
    message was not acknowledged yet."""

    id: str
    is_over: bool = False


class ConnectedWorker:
    """A worker with a socket at this node, or one that is cut off and may come back.

    `send` puts a message on its socket. `assignments` are the turns that it works on, of this node
    and of others.
    """

    def __init__(
        self,
        agent: AgentName,
        id: str,
        name: str,
        capacity: int,
        connected_at: float,
        send: Callable[[bytes], None],
        replaced: Callable[[], None],
    ) -> None:
        """`replaced` is called when the worker is there on another socket."""
        self.agent = agent
        self.id = id
        self.name = name
        self.capacity = capacity
        self.connected_at = connected_at
        #: The number of its socket in this process.
        self.socket = next(_sockets)
        self.is_draining = False
        self.assignments: set[str] = set()
        #: Those whose handler ended while it was cut off: their last message is to come again.
        self.ending: set[str] = set()
        self.replaced = replaced
        self._send = send
        #: Number and size of the messages of each assignment that wait to be acknowledged.
        self._unacknowledged: dict[str, deque[tuple[int, int]]] = {}
        #: Bytes of each assignment that are taken, and the worker was not told so yet.
        self._taken: dict[str, int] = {}

    @property
    def free(self) -> int:
        """How many more turns it takes now."""
        return 0 if self.is_draining else self.capacity - len(self.assignments)

    @property
    def load(self) -> float:
        return len(self.assignments) / self.capacity

    def assign(self, assignment: str, turn: Mapping[str, Any]) -> None:
        self.assignments.add(assignment)
        self._send(dumps({"type": "assign", "assignment": assignment, "turn": turn}))

    def ack(self, assignment: str, seq: int) -> None:
        """The messages up to this one are taken. The worker is told when it is worth a message."""
        waiting = self._unacknowledged.get(assignment)
        taken = self._taken.pop(assignment, 0)
        while waiting and waiting[0][0] <= seq:
            taken += waiting.popleft()[1]
        if not waiting:
            self._unacknowledged.pop(assignment, None)
        if taken < _ACK_BYTES and assignment in self.assignments:
            self._taken[assignment] = taken
            return
        self._send(dumps({"type": "ack", "assignment": assignment, "seq": seq}))

    def cancel(self, assignment: str) -> None:
        self._unacknowledged.pop(assignment, None)
        self._taken.pop(assignment, None)
        self._send(dumps({"type": "cancel", "assignment": assignment}))

    def sent(self, assignment: str, seq: int, size: int) -> int:
        """Note a message of the worker. Returns the bytes of the assignment that now wait."""
        waiting = self._unacknowledged.setdefault(assignment, deque())
        waiting.append((seq, size))
        return sum([each for _, each in waiting]) if len(waiting) > 1 else size

    def size_of(self, assignment: str, seq: int) -> int:
        """The bytes of a message that waits to be acknowledged."""
        waiting = self._unacknowledged.get(assignment, ())
        return next((size for number, size in reversed(waiting) if number == seq), 0)


@dataclass(frozen=True, slots=True)
class _HereLink:
    """The way to a worker with its socket at this node."""

    node: int
    worker: ConnectedWorker

    def ack(self, assignment: str, seq: int) -> None:
        self.worker.ack(assignment, seq)

    def cancel(self, assignment: str) -> None:
        self.worker.cancel(assignment)


@dataclass(slots=True)
class _Line:
    """The turns of one agent that wait for a worker: the first one looks, the others queue."""

    first: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0


class WorkersElsewhere(Protocol):
    """The workers of other nodes; see `nodes.py`."""

    async def give(self, assignment: Assignment, agent: AgentName, turn: Mapping[str, Any]) -> bool:
        """Give the assignment to the least loaded of them. False: none takes it now."""
        ...

    def pass_on(
        self, node: int, worker: ConnectedWorker, assignment: str, message: WorkerMessage
    ) -> None:
        """Give a worker's message to the node that runs the turn."""
        ...

    async def resume(self, node: int, worker: ConnectedWorker, assignment: str) -> int | None:
        """The number of the newest message that the node has; None: the assignment is no more."""
        ...

    def cut_off(self, node: int, worker: ConnectedWorker, assignments: Sequence[str]) -> None:
        """Tell the node that the worker has lost its socket."""
        ...

    def gave_up(self, node: int, worker: ConnectedWorker, assignments: Sequence[str]) -> None:
        """Tell the node that the worker does not work on these assignments."""
        ...

    def is_free(self, agent: AgentName) -> None:
        """Tell nodes that wait for one that a worker takes a turn again."""
        ...


class WorkerPool:
    """All workers of this node. Lives on the event loop.

    `node` is the number of this node, 0 for one that is alone. `elsewhere` is set where there can
    be others.
    """

    def __init__(self, *, node: int = 0, wait: float = 60.0, grace: float = 10.0) -> None:
        """`wait`: seconds that a turn waits for a worker. `grace`: seconds that a worker may be cut
        off before its turns are lost."""
        self.node = node
        self.grace = grace
        self.elsewhere: WorkersElsewhere | None = None
        #: Turns that run here, in the hands of workers here and elsewhere.
        self.assignments: dict[str, Assignment] = {}
        self._wait = wait
        self._workers: dict[AgentName, dict[str, ConnectedWorker]] = {}
        self._lines: dict[AgentName, _Line] = {}

    # -- turns that run here ---------------------------------------------------------------

    async def give(self, agent: AgentName, turn: Mapping[str, Any]) -> Assignment:
        """Give a turn to the least loaded worker; wait until there is one.

        Workers of this node come first. Raises AgentError when none has come in time.
        """
        line = self._lines.get(agent)
        if line is None:
            if (assignment := self._give_here(agent, turn)) is not None:
                return assignment
            line = self._lines[agent] = _Line()
        line.users += 1
        try:
            async with asyncio.timeout(self._wait), line.first:
                return await self._give_soon(line, agent, turn)
        except TimeoutError:
            raise self._nobody(agent) from None
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[agent]

    async def _give_soon(
        self, line: _Line, agent: AgentName, turn: Mapping[str, Any]
    ) -> Assignment:
        while True:
            line.changed.clear()
            assignment = self._give_here(agent, turn)
            if assignment is None and self.elsewhere is not None:
                assignment = self._new_assignment(agent)
                if not await self.elsewhere.give(assignment, agent, turn):
                    self.over(assignment)
                    assignment = None
            if assignment is not None:
                return assignment
            timeout = None if self.elsewhere is None else _LOOK
            try:
                async with asyncio.timeout(timeout):
                    await line.changed.wait()
            except TimeoutError:
                continue

    def _give_here(self, agent: AgentName, turn: Mapping[str, Any]) -> Assignment | None:
        worker = self.least_loaded(agent)
        if worker is None:
            return None
        assignment = self._new_assignment(agent)
        assignment.attach(_HereLink(self.node, worker))
        worker.assign(assignment.id, turn)
        return assignment

    def _new_assignment(self, agent: AgentName) -> Assignment:
        assignment = Assignment(new_id(f"asg_{self.node}"), agent, self.grace)
        self.assignments[assignment.id] = assignment
        return assignment

    def over(self, assignment: Assignment) -> None:
        """Nobody takes its chunks any more."""
        self.assignments.pop(assignment.id, None)
        assignment.close()

    def _nobody(self, agent: AgentName) -> AgentError:
        metrics.worker_turn("without_worker")
        return AgentError(
            self.lack_of(agent, f" for {self._wait:g} s"),
            "MODEL_UNAVAILABLE",
            retry_after=_RETRY_AFTER,
        )

    def lack_of(self, agent: AgentName, how_long: str = "") -> str:
        """What a turn of the agent waits for."""
        count, name = len(self._workers.get(agent, ())), agent[1]
        what = (
            f"all workers of agent {name!r} were busy"
            if count
            else f"no worker serves agent {name!r}"
        )
        return f"{what}{how_long}; start one: client.agents.serve({name!r}, handler)"

    # -- workers that are connected here ----------------------------------------------------

    @property
    def count(self) -> int:
        return sum(len(workers) for workers in self._workers.values())

    def of_organization(self, organization_id: str) -> list[ConnectedWorker]:
        return [
            worker
            for (organization, _), workers in self._workers.items()
            if organization == organization_id
            for worker in workers.values()
        ]

    def find(self, agent: AgentName, worker_id: str) -> ConnectedWorker | None:
        return self._workers.get(agent, {}).get(worker_id)

    def least_loaded(self, agent: AgentName) -> ConnectedWorker | None:
        """The worker here that has the smallest part of its capacity taken, and takes a turn."""
        free = [each for each in self._workers.get(agent, {}).values() if each.free > 0]
        return min(free, key=lambda each: each.load, default=None)

    async def join(
        self, worker: ConnectedWorker, held: Sequence[HeldAssignment]
    ) -> list[tuple[str, int]]:
        """A worker is there, or there again on a new socket.

        Returns the assignments among those that it has which are still its own, each with the
        number of the newest message that has come. Those that it does not have are given back.
        """
        before = self.find(worker.agent, worker.id)
        if before is not None:
            self._drop(before)
            before.replaced()
        kept: list[tuple[str, int]] = []
        try:
            for each in held:
                accepted = await self._resume(worker, each.id)
                if accepted is not None:
                    kept.append((each.id, accepted))
                    (worker.ending if each.is_over else worker.assignments).add(each.id)
        except BaseException:  # the new socket is lost as well
            self._cut_off(worker, [each.id for each in held])
            if before is not None:
                self._cut_off(before, before.assignments)
            raise
        if before is not None:
            self._give_back(before, before.assignments - {each.id for each in held})
        # No await between here and the caller's answer, so no turn is assigned before it.
        self._workers.setdefault(worker.agent, {})[worker.id] = worker
        return kept

    def is_ready(self, worker: ConnectedWorker) -> None:
        """The worker may be free for a turn: it has just come, or has ended one."""
        if worker.free <= 0:
            return
        line = self._lines.get(worker.agent)
        if line is not None:
            line.changed.set()
        elif self.elsewhere is not None:
            self.elsewhere.is_free(worker.agent)

    def look_again(self, agent: AgentName) -> None:
        """A worker of another node may be free."""
        line = self._lines.get(agent)
        if line is not None:
            line.changed.set()

    def leave(self, worker: ConnectedWorker, *, for_good: bool) -> None:
        """Its socket is closed. Unless it left for good, it has the grace to come back."""
        if self.find(worker.agent, worker.id) is not worker:
            return  # it is there again, on another socket
        self._drop(worker)
        if for_good:
            self._give_back(worker, worker.assignments)
        else:
            self._cut_off(worker, worker.assignments)

    def take(self, worker: ConnectedWorker, id: str, message: WorkerMessage) -> bool:
        """Accept a worker's message. False: the assignment is no more, or not its own, and it must
        stop."""
        if id not in worker.assignments and id not in worker.ending:
            return False
        if message.is_last:
            self.ended(worker, id)
        node = node_of(id)
        if node != self.node:
            if self.elsewhere is None:
                return False
            self.elsewhere.pass_on(node, worker, id, message)
            return True
        assignment = self.of_agent(worker.agent, id)
        return assignment is not None and assignment.accept(message)

    def of_agent(self, agent: AgentName, id: str) -> Assignment | None:
        """The assignment of this id that runs here, if it is of this agent."""
        assignment = self.assignments.get(id)
        return assignment if assignment is not None and assignment.agent == agent else None

    def ended(self, worker: ConnectedWorker, assignment: str) -> None:
        """The worker's handler is over: it can take another turn."""
        worker.assignments.discard(assignment)
        self.is_ready(worker)

    async def _resume(self, worker: ConnectedWorker, id: str) -> int | None:
        node = node_of(id)
        if node != self.node:
            if self.elsewhere is None:
                return None
            return await self.elsewhere.resume(node, worker, id)
        assignment = self.of_agent(worker.agent, id)
        if assignment is None or not assignment.attach(_HereLink(self.node, worker)):
            return None
        return assignment.accepted

    def _cut_off(self, worker: ConnectedWorker, assignments: Iterable[str]) -> None:
        """The worker has the grace to come back for these."""
        for node, ids in _by_node(assignments).items():
            if node != self.node:
                if self.elsewhere is not None:
                    self.elsewhere.cut_off(node, worker, ids)
                continue
            for id in ids:
                if (assignment := self.assignments.get(id)) is not None:
                    assignment.detach(_HereLink(self.node, worker))

    def _give_back(self, worker: ConnectedWorker, assignments: Iterable[str]) -> None:
        for node, ids in _by_node(assignments).items():
            if node != self.node:
                if self.elsewhere is not None:
                    self.elsewhere.gave_up(node, worker, ids)
                continue
            for id in ids:
                if (assignment := self.of_agent(worker.agent, id)) is not None:
                    assignment.lose()

    def _drop(self, worker: ConnectedWorker) -> None:
        workers = self._workers.get(worker.agent, {})
        if workers.get(worker.id) is worker:
            del workers[worker.id]
        if not workers:
            self._workers.pop(worker.agent, None)


def node_of(assignment: str) -> int:
    """The number of the node that runs the turn; -1: this is no assignment's id."""
    parts = assignment.split("_")
    is_number = len(parts) == 3 and _NODE.fullmatch(parts[1])
    return int(parts[1]) if is_number else -1


def _by_node(assignments: Iterable[str]) -> dict[int, list[str]]:
    nodes: dict[int, list[str]] = {}
    for assignment in assignments:
        nodes.setdefault(node_of(assignment), []).append(assignment)
    return nodes
