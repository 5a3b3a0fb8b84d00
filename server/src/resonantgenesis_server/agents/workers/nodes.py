"""Workers of other nodes: a worker serves the turns of every node, whichever it is connected to.

The node that runs a turn asks the others for a worker that is free, and gives it the turn through
its node. The worker's node passes on what both tell each other, in one call at a time for each pair
of nodes: so many chunks travel together when there are many. A message can be lost, and is then
sent again; the numbers of a worker's messages make each count once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...background import Background
from ...calls import Calls, NoAnswer
from ...codec.json import NotJson, dumps
from ...log.base import LogError
from ...model.errors import ApiError
from .assignment import AgentName, Assignment, WorkerMessage
from .pool import ConnectedWorker, WorkerPool

#: Bytes and items of one call, about.
_CALL_BYTES, _CALL_ITEMS = 1 << 20, 2_000
#: Seconds between two attempts of a call.
_PAUSE = 0.2
#: Seconds for which a node that found no worker free is told of one.
_WANTED_SECONDS = 5.0
#: Seconds between two looks whether the nodes of workers live.
_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class _ElsewhereLink:
    """The way to a worker that is connected to another node. `socket` is a number of that node."""

    node: int
    socket: int
    worker: str
    agent: AgentName
    nodes: WorkerNodes

    def ack(self, assignment: str, seq: int) -> None:
        self.nodes.tell(self, assignment, "ack", seq)

    def cancel(self, assignment: str) -> None:
        self.nodes.tell(self, assignment, "cancel", 0)


class _Outbox:
    """What one node is told, in order, in one call at a time; until the node is dead."""

    def __init__(self, nodes: WorkerNodes, calls: Calls, node: int, verb: str) -> None:
        self._nodes = nodes
        self._calls = calls
        self._node = node
        self._verb = verb
        self._items: dict[tuple[str, object], tuple[dict[str, Any], int]] = {}
        self.task: asyncio.Task[None] | None = None

    def put(self, key: tuple[str, object], item: dict[str, Any], size: int) -> None:
        """An item of the same key replaces one that was not sent yet."""
        self._items[key] = item, size
        if self.task is None:
            self.task = asyncio.create_task(self._run(), name=f"{self._verb} {self._node}")

    async def _run(self) -> None:
        try:
            while self._items:
                batch = self._batch()
                refused = await self._sent([self._items.pop(key)[0] for key in batch])
                if refused is None:
                    self._items.clear()
                    return
                self._nodes.refused(refused)
        finally:
            self.task = None

    def _batch(self) -> list[tuple[str, object]]:
        batch: list[tuple[str, object]] = []
        size = 0
        for key, (_, bytes_) in self._items.items():
            size += bytes_ + 100
            if batch and (size > _CALL_BYTES or len(batch) >= _CALL_ITEMS):
                break
            batch.append(key)
        return batch

    async def _sent(self, items: list[dict[str, Any]]) -> list[Any] | None:
        """The answer of the node; None: it is dead."""
        while True:
            try:
                answer: list[Any] = await self._calls.call(self._node, self._verb, {"items": items})
                return answer
            except NotJson:
                items = [_sendable(item) for item in items]
            except (NoAnswer, LogError):
                if self._node not in self._calls.others:
                    return None
                await asyncio.sleep(_PAUSE)


class WorkerNodes:
    """The `WorkersElsewhere` of a node that can have others, from `start` to `close`."""

    def __init__(self, pool: WorkerPool, calls: Calls) -> None:
        self._pool = pool
        self._calls = calls
        self._outboxes: dict[tuple[int, str], _Outbox] = {}
        #: Agents of which other nodes found no worker free, and until when they are told of one.
        self._wanted: dict[AgentName, float] = {}
        self._telling: dict[AgentName, asyncio.Task[None]] = {}
        self._loop = Background("workers' nodes", self._run)
        pool.elsewhere = self
        calls.handlers |= {
            "worker_offer": self._offer,
            "worker_assign": self._assign,
            "worker_resume": self._resume,
            "worker_said": self._said,
            "worker_told": self._told,
            "worker_free": self._free,
        }

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()
        tasks = [box.task for box in self._outboxes.values() if box.task is not None]
        tasks += self._telling.values()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)

    async def _run(self) -> None:
        """Turns whose workers were connected to a dead node: the workers may come to another."""
        while True:
            await asyncio.sleep(_LOOK)
            living = self._calls.others
            for assignment in list(self._pool.assignments.values()):
                link = assignment.link
                if link is not None and link.node != self._pool.node and link.node not in living:
                    assignment.detach(link)

    # -- asked by the pool -----------------------------------------------------------------

    async def give(self, assignment: Assignment, agent: AgentName, turn: Mapping[str, Any]) -> bool:
        offers = await self._calls.ask_all("worker_offer", {"agent": agent})
        found = [offer for offer in offers if offer is not None]
        for offer in sorted(found, key=lambda offer: float(offer["load"])):
            args = {
                "agent": agent,
                "worker": offer["worker"],
                "assignment": assignment.id,
                "turn": turn,
            }
            try:
                socket = await self._calls.call(offer["node"], "worker_assign", args)
            except (ApiError, LogError):
                continue
            if socket is not None:
                assignment.attach(
                    _ElsewhereLink(offer["node"], socket, offer["worker"], agent, self)
                )
                return True
        return False

    def pass_on(
        self, node: int, worker: ConnectedWorker, assignment: str, message: WorkerMessage
    ) -> None:
        item = {
            **_of(worker, assignment),
            "seq": message.seq,
            "chunks": message.chunks,
            "is_last": message.is_last,
            "error": message.error,
        }
        size = worker.size_of(assignment, message.seq)
        self._box(node, "worker_said").put((assignment, message.seq), item, size)

    async def resume(self, node: int, worker: ConnectedWorker, assignment: str) -> int | None:
        args = {**_of(worker, assignment), "node": self._pool.node}
        while True:
            try:
                accepted: int | None = await self._calls.call(node, "worker_resume", args)
                return accepted
            except (NoAnswer, LogError):
                if node not in self._calls.others:
                    return None
                await asyncio.sleep(_PAUSE)

    def cut_off(self, node: int, worker: ConnectedWorker, assignments: Sequence[str]) -> None:
        for id in assignments:
            item = {**_of(worker, id), "node": self._pool.node, "is_cut_off": True}
            self._box(node, "worker_said").put((id, f"cut {worker.socket}"), item, 0)

    def gave_up(self, node: int, worker: ConnectedWorker, assignments: Sequence[str]) -> None:
        for id in assignments:
            item = {**_of(worker, id), "is_given_up": True}
            self._box(node, "worker_said").put((id, "given up"), item, 0)

    def is_free(self, agent: AgentName) -> None:
        until = self._wanted.get(agent)
        if until is None:
            return
        if until < time.monotonic():
            del self._wanted[agent]
            return
        if agent not in self._telling:
            task = asyncio.create_task(self._tell_free(agent), name="worker is free")
            self._telling[agent] = task
            task.add_done_callback(lambda _task: self._telling.pop(agent, None))

    async def _tell_free(self, agent: AgentName) -> None:
        with suppress(LogError):  # those that wait look again by themselves
            await self._calls.tell_all("worker_free", {"agent": agent})

    def tell(self, link: _ElsewhereLink, assignment: str, what: str, seq: int) -> None:
        item = {
            "agent": link.agent,
            "worker": link.worker,
            "assignment": assignment,
            "what": what,
            "seq": seq,
        }
        self._box(link.node, "worker_told").put((assignment, what), item, 0)

    def refused(self, items: Iterable[Any]) -> None:
        """Messages of workers here whose assignments are no more: they must stop."""
        for agent, worker_id, assignment in items:
            worker = self._pool.find((agent[0], agent[1]), worker_id)
            if worker is not None:
                worker.cancel(assignment)

    def _box(self, node: int, verb: str) -> _Outbox:
        box = self._outboxes.get((node, verb))
        if box is None:
            box = self._outboxes[node, verb] = _Outbox(self, self._calls, node, verb)
        return box

    # -- asked by other nodes --------------------------------------------------------------

    async def _offer(self, args: Mapping[str, Any]) -> dict[str, Any] | None:
        agent = _agent(args)
        worker = self._pool.least_loaded(agent)
        if worker is None:
            self._wanted[agent] = time.monotonic() + _WANTED_SECONDS
            return None
        return {"node": self._pool.node, "worker": worker.id, "load": worker.load}

    async def _assign(self, args: Mapping[str, Any]) -> int | None:
        worker = self._pool.find(_agent(args), args["worker"])
        if worker is None or worker.free <= 0:
            return None
        worker.assign(args["assignment"], args["turn"])
        return worker.socket

    async def _resume(self, args: Mapping[str, Any]) -> int | None:
        agent = _agent(args)
        assignment = self._pool.of_agent(agent, args["assignment"])
        link = _ElsewhereLink(args["node"], args["socket"], args["worker"], agent, self)
        if assignment is None or not assignment.attach(link):
            return None
        return assignment.accepted

    async def _said(self, args: Mapping[str, Any]) -> list[Any]:
        """What workers say; those whose assignments are no more."""
        refused = []
        for item in args["items"]:
            agent = _agent(item)
            assignment = self._pool.of_agent(agent, item["assignment"])
            if assignment is None:
                refused.append([agent, item["worker"], item["assignment"]])
            elif "is_cut_off" in item:
                assignment.detach(
                    _ElsewhereLink(item["node"], item["socket"], item["worker"], agent, self)
                )
            elif "is_given_up" in item:
                assignment.lose()
            elif not assignment.accept(
                WorkerMessage(item["seq"], item["chunks"], item["is_last"], item["error"])
            ):
                refused.append([agent, item["worker"], item["assignment"]])
        return refused

    async def _told(self, args: Mapping[str, Any]) -> list[Any]:
        """What the nodes of turns tell workers here."""
        for item in args["items"]:
            worker = self._pool.find(_agent(item), item["worker"])
            if worker is None:
                continue
            if item["what"] == "ack":
                worker.ack(item["assignment"], item["seq"])
            else:
                worker.cancel(item["assignment"])
        return []

    async def _free(self, args: Mapping[str, Any]) -> None:
        self._pool.look_again(_agent(args))


def _of(worker: ConnectedWorker, assignment: str) -> dict[str, Any]:
    return {
        "agent": worker.agent,
        "worker": worker.id,
        "socket": worker.socket,
        "assignment": assignment,
    }


def _sendable(item: dict[str, Any]) -> dict[str, Any]:
    """The item; chunks that have no JSON form, such as ones that nest too deep, end their turn."""
    try:
        dumps([[[[item]]]])  # as deep as it stands in a call
    except NotJson as error:
        said = f"the agent sent a chunk that has no JSON form: {error}"
        return {**item, "chunks": [{"type": "error", "message": said}]}
    return item


def _agent(args: Mapping[str, Any]) -> AgentName:
    organization_id, agent_id = args["agent"]
    return organization_id, agent_id
