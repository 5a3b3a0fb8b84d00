"""Backups made, restored and verified in one process; what is damaged or half done is said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server import stores
from resonantgenesis_server.backup.make import SCRATCH, Made, make_backup
from resonantgenesis_server.backup.place import BackupPlace, BackupRefused
from resonantgenesis_server.backup.restore import Restored, restore
from resonantgenesis_server.backup.verify import Verified, verify_backup, verify_data
from resonantgenesis_server.cli.app import main
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.datadir.lock import RESTORING, lock_data
from resonantgenesis_server.files.base import write_blob
from resonantgenesis_server.files.disk import DiskBlobs
from resonantgenesis_server.files.documents import DiskDocuments
from resonantgenesis_server.log.base import Append, NewEntry
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.logging.startup import StartupError
from resonantgenesis_server.records.base import ListPlace
from resonantgenesis_server.records.credentials import load_secrets
from resonantgenesis_server.records.files import Content, Owner
from resonantgenesis_server.records.store import Records
from support.s3 import CREDENTIALS, Storage

pytestmark = pytest.mark.anyio


def quiet(_phase: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[BackupPlace]:
    folder = tmp_path / "place"
    folder.mkdir()
    blobs = await DiskBlobs.open(folder / "files", shared=True)
    yield BackupPlace(str(folder), blobs, DiskDocuments(folder))
    await blobs.close()


async def _read(content: bytes, offset: int, size: int) -> bytes:
    return content[offset : offset + size]


class Store:
    """A data directory whose server is at work."""

    def __init__(self, data: Path, log: SqliteLog, records: Records, files: DiskBlobs) -> None:
        self.data, self.log, self.records, self.files = data, log, records, files
        self.owner = Owner("", None)
        self.lock = contextlib.ExitStack()

    async def put(self, content: bytes) -> str:
        """Record a file; the name of its blob."""
        writer = await self.files.begin()
        await writer.write(content)
        digest = await writer.finish()
        blob = await writer.keep()
        described = Content("a.txt", "text/plain", len(content), digest)
        await self.records.files.create(self.owner, described, blob=blob)
        return blob

    async def back_up(self, place: BackupPlace, keep: int | None = None) -> Made:
        return await make_backup(self.data, self.files, place, keep=keep, report=quiet)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    data = tmp_path / "data"
    with contextlib.ExitStack() as lock:
        lock.enter_context(lock_data(data))
        load_secrets(data / "secret")
        records = await Records.open(f"sqlite:///{data / 'records.db'}")
        log = await SqliteLog.open(data / "log.db")
        files = await DiskBlobs.open(data / "files")
        made = Store(data, log, records, files)
        made.lock = lock
        organization = await records.organizations.create("Acme")
        made.owner = Owner(organization.id, None)
        entries = [NewEntry("text", b'{"n":%d}' % n, f"k{n}") for n in range(50)]
        await log.append(Append("sess_1", entries))
        await log.append(Append("trimmed", entries[:10]))
        await log.trim("trimmed", 8)
        await log.append(Append("emptied", entries[:4]))
        await log.trim("emptied", 5)
        yield made
        await log.close()
        await records.close()
        await files.close()


@pytest.mark.parametrize("where", ["s3:/bucket", "s3:bucket", "gs://bucket/prefix"])
async def test_a_place_that_is_nearly_a_bucket_is_no_directory(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match="neither a directory nor like s3://bucket/prefix"):
        await stores.open_backup_place(where, make=True)
    assert list(tmp_path.iterdir()) == []


async def restored(place: BackupPlace, data: Path, name: str | None = None) -> Restored:
    return await restore(
        place, name, data, lambda: DiskBlobs.open(data / "files", shared=True), report=quiet
    )


async def verified(data: Path) -> Verified:
    files = await DiskBlobs.open(data / "files", shared=True)
    try:
        return await verify_data(data, files, report=quiet)
    finally:
        await files.close()


async def test_a_backup_of_a_store_in_use_is_restored_whole(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    await store.put(b"one")
    await store.put(b"two")
    made = await store.back_up(place)
    assert (made.manifest.streams, made.manifest.entries) == (3, 53)
    assert (made.copied, made.warnings) == (2, [])
    await store.log.append(Append("sess_1", [NewEntry("text", b"later", "later")]))
    back = await restored(place, tmp_path / "new")
    assert back.warnings == [] and back.has_secret
    assert back.epoch != store.log.epoch
    log = await SqliteLog.open(tmp_path / "new" / "log.db")
    try:
        assert log.epoch == back.epoch
        assert (await log.read("sess_1", 0)).entries == (await store.log.read("sess_1", 0)).entries[
            :50
        ]
        assert (await log.append(Append("emptied", [NewEntry("a", b"1")]))) == [5]
    finally:
        await log.close()
    found = await verified(tmp_path / "new")
    assert (found.streams, found.entries, found.files, found.problems) == (3, 54, 2, [])
    assert load_secrets(tmp_path / "new" / "secret") == load_secrets(store.data / "secret")


async def test_what_follows_the_log_goes_on_after_a_restore(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    organization = store.owner.organization_id
    await store.records.sessions.upsert_many([], [ListPlace(organization, store.log.epoch, 7)])
    await store.back_up(place)
    back = await restored(place, tmp_path / "new")
    records = await Records.open(f"sqlite:///{tmp_path / 'new' / 'records.db'}")
    try:
        reached = await records.sessions.places()
    finally:
        await records.close()
    assert list(reached) == [ListPlace(organization, back.epoch, 7)]


async def test_the_second_backup_copies_what_is_new_and_old_ones_go(
    store: Store, place: BackupPlace
) -> None:
    first = await store.put(b"one")
    made = [await store.back_up(place)]
    await store.put(b"two")
    made.append(await store.back_up(place))
    await store.files.remove([first])
    made.append(await store.back_up(place, keep=1))
    assert [each.copied for each in made] == [1, 1, 0]
    assert made[2].removed == 2
    assert await place.names() == [made[2].manifest.name]
    there = {name async for batch in place.blobs.batches(0) for name in batch}
    assert there == set(made[2].manifest.blobs())
    assert (await verify_backup(place, None, report=quiet)).problems == []


async def test_a_backup_that_broke_off_goes_on_with_its_files(
    store: Store, place: BackupPlace
) -> None:
    await store.put(b"one")
    manifest = (await store.back_up(place)).manifest
    await place.documents.remove(manifest.name)
    await place.note(manifest.files)
    assert (await store.back_up(place)).copied == 0


async def test_backups_lie_in_s3(
    store: Store, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = storage.bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    await store.put(b"one")
    place = await stores.open_backup_place(bucket.address)
    try:
        made = [await store.back_up(place, keep=1) for _ in range(2)]
        assert [(each.copied, each.removed) for each in made] == [(1, 0), (0, 1)]
        assert len(bucket.objects()) == len(list(made[1].manifest.blobs()))
        assert (await verify_backup(place, None, report=quiet)).problems == []
        assert (await restored(place, tmp_path / "new")).warnings == []
    finally:
        await place.close()
    assert (await verified(tmp_path / "new")).problems == []


async def test_content_that_is_lost_is_told(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    blob = await store.put(b"one")
    await store.files.remove([blob])
    made = await store.back_up(place)
    assert len(made.warnings) == 1
    assert len((await verify_backup(place, None, report=quiet)).problems) == 1
    assert len((await restored(place, tmp_path / "new")).warnings) == 1


async def test_a_place_with_content_of_others_is_refused(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    await write_blob(place.blobs, 1, lambda offset, size: _read(b"x", offset, size))
    with pytest.raises(BackupRefused, match="of no backup"):
        await store.back_up(place)
    assert not list((store.data / SCRATCH).iterdir())


async def test_neither_a_folder_of_somebody_nor_what_a_link_leads_to_is_emptied(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for folder in (kept, store.data / "backup"):
        folder.mkdir(exist_ok=True)
        (folder / "log.db").write_text("a copy made by hand")
    scratch = store.data / SCRATCH
    scratch.symlink_to(kept)
    with pytest.raises(BackupRefused, match=r"cannot write to .*scratch"):
        await store.back_up(place)
    scratch.unlink()
    scratch.mkdir()
    (scratch / "link").symlink_to(kept)
    await store.back_up(place)
    new = tmp_path / "new"
    new.mkdir()
    (new / RESTORING).touch()
    (new / "link").symlink_to(kept)
    await restored(place, new)
    assert not (new / "link").is_symlink()
    for folder in (kept, store.data / "backup"):
        assert (folder / "log.db").read_text() == "a copy made by hand"


@pytest.mark.parametrize("place", ["data", "data/backup", "data/sub", "other", "s3://b/p/"])
def test_the_servers_own_places_are_refused(
    place: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = "s3://b/p" if "://" in place else "other/files"
    monkeypatch.setenv("RESONANTGENESIS_FILES", files)
    assert main(["backup", place, "--data", "data"]) == 1
    assert "its own data" in capfd.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_missing_is_not_made_to_read_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["verify", "gone"], ["restore", "gone", "--data", "new"]):
        assert main(words) == 2
        assert "there is no directory gone" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_neither_a_place_without_a_name_nor_one_for_no_store_is_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["verify", ""], ["restore", "", "--data", "new"]):
        assert main(words) == 2
        assert "name the place of the backups" in capfd.readouterr().err
    assert main(["backup", "place", "--data", "typo"]) == 1
    assert "there is no store in typo" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


async def test_a_place_is_only_read_to_restore_and_to_verify(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    await store.put(b"content")
    await store.back_up(place)
    folder = tmp_path / "place"
    (folder / "files" / "tmp").rmdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for words in (["verify", str(folder)], ["restore", str(folder), "--data", str(tmp_path / "n")]):
        assert await asyncio.to_thread(main, words) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


async def test_damage_of_a_backup_is_found_and_not_restored(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    manifest = (await store.back_up(place)).manifest
    blob = manifest.parts["log.db"].blob
    path = tmp_path / "place" / "files" / blob[:2] / blob
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1
    path.write_bytes(content)
    assert (
        "log.db of this backup is damaged"
        in (await verify_backup(place, None, report=quiet)).problems[0]
    )
    with pytest.raises(BackupRefused, match="take another one"):
        await restored(place, tmp_path / "new")
    with pytest.raises(StartupError, match="has not ended"), lock_data(tmp_path / "new"):
        pass


@pytest.mark.parametrize(
    "parts",
    [
        lambda parts: {**parts, "../stranger": parts["secret"]},
        lambda parts: {**parts, "files": parts["secret"]},
        lambda parts: {name: part for name, part in parts.items() if name != "log.db"},
        lambda parts: {**parts, "secret": {**parts["secret"], "size": "many"}},
    ],
    ids=["outside", "another name", "no log", "no size"],
)
async def test_a_manifest_with_other_parts_is_refused_before_anything_is_written(
    parts: Callable[[dict[str, Any]], dict[str, Any]],
    store: Store,
    place: BackupPlace,
    tmp_path: Path,
) -> None:
    path = tmp_path / "place" / f"{(await store.back_up(place)).manifest.name}.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "parts": parts(manifest["parts"])}))
    with pytest.raises(BackupRefused, match=r"manifest of backup .* is damaged"):
        await restored(place, tmp_path / "new")
    with pytest.raises(BackupRefused, match=r"manifest of backup .* is damaged"):
        await verify_backup(place, None, report=quiet)
    assert not (tmp_path / "stranger").exists()
    assert not (tmp_path / "new").exists()


async def test_a_gap_in_a_stream_is_found(store: Store) -> None:
    await store.log.close()
    with sqlite3.connect(store.data / "log.db") as db:
        db.execute("DELETE FROM entries WHERE id & 4294967295 = 9 AND id >> 32 = 1")
        db.execute("DELETE FROM tail WHERE id & 4294967295 = 9 AND id >> 32 = 1")
    db.close()
    problems = (await verified(store.data)).problems
    assert problems == ["the log: stream 'sess_1' has 49 entries from 1 to 50, and begins at 1"]


async def test_a_restore_fills_only_an_empty_directory(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    await store.back_up(place)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter").write_text("mine")
    with pytest.raises(BackupRefused, match=r"not empty \(letter\)"):
        await restored(place, other)
    assert (other / "letter").read_text() == "mine"


async def test_a_place_without_backups_and_an_unknown_name_are_told(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    with pytest.raises(BackupRefused, match="no whole backup"):
        await restored(place, tmp_path / "new")
    name = (await store.back_up(place)).manifest.name
    with pytest.raises(BackupRefused, match=name):
        await restored(place, tmp_path / "new", "20200101")


async def test_a_store_is_compact_after_deletions_and_not_while_it_is_used(store: Store) -> None:
    settings = Settings(data=store.data)
    with pytest.raises(StartupError, match="in use"):
        await asyncio.to_thread(stores.compact, settings)
    big = [NewEntry("text", b"x" * 10_000) for _ in range(300)]
    await store.log.append(Append("big", big))
    await store.log.delete("big")
    await store.log.close()
    await store.records.close()
    store.lock.close()
    size = (store.data / "log.db").stat().st_size
    assert "bytes are free" in await asyncio.to_thread(stores.compact, settings)
    assert (store.data / "log.db").stat().st_size < size / 10
    assert (await verified(store.data)).problems == []


async def test_no_store_and_a_store_of_a_crash_are_refused(
    store: Store, place: BackupPlace, tmp_path: Path
) -> None:
    with pytest.raises(BackupRefused, match="there is no store"):
        await make_backup(tmp_path, store.files, place, keep=None, report=quiet)
    crashed = tmp_path / "crashed"
    crashed.mkdir(mode=0o700)
    for path in store.data.glob("*.db*"):
        (crashed / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BackupRefused, match="start it once"):
        await make_backup(crashed, store.files, place, keep=None, report=quiet)
