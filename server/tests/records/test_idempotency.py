"""Idempotency-Keys: used up with what they make, reserved for what is made elsewhere, free again in
time."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import anyio
import pytest
from resonantgenesis_server.model.errors import Conflict
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.records.base import (
    AgentRecord,
    KeyUsed,
    Once,
    Organization,
    Remembered,
    RequestName,
    StoreUnusable,
)
from resonantgenesis_server.records.files import Content, Owner
from resonantgenesis_server.records.store import Records

from .records_support import run_sql

pytestmark = pytest.mark.anyio

WINDOW = 100.0


async def get(records: Records, name: RequestName) -> Remembered | None:
    return await records.idempotency.get(name, window=WINDOW)


async def reserve(records: Records, name: RequestName, thing: str = "t", body: str = "f") -> Any:
    return await records.idempotency.reserve(name, body, thing, window=WINDOW)


def once(name: RequestName, **more: Any) -> Once[Any]:
    return Once(name, "f", WINDOW, **more)


@pytest.fixture
def name(org: Organization) -> RequestName:
    return RequestName(org.id, "", "/v1/agents", "key-1")


async def test_an_answer_is_remembered_for_the_window(
    records: Records, name: RequestName, clock: Any
) -> None:
    assert await get(records, name) is None
    await records.idempotency.remember(once(name, render=lambda made: made, thing=str), b"{}")
    known = await get(records, name)
    assert known is not None
    assert (known.fingerprint, known.status, known.body) == ("f", 201, b"{}")
    with pytest.raises(KeyUsed):
        await records.idempotency.remember(once(name), None)
    clock.now += WINDOW - 0.001
    assert await get(records, name) is not None
    clock.now += 0.001
    assert await get(records, name) is None
    await records.idempotency.remember(once(name), None)


async def test_a_person_s_keys_are_forgotten_and_no_other_s(
    records: Records, name: RequestName
) -> None:
    scopes = [
        Principal(name.organization_id, "", frozenset(), subject, session).idempotency_scope
        for subject in ("Ann_é", "ann_é", "Ann%é", "Ann_é2")
        for session in (None, "sess_1")
    ]
    for scope in scopes:
        await records.idempotency.remember(once(replace(name, subject=scope)), b"{}")
    assert (await records.erasure.forget_subject(name.organization_id, "Ann_é")) == (0, 2)
    found = [await get(records, replace(name, subject=scope)) is not None for scope in scopes]
    assert found == [False, False, *[True] * 6]


async def test_what_is_made_and_its_key_are_one(records: Records, org: Organization) -> None:
    """Each repository that makes something: a key that was used makes nothing more."""
    owner, content = Owner(org.id), Content("a", "text/plain", 1, "0" * 64)
    agent = AgentRecord("agent_1", org.id, "a", "guide")
    scopes = frozenset({"*"})

    async def make(what: str, number: int, key: Once[Any]) -> Any:
        match what:
            case "file":
                return await records.files.create(owner, content, once=key)
            case "agent":
                return await records.agents.create(replace(agent, id=f"agent_{number}"), once=key)
            case "key":
                return await records.keys.create(
                    org.id, name="k", hash=f"k{number}", scopes=scopes, once=key
                )
            case _:
                made, _ = await records.organizations.create_with_key(
                    "o", key_name="k", hash=f"o{number}", scopes=scopes, once=key
                )
                return made

    async def count(what: str) -> int:
        match what:
            case "file":
                return len((await records.files.list(owner)).items)
            case "agent":
                return len((await records.agents.list(org.id)).items)
            case "key":
                return len((await records.keys.list(org.id)).items)
            case _:
                return len((await records.organizations.all()).items)

    for what in ("file", "agent", "key", "organization"):
        name = RequestName(org.id, "", what, "k")
        key = once(name, thing=lambda made: made.id, render=lambda made: made.id.encode())
        before = await count(what)
        made = await make(what, 1, key)
        known = await get(records, name)
        assert known is not None
        assert (known.body, known.thing) == (made.id.encode(), made.id)
        with pytest.raises(KeyUsed):
            await make(what, 2, key)
        assert await count(what) == before + 1

        def fail(_made: Any) -> bytes:
            raise StoreUnusable("no space left")

        other = replace(name, key="other")
        with pytest.raises(StoreUnusable):
            await make(what, 3, once(other, render=fail))
        assert await count(what) == before + 1
        assert await get(records, other) is None


async def test_what_is_refused_does_not_use_its_key_up(
    records: Records, org: Organization, name: RequestName
) -> None:
    agent = AgentRecord("agent_1", org.id, "a", "guide")
    await records.agents.create(agent)
    with pytest.raises(Conflict):
        await records.agents.create(agent, once=once(name))
    assert await get(records, name) is None


async def test_what_is_reserved_is_the_same_until_it_is_answered(
    records: Records, name: RequestName, clock: Any
) -> None:
    assert (await reserve(records, name, "sess_1")).thing == "sess_1"
    clock.now += WINDOW / 2  # the process died, or its store failed
    again = await reserve(records, name, "sess_2", "other")
    assert (again.thing, again.status, again.fingerprint) == ("sess_1", None, "f")
    await records.idempotency.finish(name, 201, b"{}")
    done = await reserve(records, name, "sess_3")
    assert (done.thing, done.status, done.body) == ("sess_1", 201, b"{}")
    await records.idempotency.release(name)  # too late: it was answered
    assert await get(records, name) is not None
    clock.now += WINDOW / 2
    assert (await reserve(records, name, "sess_4")).thing == "sess_4"
    await records.idempotency.release(name)
    assert await get(records, name) is None


async def test_a_claim_of_the_version_before_holds_nobody_up(
    records: Records, name: RequestName, clock: Any
) -> None:
    await run_sql(
        records._database,
        "INSERT INTO idempotency (organization_id, subject, route, key, fingerprint, created_at)"
        " VALUES (:organization_id, :subject, :route, :key, 'x', :now)",
        now=round(clock.now * 1e6),
        **asdict(name),
    )
    assert (await reserve(records, name, "sess_1")).thing == "sess_1"


async def test_names_differ_in_every_part(
    records: Records, name: RequestName, other: Organization
) -> None:
    for each in (
        name,
        replace(name, organization_id=other.id),
        replace(name, subject="ann"),
        replace(name, route="/v1/keys"),
        replace(name, key="key-2"),
    ):
        await records.idempotency.remember(once(each), None)


async def test_of_many_at_once_one_gets_it(records: Records, name: RequestName, url: str) -> None:
    second = await Records.open(url, clock=lambda: 1_770_000_000.25)
    won: list[bool] = []
    things: set[str] = set()

    async def ask(store: Records, number: int) -> None:
        things.add((await reserve(store, replace(name, key="r"), f"t{number}")).thing)
        try:
            await store.idempotency.remember(once(name), None)
        except KeyUsed:
            won.append(False)
        else:
            won.append(True)

    async with anyio.create_task_group() as group:
        for number, store in enumerate((records, second) * 8):
            group.start_soon(ask, store, number)
    await second.close()
    assert won.count(True) == 1 and len(won) == 16
    assert len(things) == 1


async def test_purging_deletes_what_is_old_within_its_bound(
    records: Records, name: RequestName, clock: Any
) -> None:
    for number in range(5):
        await records.idempotency.remember(once(replace(name, key=str(number))), None)
        clock.now += 1
    now = clock()
    assert await records.idempotency.purge(now - 1, limit=3) == 3
    assert await records.idempotency.purge(now - 1, limit=3) == 1
    assert await records.idempotency.purge(now - 1, limit=3) == 0
    assert await get(records, replace(name, key="4")) is not None
