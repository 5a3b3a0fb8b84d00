"""The mirror of sessions: rows in any order, filters, pages, retention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from resonantgenesis_server.records.base import Organization, SessionRecord
from resonantgenesis_server.records.search import Search, text_of
from resonantgenesis_server.records.sessions import DELETED
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio


def session(org: Organization, number: int, **fields: object) -> SessionRecord:
    made = SessionRecord(
        id=f"sess_{number}",
        organization_id=org.id,
        subject=None,
        agent_id="guide",
        status="running",
        turns=1,
        created_at=1_000.0 + number // 2,
        updated_at=2_000.0 + number,
        metadata={"n": number},
    )
    return replace(made, **fields)  # type: ignore[arg-type]


async def test_a_row_is_kept_and_replaced(records: Records, org: Organization) -> None:
    first = session(org, 1)
    await records.sessions.upsert_many([first])
    assert await records.sessions.get(org.id, first.id) == first
    second = replace(first, status="completed", turns=2, updated_at=3_000.5, metadata={})
    await records.sessions.upsert_many([second])
    assert await records.sessions.get(org.id, first.id) == second


async def test_an_older_row_that_comes_late_is_ignored(records: Records, org: Organization) -> None:
    newer = session(org, 1, status="completed", updated_at=5_000.0)
    older = session(org, 1, status="running", updated_at=4_000.0)
    await records.sessions.upsert_many([newer, older])
    await records.sessions.upsert_many([older])
    assert await records.sessions.get(org.id, newer.id) == newer


async def test_a_row_never_moves_to_another_organization(
    records: Records, org: Organization, other: Organization
) -> None:
    mine = session(org, 1)
    await records.sessions.upsert_many([mine])
    await records.sessions.upsert_many([session(other, 1, updated_at=9_000.0)])
    assert await records.sessions.get(org.id, mine.id) == mine
    assert await records.sessions.get(other.id, mine.id) is None


async def test_a_list_is_filtered_and_paged_newest_first(
    records: Records, org: Organization, other: Organization
) -> None:
    rows = [
        session(
            org,
            number,
            subject="ann" if number % 3 else None,
            agent_id=f"agent{number % 2}",
            status="failed" if number % 5 == 0 else "completed",
        )
        for number in range(20)
    ]
    await records.sessions.upsert_many([*rows, session(other, 99, subject="ann")])
    newest = sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)

    async def ids(**filters: str) -> list[str]:
        seen: list[str] = []
        cursor = None
        while True:
            page = await records.sessions.list(org.id, limit=3, cursor=cursor, **filters)  # type: ignore[arg-type]
            seen += [row.id for row in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return seen

    assert await ids() == [row.id for row in newest]
    assert await ids(subject="ann") == [row.id for row in newest if row.subject == "ann"]
    assert await ids(agent_id="agent1") == [row.id for row in newest if row.agent_id == "agent1"]
    assert await ids(status="failed", subject="ann") == [
        row.id for row in newest if row.status == "failed" and row.subject == "ann"
    ]
    assert await ids(subject="nobody") == []


async def found(records: Records, org: Organization, query: str, **more: Any) -> list[str]:
    """The ids that a search finds, which are those that a single session's check finds."""
    search = Search.of(query)
    page = await records.sessions.list(org.id, search=search, **more)
    rows = await records.sessions.list(org.id, **more)
    assert page.items == [row for row in rows.items if search.finds(row)]
    return [row.id for row in page.items]


