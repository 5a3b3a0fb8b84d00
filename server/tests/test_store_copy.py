"""A whole store copied into another one, and what breaks off in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server import store_copy
from resonantgenesis_server.datadir.lock import lock_data
from resonantgenesis_server.files.disk import DiskBlobs
from resonantgenesis_server.log.base import Append, LogUnavailable, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.spread import SpreadLog
from resonantgenesis_server.log.postgres.transfer import PostgresRows
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.logging.startup import StartupError
from resonantgenesis_server.records.base import RequestName, StoreUnusable
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets
from resonantgenesis_server.records.files import Content, Owner
from resonantgenesis_server.records.server_secret import check_secret
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.store_copy import CopyRefused, StorePlace, copy_store
from support.postgres import PostgresServer

pytestmark = pytest.mark.anyio
SECRET = "5e" * 32
Copy = Callable[..., Awaitable[store_copy.Copied]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def embedded(folder: Path) -> StorePlace:
    return StorePlace.parse(f"sqlite:{folder}")


async def log_of(place: StorePlace) -> SqliteLog | PostgresLog | SpreadLog:
    if len(place.urls) > 1:
        return await SpreadLog.open(place.urls, beat_seconds=0.05)
    if place.data is None:
        return await PostgresLog.open(place.url, beat_seconds=0.05)
    return await SqliteLog.open(place.data / "log.db")


async def fill(place: StorePlace) -> None:
    """A bit of everything that a store can hold."""
    if place.data is not None:
        place.data.mkdir()
        load_secrets(place.data / "secret")
    records = await Records.open(place.url)
    organization = await records.organizations.create("Acme")
    await records.keys.create(organization.id, name="k", hash="ab" * 32, scopes=frozenset({"*"}))
    name = RequestName(organization.id, "", "/v1/x", "key")
    await records.idempotency.reserve(name, "f" * 64, "sess_1", window=3600)
    await records.secrets.get_or_create("tokens")
    await records.close()
    log = await log_of(place)
    try:
        fence = await log.next_fence()
        entries = [NewEntry("text", b'{"n":%d}' % n, f"k{n}" if n % 3 else None) for n in range(50)]
        await log.append(Append("sess_1", entries[:30], fence=fence))
        await log.append(Append("sess_1", entries[30:], fence=fence))
        await log.append(
            Append("sess_1/turns", [NewEntry("turn", b"{}")], fence=fence, pending=True)
        )
        await log.append(Append("closed", [NewEntry("a", b"1")], close=True))
        await log.append(Append("trimmed", entries[:10]))
        await log.trim("trimmed", 8)
        await log.append(Append("emptied", entries[:4]))
        await log.trim("emptied", 5)
        await log.append(Append("deleted", entries))
        await log.delete("deleted")
        await log.append(Append("ünï\0", [NewEntry("ö", b"2", "ü")]))
        assert await log.claim("scope", "key", b"value", ttl=3600) is None
    finally:
        await log.close()


STREAMS = ("sess_1", "sess_1/turns", "closed", "trimmed", "emptied", "deleted", "ünï\0")


async def content(place: StorePlace) -> dict[str, Any]:
    """What readers see of the log and the records."""
    log = await log_of(place)
    try:
        found: dict[str, Any] = {name: await log.read(name, 0) for name in STREAMS}
        found["epoch"], found["pending"] = log.epoch, sorted(await log.pending())
        found["key"] = await log.locate("sess_1", key="k31")
        found["at"] = await log.locate("sess_1", at=found["sess_1"].entries[30].at)
        found["claimed"] = await log.lookup("scope", "key")
    finally:
        await log.close()
    records = await Records.open(place.url)
    try:
        organization = await records.organizations.first()
        assert organization is not None
        found["organization"] = organization
        found["keys"] = (await records.keys.list(organization.id)).items
        found["secret"] = await records.secrets.get_or_create("tokens")
        name = RequestName(organization.id, "", "/v1/x", "key")
        remembered = await records.idempotency.get(name, window=3600)
        found["remembered"] = remembered and (remembered.thing, remembered.fingerprint)
    finally:
        await records.close()
    return found


def silent(_phase: str, _done: int, _total: int) -> None: ...


@pytest.fixture
async def copied_to_postgres(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[StorePlace, StorePlace]]:
    """A store to be copied, and where to: one database, or as many as the parameter says."""
    urls = [postgres_server.database() for _ in range(getattr(request, "param", 1))]
    monkeypatch.setattr("resonantgenesis_server.log.sqlite.transfer.PAGE_ROWS", 7)
    monkeypatch.setattr("resonantgenesis_server.log.postgres.transfer.PAGE_ROWS", 7)
    source, target = embedded(tmp_path / "data"), StorePlace.parse(",".join(urls))
    await fill(source)
    yield source, target
    for url in urls:
        postgres_server.recycle(url)


ONE_AND_TWO = pytest.mark.parametrize("copied_to_postgres", [1, 2], indirect=True)


@ONE_AND_TWO
async def test_everything_is_there_on_postgres_and_back(
    copied_to_postgres: tuple[StorePlace, StorePlace], tmp_path: Path
) -> None:
    source, target = copied_to_postgres
    copied = await copy_store(source, target, secret=None, report=silent)
    assert (copied.streams, copied.entries) == (6, 50 + 1 + 1 + 3 + 1)
    assert any("RESONANTGENESIS_SECRET_FILE=" in line for line in copied.lines)
    before = await content(source)
    assert await content(target) == before
    records = await Records.open(target.url)
    assert source.data is not None
    secret = (source.data / "secret").read_text().strip()
    hasher = CredentialHasher(bytes.fromhex(secret))
    await check_secret(records.server_secret, hasher, hasher.current)
    with pytest.raises(StoreUnusable):
        other = CredentialHasher(bytes.fromhex(SECRET))
        await check_secret(records.server_secret, other, other.current)
    await records.close()
    log = await log_of(target)  # it goes on from here
    assert await log.next_fence() > before["sess_1"].info.fence
    assert await log.append(Append("sess_1", [NewEntry("text", b"{}", "k31")])) == [50]
    assert await log.append(Append("sess_1", [NewEntry("text", b"{}")])) == [51]
    assert await log.append(Append("trimmed", [NewEntry("text", b"{}")])) == [11]
    assert await log.append(Append("emptied", [NewEntry("text", b"{}")])) == [5]
    assert await log.append(Append("new", [NewEntry("text", b"{}")])) == [1]
    await log.close()
    changed = await content(target)
    back = embedded(tmp_path / "back")
    with pytest.raises(StoreUnusable, match="secret is not the one"):
        await copy_store(target, back, secret=SECRET, report=silent)
    await copy_store(target, back, secret=secret, report=silent)
    assert await content(back) == changed
    assert back.data is not None and load_secrets(back.data / "secret")[0].hex() == secret


@ONE_AND_TWO
async def test_a_copy_that_broke_off_goes_on_and_is_opened_by_no_server(
    copied_to_postgres: tuple[StorePlace, StorePlace],
) -> None:
    source, target = copied_to_postgres
    stops = iter(range(1, 100))
    attempts = 0
    while True:
        left = next(stops)

        def broken(_phase: str, _done: int, _total: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise ConnectionError

        try:
            await copy_store(source, target, secret=None, report=broken)
            break
        except (ConnectionError, ExceptionGroup):
            attempts += 1
        with pytest.raises(LogUnavailable, match="broke off"):
            await log_of(target)
        with pytest.raises(StoreUnusable, match="has not ended"):
            await Records.open(target.url)
    assert attempts > 3
    assert await content(target) == await content(source)


async def test_what_is_refused(
    copied_to_postgres: tuple[StorePlace, StorePlace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = copied_to_postgres
    assert source.data is not None
    with lock_data(source.data), pytest.raises(StartupError, match="in use"):
        await copy_store(source, target, secret=None, report=silent)
    with pytest.raises(CopyRefused, match="no store"):
        await copy_store(embedded(tmp_path / "none"), target, secret=None, report=silent)
    with pytest.raises(CopyRefused, match="same store"):
        await copy_store(source, source, secret=None, report=silent)
    other = embedded(tmp_path / "other")
    await fill(other)
    with pytest.raises(CopyRefused, match="not empty"):
        await copy_store(source, other, secret=None, report=silent)
    log = await log_of(target)
    with pytest.raises(LogUnavailable, match="stop them first"):
        await copy_store(source, target, secret=None, report=silent)
    await log.close()

    async def lossy(self: object, rows: object) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(
            "resonantgenesis_server.log.postgres.transfer.PostgresRows.add_entries", lossy
        )
        with pytest.raises(CopyRefused, match="number of streams or entries"):
            await copy_store(source, target, secret=None, report=silent)
    with pytest.raises(CopyRefused, match="another store"):
        await copy_store(other, target, secret=None, report=silent)
    log = await log_of(source)
    await log.next_fence()  # a server was started on it
    await log.close()
    with pytest.raises(CopyRefused, match="earlier state"):
        await copy_store(source, target, secret=None, report=silent)


async def test_a_changed_byte_is_found(copied_to_postgres: tuple[StorePlace, StorePlace]) -> None:
    source, target = copied_to_postgres

    def report(phase: str, done: int, total: int) -> None:
        if phase == "compared":
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await copy_store(source, target, secret=None, report=report)
    rows = await PostgresRows.open(target.url)
    await rows._db.execute("UPDATE entries SET body='{\"n\":7}' WHERE position=9 AND kind='text'")
    await rows.close()
    with pytest.raises(CopyRefused, match="entries of stream"):
        await copy_store(source, target, secret=None, report=silent)


async def test_files_are_copied_with_it(
    copied_to_postgres: tuple[StorePlace, StorePlace], tmp_path: Path
) -> None:
    source, target = copied_to_postgres
    assert source.data is not None
    old = await DiskBlobs.open(source.data / "files")
    new = await DiskBlobs.open(tmp_path / "shared", shared=True)
    records = await Records.open(source.url)
    organization = await records.organizations.first()
    assert organization is not None
    owner = Owner(organization.id)
    for number in range(3):
        writer = await old.begin()
        await writer.write(b"%d" % number * 100)
        digest = await writer.finish()
        content = Content(f"{number}.txt", "text/plain", 100, digest)
        await records.files.create(owner, content, blob=await writer.keep())
    lost = await records.files.blob_of(digest)
    await records.close()
    await old.remove([str(lost)])
    copied = await copy_store(source, target, secret=None, report=silent, files=(old, new))
    assert len(copied.warnings) == 1
    records = await Records.open(target.url)
    for file in (await records.files.list(owner)).items:
        name = await records.files.blob_of(file.content.sha256)
        assert name is not None
        if name == lost:
            continue
        async with await new.find(name, file.content.sha256) as blob:
            assert len(await blob.read(0, 1000)) == 100
    await records.close()
    await old.close()
    await new.close()
