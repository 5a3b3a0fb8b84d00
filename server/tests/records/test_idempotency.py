"""Idempotency-Keys: claimed once, answered again, released, free again in time."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from resonantgenesis_server.records.base import Organization, RequestName
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio

WINDOW, STALE = 100.0, 10.0


async def claim(records: Records, name: RequestName, fingerprint: str = "f") -> object:
    return await records.idempotency.claim(name, fingerprint, window=WINDOW, stale=STALE)


@pytest.fixture
def name(org: Organization) -> RequestName:
    return RequestName(org.id, "", "/v1/agents", "key-1")


async def test_an_answer_is_remembered_for_the_window(
    records: Records, name: RequestName, clock: object
) -> None:
    assert await claim(records, name) is None
    await records.idempotency.finish(name, 201, b"{}")
    known = await claim(records, name, "other")
    assert known is not None
    assert (known.fingerprint, known.status, known.body) == ("f", 201, b"{}")  # type: ignore[attr-defined]
    clock.now += WINDOW - 0.001  # type: ignore[attr-defined]
    assert await claim(records, name) is not None
    clock.now += 0.001  # type: ignore[attr-defined]
    assert await claim(records, name) is None


async def test_a_claim_holds_until_released_or_stale(
    records: Records, name: RequestName, clock: object
) -> None:
    assert await claim(records, name) is None
    running = await claim(records, name)
    assert running is not None and running.status is None  # type: ignore[attr-defined]
    await records.idempotency.release(name)
    assert await claim(records, name) is None
    clock.now += STALE  # type: ignore[attr-defined]
    assert await claim(records, name) is None


async def test_names_differ_in_every_part(
    records: Records, name: RequestName, other: Organization
) -> None:
    names = [
        name,
        replace(name, organization_id=other.id),
        replace(name, subject="ann"),
        replace(name, route="/v1/keys"),
        replace(name, key="key-2"),
    ]
    assert [await claim(records, each) for each in names] == [None] * 5


async def test_of_many_at_once_one_gets_it(records: Records, name: RequestName, url: str) -> None:
    second = await Records.open(url, clock=lambda: 1_770_000_000.25)
    won: list[bool] = []

    async def ask(store: Records) -> None:
        won.append(await claim(store, name) is None)

    async with anyio.create_task_group() as group:
        for store in (records, second) * 8:
            group.start_soon(ask, store)
    await second.close()
    assert won.count(True) == 1 and len(won) == 16


async def test_purging_deletes_what_is_old_within_its_bound(
    records: Records, name: RequestName, clock: object
) -> None:
    for number in range(5):
        assert await claim(records, replace(name, key=str(number))) is None
        clock.now += 1  # type: ignore[attr-defined]
    now = clock()  # type: ignore[operator]
    assert await records.idempotency.purge(now - 1, limit=3) == 3
    assert await records.idempotency.purge(now - 1, limit=3) == 1
    assert await records.idempotency.purge(now - 1, limit=3) == 0
    left = await claim(records, replace(name, key="4"))
    assert left is not None
