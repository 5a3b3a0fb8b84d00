"""Workers say what they like; only what they were given counts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from resonantgenesis_server.agents.workers.assignment import (
    AgentName,
    Assignment,
    WorkerLost,
    WorkerMessage,
)
from resonantgenesis_server.agents.workers.pool import (
    ConnectedWorker,
    HeldAssignment,
    WorkerPool,
    node_of,
)

pytestmark = pytest.mark.anyio
AGENT = ("org_1", "agent")


class Elsewhere:
    """Another node, which has the assignment `asg_2_mine`, and notes what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[int, str, int]] = []
        self.cut: list[str] = []

    async def give(self, assignment: Assignment, agent: AgentName, turn: Mapping[str, Any]) -> bool:
        return False

    def pass_on(
        self, node: int, worker: ConnectedWorker, assignment: str, message: WorkerMessage
    ) -> None:
        self.said.append((node, assignment, message.seq))

    async def resume(self, node: int, worker: ConnectedWorker, assignment: str) -> int | None:
        return 4 if (node, assignment) == (2, "asg_2_mine") else None

    def cut_off(self, node: int, worker: ConnectedWorker, assignments: Sequence[str]) -> None:
        self.cut += assignments

    def gave_up(self, node: int, worker: ConnectedWorker, assignments: Sequence[str]) -> None: ...

    def is_free(self, agent: AgentName) -> None: ...


@pytest.mark.parametrize("is_over", [False, True])
async def test_other_nodes_hear_of_a_workers_own_assignments_alone(is_over: bool) -> None:
    pool, elsewhere = WorkerPool(node=1), Elsewhere()
    pool.elsewhere = elsewhere
    worker = ConnectedWorker(AGENT, "w" * 16, "", 1, 0.0, lambda _data: None, lambda: None)
    held = [HeldAssignment("asg_2_mine", is_over), HeldAssignment("asg_2_other")]
    assert await pool.join(worker, held) == [("asg_2_mine", 4)]
    for invented in ("asg_2_other", "asg_3_x", f"asg_{'9' * 30}_x", "asg_1_x", "x"):
        assert not pool.take(worker, invented, WorkerMessage(1, ["a"]))
    assert pool.take(worker, "asg_2_mine", WorkerMessage(5, ["a"], is_last=True))
    assert elsewhere.said == [(2, "asg_2_mine", 5)]


@pytest.mark.parametrize("text", ["", "asg_1", "asg_-1_x", "asg_٣_x", f"asg_{'9' * 10}_x"])
def test_what_is_no_assignment_is_of_no_node(text: str) -> None:
    assert node_of(text) == -1
    assert node_of("asg_12_x") == 12


async def test_a_worker_that_loses_its_second_socket_while_it_joins_has_its_grace() -> None:
    pool, elsewhere = WorkerPool(node=1, grace=0.01), Elsewhere()
    pool.elsewhere = elsewhere
    asked = asyncio.Event()

    async def never(node: int, worker: ConnectedWorker, assignment: str) -> int | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    def worker() -> ConnectedWorker:
        return ConnectedWorker(AGENT, "w" * 16, "", 4, 0.0, lambda _data: None, lambda: None)

    await pool.join(worker(), [])
    turns = [await pool.give(AGENT, {}) for _ in range(2)]
    ids = [turn.id for turn in turns]
    elsewhere.resume = never  # type: ignore[method-assign]
    held = [HeldAssignment(id) for id in (ids[0], "asg_2_mine", ids[1])]
    joining = asyncio.create_task(pool.join(worker(), held))
    await asked.wait()
    joining.cancel()
    await asyncio.wait({joining})
    async with asyncio.timeout(20):
        for turn in turns:
            with pytest.raises(WorkerLost):
                await anext(turn.chunks())
    assert elsewhere.cut == ["asg_2_mine"]