async def test_a_search_finds_words_of_what_people_remember(
    records: Records, org: Organization, other: Organization
) -> None:
    rows = [
        session(org, 1, first_goal="Wie GROẞ ist die Straße?", subject="Ann"),
        session(org, 2, agent_id="support", metadata={"title": "50% off_sale\0"}),
        session(
            org, 3, metadata={"order": {"numbers": [4711, True]}}, first_goal="ŞİŞLİ Cafe\u0301"
        ),
        session(org, 4, metadata={"title": "５０ off sale"}, status=DELETED),
    ]
    await records.sessions.upsert_many([*rows, session(other, 9, first_goal="groß")])
    cases = {
        "strasse GROSS": ["sess_1"],
        "ann": ["sess_1"],
        "support": ["sess_2"],
        "５０%": ["sess_2"],
        "off_sale": ["sess_2"],
        "off sale": ["sess_2"],
        "of%sale": [],
        "4711": ["sess_3"],
        "true": [],
        "CAFÉ": ["sess_3"],
        "şi̇şli̇": ["sess_3"],
        "café strasse": [],
        " sess_2 ": ["sess_2"],
        "sess_": ["sess_3", "sess_2", "sess_1"],
        "Sess_2": [],
        " ": ["sess_3", "sess_2", "sess_1"],
    }
    assert {query: await found(records, org, query) for query in cases} == cases
    assert await found(records, org, "guide", subject="Ann") == ["sess_1"]
    assert await found(records, org, "guide", status="completed") == []


async def test_a_search_goes_on_where_its_bound_ended(
    records: Records, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonantgenesis_server.records.sessions.SEARCHED", 4)
    rows = [session(org, number, first_goal=f"g{number % 6}") for number in range(14)]
    await records.sessions.upsert_many(rows)
    pages: list[list[str]] = []
    cursor: str | None = None
    while True:
        search = Search.of("g1")
        page = await records.sessions.list(org.id, search=search, limit=5, cursor=cursor)
        pages.append([row.id for row in page.items])
        if (cursor := page.next_cursor) is None:
            break
    assert pages == [["sess_13"], ["sess_7"], [], ["sess_1"]]


async def test_the_text_of_a_search_is_bounded(records: Records, org: Organization) -> None:
    large = session(org, 1, metadata={"a": "x" * 100_000, "b": "needle"})
    await records.sessions.upsert_many([large])
    assert await found(records, org, "xxx") == ["sess_1"]
    assert await found(records, org, "needle") == []
    assert len(text_of(large)) == 2_000


async def test_retention_finds_the_longest_unused_and_deletes_them(
    records: Records, org: Organization, other: Organization
) -> None:
    rows = [session(org, number) for number in range(3)]
    theirs = session(other, 7, updated_at=1_999.0)
    await records.sessions.upsert_many([*rows, theirs])
    old = await records.sessions.last_used_before(2_002.0, limit=2)
    assert list(old) == [theirs, rows[0]]
    await records.sessions.delete([row.id for row in old])
    assert await records.sessions.last_used_before(2_002.0) == [rows[1]]
    await records.sessions.delete([])
    await records.sessions.upsert_many([])


async def test_thousands_are_deleted_at_once(records: Records, org: Organization) -> None:
    rows = [session(org, number) for number in range(2_500)]
    await records.sessions.upsert_many(rows)
    await records.sessions.delete([row.id for row in rows])
    assert (await records.sessions.list(org.id)).items == []


async def test_sessions_whose_asks_expire(records: Records, org: Organization) -> None:
    def asks(*times: float) -> list[dict[str, object]]:
        return [
            {"call_id": f"c{at}", "kind": "input", "tool": "", "expires_at": at} for at in times
        ]

    rows = [
        session(org, 1, status="waiting", waiting=asks(50.0, 70.0)),
        session(org, 2, status="waiting", waiting=asks(60.0)),
        session(org, 3, status="completed"),
    ]
    await records.sessions.upsert_many(rows)
    assert await records.sessions.get(org.id, "sess_1") == rows[0]
    assert await records.sessions.expired(40.0) == ([], 50.0)
    assert await records.sessions.expired(55.0) == (["sess_1"], None)
    assert await records.sessions.expired(60.0) == (["sess_1", "sess_2"], None)
    # Retention leaves them alone.
    assert [row.id for row in await records.sessions.last_used_before(9_000.0)] == ["sess_3"]
    done = [replace(row, status="completed", waiting=(), updated_at=9_000.0) for row in rows]
    await records.sessions.upsert_many(done)
    assert await records.sessions.expired(1_000.0) == ([], None)
