"""The list of sessions is what the log says, whatever the process did not write before it died;
and a deletion is before or after for everybody."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from resonantgenesis_server.log.base import Append, Page
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.errors import SessionNotFound
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.records.base import StoreUnusable
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.request import CreateSpec
from resonantgenesis_server.sessions.session_list import SessionList
from resonantgenesis_server.sessions.state import control_stream

from .agents import Gate
from .rig import ME, Orgs, Rig

pytestmark = pytest.mark.anyio


async def listed(rig: Rig, status: str | None = None) -> dict[str, str]:
    page = await rig.service.list_sessions(
        ME, agent_id=None, status=status, limit=1_000, cursor=None
    )
    return {item["session_id"]: item["status"] for item in page.items}


async def ran(rig: Rig, session: str | None = None, **more: Any) -> str:
    """A session whose turn has ended."""
    return str((await rig.run(session=session, **more))["session_id"])


async def agrees(rig: Rig) -> dict[str, str]:
    """The list, which must be what each session by itself says."""
    found = await listed(rig)
    for session_id, status in found.items():
        whole = await rig.service.get(ME, session_id)
        row = rig.rows.rows[session_id]
        assert (whole["status"], whole["turns"]) == (status, row.turns)
    for status in set(found.values()):
        assert await listed(rig, status) == {n: s for n, s in found.items() if s == status}
    return found


async def crashed(rig: Rig) -> None:
    """A process that wrote none of its rows since the test called `rig.rows.broken = True`."""
    await rig.crash()
    await rig.open()


async def test_what_a_crash_kept_from_the_list_is_in_it_after_the_start(rig: Rig) -> None:
    old = await ran(rig)
    await rig.session_list.settle()
    rig.rows.broken = True
    made = await rig.create()
    ended = await ran(rig)
    await ran(rig, old)
    running = (await rig.execute(agent="stubborn")).session_id
    await crashed(rig)
    assert await agrees(rig) == {
        old: "completed",
        made: "created",
        ended: "completed",
        running: "failed",
    }
    assert rig.rows.rows[old].turns == 2


async def test_a_turn_that_waited_is_counted_after_a_crash(rig: Rig, gate: Gate) -> None:
    first = (await rig.execute(agent="gate")).session_id
    await rig.session_list.settle()
    rig.rows.broken = True
    await rig.execute(agent=None, session=first, if_busy="enqueue")
    await rig.crash()
    rig.agents["gate"] = rig.agents["echo"]
    await rig.open()
    await rig.watch(first, ReadFrom(after=0, turn=2))
    assert (await agrees(rig))[first] == "completed"
    assert rig.rows.rows[first].turns == 2


async def test_a_start_reads_only_what_came_since_the_last(rig: Rig) -> None:
    for _ in range(5):
        await ran(rig)
    await rig.close()
    writes = rig.rows.writes
    reads: list[tuple[str, int]] = []

    class Counted:
        def __init__(self, log: SqliteLog) -> None:
            self._log = log

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

        async def read(self, stream: str, after: int, **bounds: Any) -> Page:
            reads.append((stream, after))
            return await self._log.read(stream, after, **bounds)

        async def read_many(self, after: dict[str, int], **bounds: Any) -> Any:
            reads.extend(after.items())
            return await self._log.read_many(after, **bounds)

    await rig.open(Counted)
    await rig.session_list.settle()
    assert rig.rows.writes == writes
    assert {stream for stream, _ in reads} == {"events:org"}
    assert len(reads) <= 2 and all(after > 0 for _, after in reads)


async def test_a_ghost_of_an_older_version_goes(rig: Rig) -> None:
    """Its row was left by a crash between the log's deletion and the records', of which no event
    tells; nor was any place kept."""
    kept, ghost = await ran(rig), await ran(rig)
    await rig.session_list.settle()
    rig.rows.rows[kept] = replace(rig.rows.rows[kept], status="running", updated_at=9e9)
    await rig.log.delete(ghost, control_stream(ghost))
    await rig.crash()
    rig.rows.kept.clear()
    await rig.open()
    assert await agrees(rig) == {kept: "completed"}


@pytest.mark.parametrize("log_url", [None])
async def test_rows_follow_a_log_that_was_put_back(rig: Rig) -> None:
    kept = await ran(rig)
    await rig.session_list.settle()
    await rig.close()
    copy = {p: p.read_bytes() for p in rig.directory.glob("log.db*")}
    await rig.open()
    await ran(rig)
    await ran(rig, kept)
    await rig.close()
    assert len(rig.rows.rows) == 2
    for path in rig.directory.glob("log.db*"):
        path.unlink()
    for path, content in copy.items():
        path.write_bytes(content)
    await rig.open()
    assert await agrees(rig) == {kept: "completed"}
    assert rig.rows.rows[kept].turns == 1


async def test_a_crash_after_the_log_let_go_leaves_no_ghost(rig: Rig) -> None:
    session_id = await ran(rig)
    await rig.session_list.settle()
    rig.rows.broken = True
    with pytest.raises(StoreUnusable):
        await rig.service.delete(ME, session_id)
    assert session_id in rig.rows.rows
    with pytest.raises(SessionNotFound):
        await rig.service.get(ME, session_id)
    with pytest.raises(StoreUnusable):  # not a list that has it still
        await listed(rig)
    await crashed(rig)
    assert await listed(rig) == {}


async def test_a_deletion_is_told_once_with_who_asked(rig: Rig) -> None:
    session_id = await ran(rig, who=replace(ME, subject="ann"))
    await rig.service.delete(ME, session_id, request_id="req_9")
    events = [orjson.loads(e.body) for e in (await rig.log.read("events:org", 0)).entries]
    told = [event for event in events if event["type"] == "session.deleted"]
    assert [event["data"] for event in told] == [{"session_id": session_id, "agent_id": "echo"}]
    assert told[0]["metadata"] == {
        "organization_id": "org",
        "key_id": "key",
        "request_id": "req_9",
        "subject": "ann",
    }


async def read_until_gone(rig: Rig, session_id: str, position: int) -> None:
    """Through every door: what is found is whole, and who finds nothing finds it listed nowhere."""
    try:
        while True:
            found = await rig.service.get(ME, session_id)
            assert found["output"] and found["position"] == position
            page = await rig.service.poll(
                ME, session_id, after=0, limit=500, wait=0, compacted=False, epoch=None
            )
            assert page.events and page.position == position
            steps, _ = await rig.service.steps(ME, session_id, turn=None, after=0, limit=50)
            assert steps
            assert await rig.service.subscribe(ME, session_id, ReadFrom(after=0)) is not None
    except SessionNotFound:
        assert session_id not in await listed(rig)


async def test_readers_see_a_session_before_or_after_its_deletion(rig: Rig) -> None:
    for _ in range(12):
        done = await rig.run()
        session_id, position = done["session_id"], done["position"]
        reading = [asyncio.create_task(read_until_gone(rig, session_id, position))]
        for _ in range(4):
            await asyncio.sleep(0.001)
            reading.append(asyncio.create_task(read_until_gone(rig, session_id, position)))
        await rig.service.delete(ME, session_id)
        await asyncio.wait_for(asyncio.gather(*reading), 10)
        assert session_id not in rig.rows.rows


async def test_who_sees_the_deletion_before_it_is_announced_waits_for_that(rig: Rig) -> None:
    """The writer has committed, nobody has heard of it: readers have."""
    done = await rig.run()
    session_id, position = done["session_id"], done["position"]
    await rig.session_list.settle()
    late: list[Any] = []
    deliver, rig.log._writer._announce = rig.log._writer._announce, late.append
    deleting = asyncio.create_task(rig.service.delete(ME, session_id))
    async with asyncio.timeout(10):
        while not late:
            await asyncio.sleep(0.001)
    reading = asyncio.create_task(read_until_gone(rig, session_id, position))
    await asyncio.wait({reading}, timeout=0.1)
    assert not reading.done()
    rig.log._writer._announce = deliver
    rig.log._deliver(late.pop())
    await asyncio.wait_for(asyncio.gather(reading, deleting), 10)


async def test_a_deletion_that_the_log_refuses_changes_nothing(rig: Rig) -> None:
    session_id = await ran(rig)
    with pytest.raises(ValueError, match="deleted"):
        await rig.log.delete(session_id, appends=[Append(session_id, [])])
    assert (await rig.service.get(ME, session_id))["output"]


async def test_the_list_waits_for_what_the_last_run_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_list = SessionList(rig.rows, Orgs(), rig.log)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr("resonantgenesis_server.sessions.session_list._PATIENCE", 0.05)
        with pytest.raises(StoreUnusable, match="up to date"):
            await session_list.settle()
    session_list.start()
    await session_list.settle()
    await session_list.close()


async def test_a_session_with_a_reserved_id_is_made_once(rig: Rig) -> None:
    """However often it is asked for, and whatever became of the process between."""
    spec = CreateSpec("echo")
    made = await rig.service.create(ME, spec, request_id="r", session_id="sess_reserved")
    await crashed(rig)
    again = await rig.service.create(ME, spec, request_id="s", session_id="sess_reserved")
    assert again == made
    assert list(await listed(rig)) == ["sess_reserved"]
    told = (await rig.log.read("events:org", 0)).entries
    assert [entry.kind for entry in told] == ["session.created"]


async def searched(rig: Rig, search: str, who: Principal = ME) -> list[str]:
    page = await rig.service.list_sessions(
        who, agent_id=None, status=None, search=search, limit=100, cursor=None
    )
    return [item["session_id"] for item in page.items]


async def test_a_search_sees_what_was_committed_before_it(rig: Rig, gate: Gate) -> None:
    empty = await rig.create(metadata={"title": "Invoices"})
    asked = await ran(rig, goal="Where is\0my invoice? " + "x" * 1_000)
    await ran(rig, asked, goal="and the receipt?")
    assert await searched(rig, "INVOICE") == [empty, asked]
    assert await searched(rig, "receipt") == []
    assert (await rig.get(asked))["first_goal"] == ("Where is my invoice? " + "x" * 1_000)[:300]
    assert "first_goal" not in await rig.get(empty)
    await ran(rig, empty, goal="a receipt")
    assert await searched(rig, "receipt invoices") == [empty]
    only = replace(ME, session_id=asked)
    assert await searched(rig, "invoice", only) == [asked]
    assert await searched(rig, "receipt", only) == []
    await rig.service.delete(ME, asked, request_id="req_1")
    assert await searched(rig, "my invoice") == []
