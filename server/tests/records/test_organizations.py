"""Organizations with their first key, disabled ones; secrets that have versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from resonantgenesis_server.model.errors import Conflict
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.bootstrap import bootstrap
from resonantgenesis_server.records.credentials import CredentialHasher
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio
ALL = frozenset({"*"})


async def test_an_organization_comes_with_its_key_or_not_at_all(
    records: Records, org: Organization
) -> None:
    made, key = await records.organizations.create_with_key(
        "new", key_name="first", hash="h1", scopes=ALL
    )
    assert await records.organizations.get(made.id) == made
    assert await records.keys.find_by_hash("h1") == key
    assert (key.organization_id, key.name, key.scopes) == (made.id, "first", ALL)
    assert not key.is_bootstrap
    with pytest.raises(Conflict):
        await records.organizations.create_with_key("none", key_name="first", hash="h1", scopes=ALL)
    assert {one.id for one in (await records.organizations.all()).items} == {org.id, made.id}


async def test_changes_of_an_organization(
    records: Records, org: Organization, other: Organization, clock: object
) -> None:
    key = await records.keys.create(org.id, name="k", hash="h", scopes=ALL)
    disabled = await records.organizations.update(org.id, disabled=True)
    assert disabled is not None and disabled.disabled_at == clock.now  # type: ignore[attr-defined]
    clock.now += 5  # type: ignore[attr-defined]
    assert await records.organizations.update(org.id, disabled=True) == disabled
    for found in (await records.keys.find(key.id), await records.keys.find_by_hash("h")):
        assert found is not None and found.is_suspended and not found.is_live(0.0)
    assert await records.organizations.get(other.id) == other
    enabled = await records.organizations.update(org.id, name="renamed", disabled=False)
    assert enabled == Organization(org.id, "renamed", org.created_at)
    assert await records.keys.find(key.id) == key and key.is_live(0.0)
    assert await records.organizations.update(org.id) == enabled
    assert await records.organizations.update("org_none", name="x") is None


async def test_versions_of_a_secret(records: Records, clock: object) -> None:
    first = (await records.secrets.versions("s"))[0]
    assert await records.secrets.get_or_create("s") == first.value
    made = [first]
    for _ in range(11):  # two digits sort behind one
        clock.now += 1  # type: ignore[attr-defined]
        made.append(await records.secrets.renew("s", keep=1_000, most=50))
    assert await records.secrets.versions("s") == made[::-1]
    assert len({version.value for version in made}) == 12
    # None of the four replaced in the last three seconds is given up.
    made.append(await records.secrets.renew("s", keep=3, most=50))
    assert await records.secrets.versions("s") == made[:-6:-1]
    made.append(await records.secrets.renew("s", keep=0, most=0))
    assert await records.secrets.versions("s") == made[:-2:-1]
    # Others of a similar name are left alone.
    assert len(await records.secrets.versions("st")) == 1
    assert len(await records.secrets.versions("s")) == 1


async def test_a_secret_is_not_renewed_beyond_what_is_kept(records: Records) -> None:
    for _ in range(2):
        await records.secrets.renew("s", keep=1_000, most=2)
    before = await records.secrets.versions("s")
    with pytest.raises(Conflict):
        await records.secrets.renew("s", keep=1_000, most=2)
    assert await records.secrets.versions("s") == before


async def test_renewed_at_once_by_two_processes_it_has_each_version(
    records: Records, url: str, clock: Callable[[], float]
) -> None:
    second = await Records.open(url, clock=clock)
    async with anyio.create_task_group() as group:
        for store in (records, second) * 3:
            group.start_soon(lambda s=store: s.secrets.renew("s", keep=1e6, most=50))
    versions = await records.secrets.versions("s")
    assert len(versions) == 7 and versions == await second.secrets.versions("s")
    await second.close()


async def test_a_key_of_a_tenant_cannot_become_the_bootstrap_key(
    records: Records, org: Organization, other: Organization, tmp_path: Path
) -> None:
    hasher = CredentialHasher(b"s" * 32)
    generated = (await bootstrap(records, hasher, None, tmp_path / "api-key")).generated
    assert generated is not None
    hashed = hasher.hash("a key of a tenant")
    await records.keys.create(other.id, name="k", hash=hashed, scopes=ALL)
    with pytest.raises(Conflict, match="another key"):
        await bootstrap(records, hasher, "a key of a tenant", tmp_path / "api-key")
    kept = await records.keys.find_by_hash(hasher.hash(generated))
    assert kept is not None and kept.is_bootstrap and kept.revoked_at is None
