"""What turns took: rows once each, sums that add up, pages that hold together."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.model.errors import InvalidRequest
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.files import Owner
from resonantgenesis_server.records.paging import encode_cursor
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.usage import (
    GroupBy,
    UsageFilter,
    UsageGroup,
    UsagePlace,
    UsageRow,
    UsageSums,
)

pytestmark = pytest.mark.anyio

DAY = 86_400.0
START = 20_000 * DAY  # 2024-10-04
ALL = UsageFilter(0.0)
GROUPS: Sequence[GroupBy] = ("day", "agent", "key", "subject", "session", "turn")


def row(org: str, number: int, **fields: Any) -> UsageRow:
    made = UsageRow(
        organization_id=org,
        session_id=f"sess_{number // 3}",
        turn=number % 3 + 1,
        agent_id=f"agent{number // 3 % 2}",
        key_id=f"key{number % 4}",
        subject=("ann", "bob", None)[number // 3 % 3],
        status="success",
        input_tokens=number,
        output_tokens=10 * number,
        steps=1,
        duration_ms=100,
        ended_at=START + number * DAY / 5 + 0.25,
    )
    return replace(made, **fields)


def place(position: int, month: str | None = None) -> UsagePlace:
    return UsagePlace("epoch", position, month)


def sums(rows: Sequence[UsageRow]) -> UsageSums:
    return UsageSums(
        len(rows),
        sum(r.input_tokens for r in rows),
        sum(r.output_tokens for r in rows),
        sum(r.steps for r in rows),
        sum(r.duration_ms for r in rows),
    )


async def groups(
    records: Records, owner: Owner, by: GroupBy, wanted: UsageFilter = ALL, limit: int = 3
) -> tuple[list[UsageGroup], UsageSums]:
    """All pages; each says the same totals."""
    found: list[UsageGroup] = []
    cursor = None
    while True:
        report = await records.usage.report(owner, wanted, by, limit=limit, cursor=cursor)
        found += report.page.items
        cursor = report.page.next_cursor
        assert len(report.page.items) == limit or cursor is None
        if cursor is None:
            return found, report.totals


async def test_places_and_rows_are_kept_together(records: Records, org: Organization) -> None:
    assert await records.usage.place(org.id) is None
    await records.usage.take_in(org.id, [row(org.id, 1)], place(7))
    assert await records.usage.place(org.id) == place(7)
    await records.usage.take_in(org.id, [], place(9, "2024-10"))
    assert await records.usage.place(org.id) == place(9, "2024-10")
    with pytest.raises(ValueError, match="another"):
        await records.usage.take_in(org.id, [row("org_other", 2)], place(11))
    assert await records.usage.place(org.id) == place(9, "2024-10")
    assert (await records.usage.report(Owner(org.id), ALL, "day")).totals.turns == 1


async def test_numbers_are_large(records: Records, org: Organization) -> None:
    large = 2**40
    rows = [
        replace(row(org.id, n), input_tokens=large, output_tokens=2**60, duration_ms=2**31 - 1)
        for n in range(3)
    ]
    await records.usage.take_in(org.id, rows, place(2**53))
    assert await records.usage.place(org.id) == place(2**53)
    report = await records.usage.report(Owner(org.id), ALL, "turn")
    assert {group.sums.input_tokens for group in report.page.items} == {large}
    assert report.totals.input_tokens == 3 * large
    for by in GROUPS:
        with contextlib.suppress(InvalidRequest):  # of a grouping by names
            cursor = encode_cursor(by, 2**62, "s", 2**62) if by == "turn" else encode_cursor(by, 1)
            await records.usage.report(Owner(org.id), ALL, by, cursor=cursor)


async def test_a_row_that_comes_again_doubles_nothing(records: Records, org: Organization) -> None:
    rows = [row(org.id, number) for number in range(6)]
    for _ in range(3):
        await records.usage.take_in(org.id, rows, place(6))
    _, totals = await groups(records, Owner(org.id), "turn")
    assert totals == sums(rows)
    # What the log says now is what counts.
    await records.usage.take_in(org.id, [replace(rows[0], input_tokens=1_000)], place(7))
    _, totals = await groups(records, Owner(org.id), "turn")
    assert totals.input_tokens == sums(rows).input_tokens + 1_000


async def test_days_newest_first(records: Records, org: Organization) -> None:
    rows = [row(org.id, number) for number in range(20)]
    await records.usage.take_in(org.id, rows, place(20))
    found, totals = await groups(records, Owner(org.id), "day")
    assert [group.names for group in found] == [
        {"day": day} for day in ("2024-10-07", "2024-10-06", "2024-10-05", "2024-10-04")
    ]
    assert [group.sums for group in found] == [
        sums(rows[start : start + 5]) for start in (15, 10, 5, 0)
    ]
    assert totals == sums(rows)
    assert totals.total_tokens == totals.input_tokens + totals.output_tokens


async def test_every_other_grouping(records: Records, org: Organization) -> None:
    rows = [row(org.id, number) for number in range(20)]
    await records.usage.take_in(org.id, rows, place(20))
    owner = Owner(org.id)
    for by, name in (("agent", "agent_id"), ("key", "key_id"), ("subject", "subject")):
        found, _ = await groups(records, owner, by, limit=1)  # type: ignore[arg-type]
        values = sorted({getattr(r, name) or "" for r in rows})
        assert [group.names for group in found] == [{name: value or None} for value in values]
        assert [group.sums for group in found] == [
            sums([r for r in rows if (getattr(r, name) or "") == value]) for value in values
        ]
    found, _ = await groups(records, owner, "session")
    assert found[0].names == {"session_id": "sess_0", "agent_id": "agent0", "subject": "ann"}
    assert found[2].names["subject"] is None
    assert [group.sums.turns for group in found] == [3] * 6 + [2]
    found, _ = await groups(records, owner, "turn")
    assert [group.names["ended_at"] for group in found] == [r.ended_at for r in reversed(rows)]
    assert found[0].names == {
        "session_id": "sess_6", "turn": 2, "agent_id": "agent0", "subject": "ann",
        "key_id": "key3", "status": "success", "ended_at": rows[-1].ended_at,
    }  # fmt: skip
    assert found[0].sums == sums(rows[-1:])


async def test_turns_that_ended_at_once_are_on_one_page_each(
    records: Records, org: Organization
) -> None:
    rows = [row(org.id, number, ended_at=START) for number in range(9)]
    await records.usage.take_in(org.id, rows, place(9))
    found, _ = await groups(records, Owner(org.id), "turn", limit=2)
    names = [(group.names["session_id"], group.names["turn"]) for group in found]
    assert names == sorted(((r.session_id, r.turn) for r in rows), reverse=True)


async def test_a_caller_sees_its_own(
    records: Records, org: Organization, other: Organization
) -> None:
    rows = [row(org.id, number) for number in range(20)]
    await records.usage.take_in(org.id, rows, place(20))
    await records.usage.take_in(other.id, [row(other.id, 1)], place(1))
    for by in GROUPS:
        _, totals = await groups(records, Owner(org.id), by)
        assert totals == sums(rows)
        _, totals = await groups(records, Owner(org.id, subject="ann"), by)
        assert totals == sums([r for r in rows if r.subject == "ann"])
        bound = Owner(org.id, session_id="sess_1", agent_id="agent1")
        assert (await groups(records, bound, by))[1] == sums(rows[3:6])
        asked = UsageFilter(0.0, fields={"subject": "bob"})
        assert await groups(records, Owner(org.id, subject="ann"), by, asked) == ([], UsageSums())
        assert await groups(records, Owner("org_none"), by) == ([], UsageSums())


async def test_filters_and_times(records: Records, org: Organization) -> None:
    rows = [row(org.id, number) for number in range(20)]
    await records.usage.take_in(org.id, rows, place(20))
    owner = Owner(org.id)
    for fields in ({"agent_id": "agent1"}, {"key_id": "key2"}, {"session_id": "sess_2"}):
        (name, value), *_ = fields.items()
        _, totals = await groups(records, owner, "day", UsageFilter(0.0, fields=fields))
        assert totals == sums([r for r in rows if getattr(r, name) == value])
    wanted = UsageFilter(rows[3].ended_at, rows[9].ended_at)
    assert (await groups(records, owner, "turn", wanted))[1] == sums(rows[3:9])
    assert (await records.usage.standing(org.id, rows[15].ended_at))[0] == sums(
        rows[15:]
    ).total_tokens
    assert (await records.usage.standing("org_none", 0.0))[0] == 0
    assert (await records.usage.standings([org.id, "org_none"], 0.0)).keys() == {org.id}


async def test_a_cursor_belongs_to_its_grouping(records: Records, org: Organization) -> None:
    await records.usage.take_in(org.id, [row(org.id, n) for n in range(9)], place(9))
    owner = Owner(org.id)
    for by in GROUPS:
        cursor = (await records.usage.report(owner, ALL, by, limit=1)).page.next_cursor
        assert cursor is not None
        for wrong in GROUPS:
            if wrong != by:
                with pytest.raises(InvalidRequest):
                    await records.usage.report(owner, ALL, wrong, cursor=cursor)
        with pytest.raises(InvalidRequest):
            await records.usage.report(owner, ALL, by, cursor="nonsense")


async def test_old_rows_go_in_steps(
    records: Records, org: Organization, other: Organization
) -> None:
    rows = [row(org.id, number) for number in range(20)]
    await records.usage.take_in(org.id, rows, place(20))
    await records.usage.take_in(other.id, [row(other.id, 1)], place(1))
    assert await records.usage.purge(rows[10].ended_at, limit=8) == 8
    assert await records.usage.purge(rows[10].ended_at, limit=8) == 3
    assert await records.usage.purge(rows[10].ended_at, limit=8) == 0
    assert (await groups(records, Owner(org.id), "day"))[1] == sums(rows[10:])
    assert (await groups(records, Owner(other.id), "day"))[1].turns == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.integers(0, 15), max_size=6), max_size=6),
    by=st.sampled_from(GROUPS),
    limit=st.integers(1, 5),
)
async def test_however_rows_arrive_pages_and_totals_agree(
    records: Records, batches: list[list[int]], by: GroupBy, limit: int
) -> None:
    org = (await records.organizations.create("of its own")).id
    for batch in batches:
        await records.usage.take_in(org, [row(org, number) for number in batch], place(1))
    rows = [row(org, number) for number in sorted(set().union(*batches))]
    found, totals = await groups(records, Owner(org), by, limit=limit)
    assert totals == sums(rows)
    assert sum(group.sums.turns for group in found) == totals.turns
    assert sum(group.sums.total_tokens for group in found) == totals.total_tokens
    assert len({str(group.names) for group in found}) == len(found)
