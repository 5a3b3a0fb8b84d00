"""Files: whose they are, who sees nothing of them, and how they go with their session."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from resonantgenesis_server.model.errors import InvalidRequest
from resonantgenesis_server.records import tables
from resonantgenesis_server.records.base import Organization, SessionRecord
from resonantgenesis_server.records.files import Content, FileRecord, Owner, _hold
from resonantgenesis_server.records.store import Records

from .conftest import Clock

pytestmark = pytest.mark.anyio

REPORT = Content("report.pdf", "application/pdf", 5_000_000_000, "ab" * 32)


async def test_a_file_is_what_was_kept(records: Records, org: Organization, clock: Clock) -> None:
    owner = Owner(org.id, "ann", "sess_1", "guide")
    made = await records.files.create(owner, REPORT)
    assert made == FileRecord(made.id, owner, REPORT, clock.now)
    assert made.id.startswith("file_")
    assert await records.files.get(Owner(org.id), made.id) == made
    assert await records.files.delete(Owner(org.id), made.id) == made
    assert await records.files.get(Owner(org.id), made.id) is None
    assert await records.files.delete(Owner(org.id), made.id) is None


SEES = [
    (Owner("first"), True),
    (Owner("first", "ann"), True),
    (Owner("first", "ann", "sess_1", "guide"), True),
    (Owner("first", None, "sess_1"), True),
    (Owner("first", "bob"), False),
    (Owner("first", "ann", "sess_2"), False),
    (Owner("first", None, None, "other"), False),
    (Owner("first", ""), False),
    (Owner("second"), False),
    (Owner("second", "ann", "sess_1", "guide"), False),
]


@pytest.mark.parametrize(("caller", "sees"), SEES)
async def test_who_sees_it(
    records: Records, org: Organization, other: Organization, caller: Owner, sees: bool
) -> None:
    named = {"first": org.id, "second": other.id}
    caller = dataclasses.replace(caller, organization_id=named[caller.organization_id])
    made = await records.files.create(Owner(org.id, "ann", "sess_1", "guide"), REPORT)
    assert (await records.files.get(caller, made.id) is not None) == sees
    assert bool((await records.files.list(caller)).items) == sees
    assert (await records.files.delete(caller, made.id) is not None) == sees


async def test_what_belongs_to_nobody_is_seen_by_the_organization_alone(
    records: Records, org: Organization
) -> None:
    made = await records.files.create(Owner(org.id), REPORT)
    for caller in (Owner(org.id, "ann"), Owner(org.id, None, "s"), Owner(org.id, None, None, "a")):
        assert await records.files.get(caller, made.id) is None
    assert await records.files.get(Owner(org.id), made.id) == made


async def test_pages_newest_first(records: Records, org: Organization, clock: Clock) -> None:
    made = []
    for number in range(7):
        made.append(await records.files.create(Owner(org.id), REPORT))
        clock.now += number % 2  # some at the same time
    found: list[FileRecord] = []
    cursor: str | None = None
    while True:
        page = await records.files.list(Owner(org.id), limit=2, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found, key=lambda file: (-file.created_at, file.id)) == sorted(
        made, key=lambda file: (-file.created_at, file.id)
    )
    assert [file.created_at for file in found] == sorted((f.created_at for f in made), reverse=True)
    with pytest.raises(InvalidRequest):
        await records.files.list(Owner(org.id), cursor="nonsense")


async def test_content_is_held_by_any_file_of_anybody(
    records: Records, org: Organization, other: Organization
) -> None:
    mine = await records.files.create(Owner(org.id), REPORT)
    theirs = await records.files.create(Owner(other.id), REPORT, blob="second")
    digests = [REPORT.sha256, "cd" * 32]
    assert await records.files.blob_of(REPORT.sha256) == REPORT.sha256, "the first one's"
    assert await records.files.release(digests) == []
    await records.files.delete(Owner(org.id), mine.id)
    assert await records.files.release(digests) == [] == await records.files.unheld()
    await records.files.delete(Owner(other.id), theirs.id)
    assert await records.files.unheld() == [REPORT.sha256]
    assert await records.files.named([REPORT.sha256, "second"]) == {REPORT.sha256}
    assert await records.files.release(digests) == [REPORT.sha256]
    assert await records.files.release(digests) == [] == await records.files.unheld()
    assert await records.files.release([]) == []
    assert await records.files.blob_of(REPORT.sha256) is None


async def test_a_content_that_is_getting_a_file_is_not_given_up(
    records: Records, org: Organization, url: str
) -> None:
    """By another node, which asked while the file was not yet committed, and waits."""
    former = await records.files.create(Owner(org.id), REPORT, blob="kept")
    await records.files.delete(Owner(org.id), former.id)
    node = await Records.open(url)
    async with records.files._database.write() as connection:
        await _hold(connection, REPORT, "spare")
        release = asyncio.create_task(node.files.release([REPORT.sha256]))
        assert await asyncio.wait({release}, timeout=0.3) == (set(), {release})
        values = {"id": "file_1", "organization_id": org.id, "name": "a", "content_type": "x/y"}
        values |= {"size": REPORT.size, "sha256": REPORT.sha256, "created_at": 1}
        await connection.execute(tables.files.insert().values(values))
    assert await release == []
    assert await records.files.blob_of(REPORT.sha256) == "kept"
    await node.close()


async def test_a_damaged_blob_is_replaced_by_the_next(records: Records, org: Organization) -> None:
    for blob in ("first", "second"):
        await records.files.create(Owner(org.id), REPORT, blob=blob)
    await records.files.mark_damaged(REPORT.sha256, "second")  # which is nobody's
    await records.files.create(Owner(org.id), REPORT, blob="third")
    assert await records.files.blob_of(REPORT.sha256) == "first"
    await records.files.mark_damaged(REPORT.sha256, "first")
    assert await records.files.blob_of(REPORT.sha256) == "first", "parts of it may be read"
    for blob in ("fourth", "fifth"):
        await records.files.create(Owner(org.id), REPORT, blob=blob)
    assert await records.files.blob_of(REPORT.sha256) == "fourth"


async def test_the_files_of_a_session_go_with_it(records: Records, org: Organization) -> None:
    for session_id in ("sess_1", "sess_2"):
        row = SessionRecord(session_id, org.id, None, "guide", "created", 0, 1.0, 1.0)
        await records.sessions.upsert_many([row])
        await records.files.create(Owner(org.id, None, session_id), REPORT)
    await records.files.create(Owner(org.id), REPORT)
    await records.sessions.delete(["sess_1"])
    left = await records.files.list(Owner(org.id))
    assert {file.owner.session_id for file in left.items} == {"sess_2", None}
