"""The list of sessions over several nodes: right at every node, whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from resonantgenesis_server.log.base import LogUnavailable
from resonantgenesis_server.model.events import event_stream
from resonantgenesis_server.sessions.session_list import record_of

from ..sessions.rig import ME, Rig

pytestmark = pytest.mark.anyio
Open = Callable[..., Awaitable[Rig]]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


async def two(nodes: Open) -> tuple[Rig, Rig]:
    one, other = await nodes(), await nodes()
    await until(lambda: one.log.nodes.others and other.log.nodes.others)
    return one, other


async def listed(node: Rig, status: str | None = None) -> set[str]:
    page = await node.service.list_sessions(
        ME, agent_id=None, status=status, limit=100, cursor=None
    )
    return {item["session_id"] for item in page.items}


async def die(node: Rig) -> None:
    """End as kill -9 does, with rows that were never written."""
    await node.session_list._loop.close()
    for part in node.log.parts:
        await part.nodes.close()
        part._database.leave = _nothing  # type: ignore[method-assign]
    await node.crash()


async def _nothing() -> None:
    return


async def test_what_a_dead_node_had_not_written_is_taken_in_by_the_next(nodes: Open) -> None:
    one, other = await two(nodes)
    kept = (await one.run("a b"))["session_id"]
    await one.session_list.flush(places=True)
    await one.session_list._loop.close()
    made = {(await one.run("a b"))["session_id"] for _ in range(5)}
    await one.supervisor.delete(kept)
    assert kept in one.rows.rows
    assert made.isdisjoint(one.rows.rows)
    await die(one)
    await until(lambda: not other.log.nodes.others)
    await until(lambda: made <= set(other.rows.rows))
    assert await listed(other, "completed") == made
    assert kept not in other.rows.rows


async def test_a_reader_need_not_wait_until_a_node_is_declared_dead(nodes: Open) -> None:
    one, other = await two(nodes)
    await one.session_list._loop.close()
    made = {(await one.run("a b"))["session_id"] for _ in range(3)}
    await die(one)
    assert other.log.nodes.others  # nobody knows yet
    assert await listed(other, "completed") == made


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
async def test_a_session_that_another_node_has_deleted_leaves_no_row(nodes: Open) -> None:
    one, other = await two(nodes)
    for _ in range(10):
        session = await one.create()
        await one.run("a b", session=session)
        state = await one.state(session)
        await other.service.delete(ME, session)
        one.session_list.changed(state)  # its row was still to be written
        await one.session_list.settle()
        assert session not in one.rows.rows
    assert await listed(one) == await listed(other) == set()


async def test_an_older_row_of_another_node_does_not_replace_a_newer(nodes: Open) -> None:
    one, other = await two(nodes)
    session = await one.create()
    await one.run("a b", session=session)
    old = await one.state(session)
    stale = record_of(old)
    await other.run("c d", session=session)
    await other.session_list.settle()
    await one.rows.upsert_many([stale])
    assert one.rows.rows[session].turns == 2


async def test_a_place_is_kept_only_once_no_other_node_can_lack_a_row(nodes: Open) -> None:
    one = await nodes()
    await one.run("a b")
    await one.session_list.flush(places=True)
    alone = one.rows.kept["org"].position
    page = await one.log.read("events:org", 0)
    assert page.info is not None
    assert alone == page.info.head
    other = await nodes()
    await until(lambda: one.log.nodes.others and other.log.nodes.others)
    await one.run("a b")
    await one.session_list.flush(places=True)
    assert one.rows.kept["org"].position == alone
    one.session_list._hold = 0.3
    held = one.session_list._reached["org"].newest
    async with asyncio.timeout(20):
        while one.rows.kept["org"].position < held:
            await asyncio.sleep(0.05)
            await one.session_list.flush(places=True)


@pytest.mark.parametrize("nodes", [2], indirect=True)
async def test_a_database_that_is_away_holds_up_its_own_rows_alone(
    nodes: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await two(nodes)
    await one.session_list._loop.close()

    async def away(*_: object, **__: object) -> None:
        raise LogUnavailable("the database is away")

    made = [(await one.run("a b"))["session_id"]]
    while len({one.log.place_of(name) for name in made}) < 2:
        made.append((await one.run("a b"))["session_id"])
    await one.log.read(event_stream("org"), 0)  # now all events have come
    held = [name for name in made if one.log.place_of(name) == 1]
    with monkeypatch.context() as patch:
        patch.setattr(one.log.parts[1], "read_many", away)
        with pytest.raises(LogUnavailable):
            await one.session_list.flush()
        assert one.session_list.waiting == len(held)
        assert set(made) - set(held) <= one.rows.rows.keys()
    await one.session_list.flush()
    assert one.session_list.waiting == 0
    assert set(made) <= one.rows.rows.keys()
