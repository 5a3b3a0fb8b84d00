"""Keys and secrets: found by hash, listed, revoked; the secret stays outside the database."""

from __future__ import annotations

import stat
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.model.errors import Conflict, InvalidRequest
from resonantgenesis_server.records.base import KeyRecord, Organization, StoreUnusable
from resonantgenesis_server.records.bootstrap import bootstrap
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets, new_api_key
from resonantgenesis_server.records.paging import decode_cursor, encode_cursor
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio


async def make(records: Records, org: Organization, hash: str, **fields: object) -> KeyRecord:
    scopes = frozenset({"agents:read"})
    return await records.keys.create(
        org.id,
        name=hash,
        hash=hash,
        scopes=scopes,
        **fields,  # type: ignore[arg-type]
    )


async def test_a_key_is_found_by_its_hash(records: Records, org: Organization) -> None:
    made = await make(records, org, "h1", expires_at=1_770_000_100.125)
    assert await records.keys.find_by_hash("h1") == made
    assert await records.keys.find(made.id) == made
    assert made.scopes == {"agents:read"}
    assert made.created_at == 1_770_000_000.25
    assert made.expires_at == 1_770_000_100.125
    assert await records.keys.find_by_hash("h2") is None
    assert await records.keys.find("key_none") is None


async def test_a_hash_is_unique_over_all_organizations(
    records: Records, org: Organization, other: Organization
) -> None:
    await make(records, org, "same")
    with pytest.raises(Conflict):
        await make(records, other, "same")


async def test_a_key_of_no_organization_is_not_kept(records: Records) -> None:
    nobody = Organization("org_none", "none", 0.0)
    with pytest.raises(StoreUnusable):
        await make(records, nobody, "h")
    assert await records.keys.find_by_hash("h") is None


async def test_revoking_is_final_and_stays_in_the_organization(
    records: Records, org: Organization, other: Organization, clock: object
) -> None:
    made = await make(records, org, "h1")
    assert await records.keys.revoke(other.id, made.id) is None
    kept = await records.keys.find(made.id)
    assert kept is not None and kept.revoked_at is None

    first = await records.keys.revoke(org.id, made.id)
    clock.now += 5  # type: ignore[attr-defined]
    again = await records.keys.revoke(org.id, made.id)
    assert first is not None and first == again
    assert first.revoked_at is not None and not first.is_live(0.0)


async def test_an_expired_key_is_not_live() -> None:
    key = KeyRecord("k", "o", "n", "h", frozenset(), 0.0, expires_at=10.0)
    assert key.is_live(9.999)
    assert not key.is_live(10.0)


async def test_a_list_is_paged_newest_first(
    records: Records, org: Organization, other: Organization, clock: object
) -> None:
    await make(records, other, "foreign")
    made = []
    for number in range(7):
        # Two of each moment, so that only the id keeps them apart.
        clock.now += number % 2  # type: ignore[attr-defined]
        made.append(await make(records, org, f"h{number}"))
    expected = sorted(made, key=lambda key: (key.created_at, key.id), reverse=True)
    seen: list[KeyRecord] = []
    cursor = None
    while True:
        page = await records.keys.list(org.id, limit=2, cursor=cursor)
        assert len(page.items) <= 2
        seen.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == expected
    whole = await records.keys.list(org.id, limit=7)
    assert whole.next_cursor is None


@given(cursor=st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)))
def test_what_no_list_made_is_not_a_cursor(cursor: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_cursor(cursor, int, str)
    assert caught.value.details["fields"].keys() == {"cursor"}


@given(made=st.integers(0, 2**63 - 1), last=st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True))
def test_a_cursor_is_read_as_it_was_made(made: int, last: str) -> None:
    assert decode_cursor(encode_cursor(made, last), int, str) == (made, last)
    with pytest.raises(InvalidRequest):
        decode_cursor(encode_cursor(last, made), int, str)


