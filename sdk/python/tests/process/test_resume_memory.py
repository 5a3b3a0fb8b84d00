"""The guide's recovery loop: execute again with `resume_from`, and no session named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from resonantgenesis import InvalidRequest, ResonantGenesis
from resonantgenesis._core.progress import ResumePoint
from resonantgenesis._process.resume_memory import ResumeMemory

from ..conftest import MakeClient
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio

EXECUTE = "/v1/sessions/execute"


async def break_off(server: FakeServer) -> None:
    """Ends all connections and refuses new ones; the turns go on."""
    assert server._server is not None
    server._server.close()
    serving = [task for task in server._tasks if "_serve" in repr(task.get_coro())]
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def test_the_loop_reads_one_turn_to_its_end(
    server: FakeServer, make_client: MakeClient
) -> None:
    client = make_client(server.url, max_retries=0)
    server.hold_at = 10
    seen: list[int] = []
    breaks = 0
    last_position = 0
    while True:
        try:
            async for chunk in client.sessions.execute_stream(
                agent_id="agent_123", goal="30", resume_from=last_position
            ):
                seen.append(chunk.position)
                last_position = chunk.position
                if last_position == 10 and breaks == 0:
                    await break_off(server)
            break
        except ConnectionError:
            breaks += 1
            server.release.set()
            if breaks == 2:
                await server.start()
    assert seen == list(range(1, 31))
    assert breaks == 2
    assert len(server.sessions) == 1 and server.sessions["sess_1"].turns == 1


async def test_a_stream_lost_before_its_first_chunk_is_not_started_twice(
    server: FakeServer, make_client: MakeClient
) -> None:
    client = make_client(server.url, max_retries=0)
    server.hold_at = 0
    task = asyncio.create_task(server.wait_streams(1))

    async def cut_when_open() -> None:
        await task
        await break_off(server)
        await server.start()
        server.release.set()

    cutting = asyncio.create_task(cut_when_open())
    with pytest.raises(ConnectionError):
        async for _ in client.sessions.execute_stream(agent_id="a", goal="9", resume_from=0):
            raise AssertionError("nothing was sent yet")
    await cutting
    again = client.sessions.execute_stream(agent_id="a", goal="9", resume_from=0)
    assert [chunk.position async for chunk in again] == list(range(1, 10))
    assert server.sessions["sess_1"].turns == 1 and len(server.sessions) == 1
    anew = client.sessions.execute_stream(agent_id="a", goal="9", resume_from=0)
    assert [chunk.position async for chunk in anew] == list(range(1, 10))
    assert len(server.sessions) == 2


async def leave(stream: Any, at: int) -> int:
    async for chunk in stream:
        if chunk.position == at:
            break
    return at


async def test_a_stream_left_by_break_is_found_again(
    server: FakeServer, client: ResonantGenesis
) -> None:
    first = client.sessions.execute_stream(agent_id="a", goal="9")
    await leave(first, 4)
    await first.aclose()
    again = client.sessions.execute_stream(agent_id="a", goal="9", resume_from=4)
    assert [chunk.position async for chunk in again] == [5, 6, 7, 8, 9]
    assert again.session_id == first.session_id == "sess_1"


async def test_a_caller_that_failed_over_a_chunk_gets_it_again(
    server: FakeServer, client: ResonantGenesis
) -> None:
    with pytest.raises(ConnectionError):
        async for chunk in client.sessions.execute_stream(agent_id="a", goal="9", resume_from=0):
            if chunk.position == 5:
                raise ConnectionResetError("the caller's own")
    again = client.sessions.execute_stream(agent_id="a", goal="9", resume_from=4)
    assert [chunk.position async for chunk in again] == [5, 6, 7, 8, 9]


async def test_a_cancelled_stream_is_found_again(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 3
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20) as scope:
            async for chunk in client.sessions.execute_stream(agent_id="a", goal="9"):
                if chunk.position == 3:
                    scope.reschedule(asyncio.get_running_loop().time())
    server.release.set()
    again = client.sessions.execute_stream(agent_id="a", goal="9", resume_from=3)
    assert [chunk.position async for chunk in again] == [4, 5, 6, 7, 8, 9]


DIFFERENT: list[dict[str, Any]] = [
    {"agent_id": "b"},
    {"goal": "8"},
    {"context": {"user": "Bob"}},
    {"resume_from": 6},
    {"session_id": "sess_9"},
]


@pytest.mark.parametrize("difference", DIFFERENT)
async def test_what_differs_is_left_to_the_server_to_refuse(
    server: FakeServer, client: ResonantGenesis, difference: dict[str, Any]
) -> None:
    await leave(client.sessions.execute_stream(agent_id="a", goal="9"), 4)
    asked = {"agent_id": "a", "goal": "9", "resume_from": 4} | difference
    if "session_id" in difference:
        server.fail_next(EXECUTE, 422, {"error": {"code": "INVALID_REQUEST"}})
    with pytest.raises(InvalidRequest):
        await leave(client.sessions.execute_stream(**asked), 9)
    assert server.requests[-1].body["resume_from"] == asked["resume_from"]
    assert server.requests[-1].body.get("session_id") == asked.get("session_id")


async def test_another_task_and_a_finished_stream_are_not_taken_up(
    server: FakeServer, client: ResonantGenesis
) -> None:
    await leave(client.sessions.execute_stream(agent_id="a", goal="9"), 4)
    other = client.sessions.execute_stream(agent_id="a", goal="9", resume_from=4)
    with pytest.raises(InvalidRequest):
        await asyncio.create_task(leave(other, 9))
    done = client.sessions.execute_stream(agent_id="a", goal="7")
    assert len([chunk async for chunk in done]) == 7
    with pytest.raises(InvalidRequest):
        await leave(client.sessions.execute_stream(agent_id="a", goal="7", resume_from=7), 9)


async def test_turns_of_a_session_have_their_own_loop(
    server: FakeServer, client: ResonantGenesis
) -> None:
    session = client.sessions.create(agent_id="a")
    assert len([c async for c in session.execute_stream(goal="9", resume_from=0)]) == 9
    first = session.execute_stream(goal="9", resume_from=0)
    await leave(first, 12)
    again = session.execute_stream(goal="9", resume_from=12)
    assert [chunk.position async for chunk in again] == [13, 14, 15, 16, 17, 18]
    assert again.turn == 2 and server.sessions["sess_1"].turns == 2


class Owner:
    pass


def test_memory_is_bounded_in_number_and_age() -> None:
    now = [0.0]
    memory = ResumeMemory(max_entries=100, max_age=10.0, clock=lambda: now[0])
    owner = Owner()
    for number in range(1000):
        memory.remember(owner, (str(number),), ResumePoint(position=3))
    assert len(memory) <= 164
    assert memory.recall(owner, ("0",), 3) is None
    assert memory.recall(owner, ("999",), 3) is not None
    memory.remember(owner, ("b",), ResumePoint(position=3))
    now[0] = 11.0
    assert memory.recall(owner, ("b",), 3) is None


def test_memory_goes_with_its_owner_and_skips_what_is_settled() -> None:
    memory = ResumeMemory()
    owner, task = Owner(), ("a",)
    resume_point = ResumePoint(position=3)
    memory.remember(owner, task, resume_point)
    assert memory.recall(Owner(), task, 3) is None
    resume_point.settled = True
    assert memory.recall(owner, task, 3) is None
    memory.remember(owner, task, ResumePoint(position=3))
    del owner
    memory.recall(Owner(), task, 3)
    assert len(memory) == 0


def test_position_zero_means_anew_unless_a_stream_broke_off_there() -> None:
    memory = ResumeMemory()
    owner, task = Owner(), ("a",)
    reading, broken = ResumePoint(position=0), ResumePoint(position=0, broken=True)
    memory.remember(owner, task, ResumePoint(position=5, broken=True))
    memory.remember(owner, task, reading)
    assert memory.recall(owner, task, 0) is None
    memory.remember(owner, task, broken)
    assert memory.recall(owner, task, 0) is broken
