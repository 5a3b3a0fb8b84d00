"""The first key: wherever a start breaks off, the next one leaves a server that opens with the key
in the file, and no other key that is valid."""

from __future__ import annotations

import inspect
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.records.base import KeyRecord, StoreUnusable
from resonantgenesis_server.records.bootstrap import Bootstrap, bootstrap
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio
HASHER = CredentialHasher(b"s" * 32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-key"


async def start(records: Records, file: Path) -> Bootstrap:
    return await bootstrap(records, HASHER, None, file)


async def live(records: Records) -> list[KeyRecord]:
    organization = await records.organizations.first()
    assert organization is not None
    page = await records.keys.list(organization.id, limit=100)
    return [key for key in page.items if key.is_live(time.time())]


async def opens(records: Records, file: Path) -> bool:
    known = await records.keys.find_by_hash(HASHER.hash(file.read_text().strip()))
    return known is not None and known.is_bootstrap and known.is_live(time.time())


class PowerLoss(BaseException):
    """Nothing after it happens, not even what is done at last."""


class Calls:
    """Counts what is done to the file and the records; the one of this number is the last."""

    def __init__(self, last: int, after: bool) -> None:
        self.number = 0
        self._last = last
        self._after = after

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kw: Any) -> Any:
            self._before_call()
            result = call(*args, **kw)
            self._after_call()
            return result

        async def waiting(*args: Any, **kw: Any) -> Any:
            self._before_call()
            result = await call(*args, **kw)
            self._after_call()
            return result

        return waiting if inspect.iscoroutinefunction(call) else counting

    def _before_call(self) -> None:
        self.number += 1
        if self.number > self._last - (not self._after):
            raise PowerLoss

    def _after_call(self) -> None:
        if self.number >= self._last:
            raise PowerLoss


@pytest.mark.parametrize("after", [False, True])
async def test_a_start_that_breaks_off_anywhere(
    records: Records, file: Path, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in range(1, 30):
        calls = Calls(last, after)
        with monkeypatch.context() as patched:
            for name in ("open", "fsync", "link"):
                patched.setattr(os, name, calls.counted(getattr(os, name)))
            for name in ("replace", "unlink"):
                patched.setattr(Path, name, calls.counted(getattr(Path, name)))
            patched.setattr(type(records.keys), "create", calls.counted(type(records.keys).create))
            try:
                await start(records, file)
            except PowerLoss:
                pass
            else:
                break
        await start(records, file)
        assert await opens(records, file)
        assert len(await live(records)) == 1
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not list(file.parent.glob(".api-key*"))
        # As if it were the first start again.
        for key in await live(records):
            await records.keys.revoke(key.organization_id, key.id)
        file.unlink()
    else:
        raise AssertionError("it never came to its end")
    assert last > 5


@pytest.mark.parametrize("content", [None, "", "\0" * 41, "rg_live_", "no key at all", "\xff"])
async def test_a_key_that_nobody_can_have_seen_is_replaced(
    records: Records, file: Path, content: str | None
) -> None:
    """As versions left it that did not sync the file."""
    first = (await start(records, file)).generated
    file.unlink()
    if content is not None:
        file.write_text(content)
    again = await start(records, file)
    assert again.generated not in (None, first) and again.former == 0
    assert await opens(records, file)
    assert len(await live(records)) == 1


async def test_a_key_that_somebody_uses_stays_when_its_file_goes(
    records: Records, file: Path
) -> None:
    first = await start(records, file)
    await records.keys.create(first.organization_id, name="k", hash="h", scopes=frozenset())
    file.unlink()
    again = await start(records, file)
    assert again.generated is not None and again.former == 1
    assert await opens(records, file)
    assert first.generated is not None
    known = await records.keys.find_by_hash(HASHER.hash(first.generated))
    assert known is not None and known.revoked_at is None


async def test_all_keys_revoked_means_a_new_one(records: Records, file: Path) -> None:
    first = await start(records, file)
    for key in await live(records):
        await records.keys.revoke(key.organization_id, key.id)
    again = await start(records, file)
    assert again.generated not in (None, first.generated)
    assert await opens(records, file)


async def test_who_configured_a_key_gets_no_other(records: Records, file: Path) -> None:
    await bootstrap(records, HASHER, "a configured key of mine", file)
    assert (await start(records, file)).generated is None
    assert not file.exists()


async def test_a_secret_made_anew_makes_the_key_in_the_file_known_again(
    records: Records, file: Path
) -> None:
    first = await start(records, file)
    hasher = CredentialHasher(b"t" * 32)
    again = await bootstrap(records, hasher, None, file)
    assert again.generated == first.generated
    known = await records.keys.find_by_hash(hasher.hash(file.read_text().strip()))
    assert known is not None and known.is_live(time.time())


async def test_a_file_that_cannot_be_written(records: Records, tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with pytest.raises(StoreUnusable, match="api-key"):
        await start(records, folder / "api-key")
    assert await live(records) == []


async def test_files_that_others_could_read_are_closed(records: Records, file: Path) -> None:
    await start(records, file)
    secret = file.with_name("secret")
    made = load_secrets(secret)
    for path in (file, secret):
        path.chmod(0o644)
    assert (await start(records, file)).generated is None
    assert load_secrets(secret) == made
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, secret)} == {0o600}