@pytest.mark.parametrize("key", [(2**63, "x"), (-1, "x"), (1, "x\0"), (True, "x"), (1,)])
def test_a_cursor_that_a_database_could_not_compare_is_refused(key: tuple[int | str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        decode_cursor(encode_cursor(*key), int, str)


async def test_a_list_refuses_a_foreign_cursor(records: Records, org: Organization) -> None:
    for refused in (
        records.keys.list(org.id, cursor="x"),
        records.agents.list(org.id, cursor="x"),
        records.sessions.list(org.id, cursor="x"),
    ):
        with pytest.raises(InvalidRequest):
            await refused


async def test_a_secret_is_made_once(records: Records, url: str) -> None:
    made = await records.secrets.get_or_create("signing", 32)
    assert len(made) == 32
    second = await Records.open(url)
    assert await second.secrets.get_or_create("signing", 32) == made
    assert await second.secrets.get_or_create("other", 16) != made
    await second.close()


async def test_a_secret_asked_for_at_once_is_one(records: Records, url: str) -> None:
    second = await Records.open(url)
    found: list[bytes] = []

    async def ask(store: Records) -> None:
        found.append(await store.secrets.get_or_create("race"))

    async with anyio.create_task_group() as group:
        for store in (records, second) * 5:
            group.start_soon(ask, store)
    await second.close()
    assert len(set(found)) == 1 and len(found) == 10


async def test_the_first_start_makes_a_key_and_the_next_does_not(
    records: Records, tmp_path: Path
) -> None:
    hasher, file = CredentialHasher(b"s" * 32), tmp_path / "api-key"
    first = await bootstrap(records, hasher, None, file)
    assert first.generated is not None
    key = await records.keys.find_by_hash(hasher.hash(first.generated))
    assert key is not None and key.is_bootstrap and key.scopes == {"*"}
    assert key.organization_id == first.organization_id
    assert file.read_text() == f"{first.generated}\n"
    again = await bootstrap(records, hasher, None, file)
    assert again.generated is None and again.organization_id == first.organization_id


async def test_a_configured_key_takes_the_place_of_the_earlier_ones(
    records: Records, tmp_path: Path
) -> None:
    hasher, file = CredentialHasher(b"s" * 32), tmp_path / "api-key"
    generated = (await bootstrap(records, hasher, None, file)).generated
    assert generated is not None
    for configured in ("configured key one", "configured key one", "configured key two"):
        assert (await bootstrap(records, hasher, configured, file)).generated is None
    live = {}
    for credential in (generated, "configured key one", "configured key two"):
        key = await records.keys.find_by_hash(hasher.hash(credential))
        assert key is not None
        live[credential] = key.revoked_at is None
    assert list(live.values()) == [False, False, True]
    with pytest.raises(Conflict):
        await bootstrap(records, hasher, "configured key one", file)


def test_the_secret_file_is_made_once_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    (made,) = load_secrets(path)
    assert len(made) == 32
    assert load_secrets(path) == (made,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("content", ["", "zz", "ab" * 31, "\xff\xfe"])
def test_a_damaged_secret_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    with pytest.raises(StoreUnusable, match="not a secret"):
        load_secrets(path)
    assert path.read_text() == content


def test_a_secret_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable) as caught:
        load_secrets(tmp_path / "missing" / "secret")
    assert "\n" not in str(caught.value)


@given(one=st.text(), two=st.text())
def test_a_hash_depends_on_the_credential_and_the_secret(one: str, two: str) -> None:
    hasher = CredentialHasher(b"a" * 32)
    assert (hasher.hash(one) == hasher.hash(two)) == (one == two)
    assert hasher.hash(one) != CredentialHasher(b"b" * 32).hash(one)


def test_generated_keys_are_long_and_different() -> None:
    keys = {new_api_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("rg_live_") and len(key) == 40 for key in keys)


async def test_all_organizations_come_in_pages_oldest_first(
    records: Records, clock: object
) -> None:
    made = []
    for number in range(7):
        clock.now += number % 2  # type: ignore[attr-defined]
        made.append(await records.organizations.create(str(number)))
    seen = []
    cursor = None
    while True:
        page = await records.organizations.all(limit=3, cursor=cursor)
        assert len(page.items) <= 3
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(made, key=lambda one: (one.created_at, one.id))
    with pytest.raises(InvalidRequest):
        await records.organizations.all(cursor="x")
