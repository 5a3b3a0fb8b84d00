"""Entries go step by step, so that no other group waits long, and none is left behind."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.log.base import Append, LogUnavailable, NewEntry
from resonantgenesis_server.log.postgres import log as log_module
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.writer import Trim

from .support import connection, entries, new, put, texts

pytestmark = pytest.mark.anyio


async def rows(url: str, table: str) -> int:
    async with connection(url) as db:
        return int(await db.fetchval(f"SELECT count(*) FROM {table}"))


async def test_trimming_goes_by_steps(
    log: PostgresLog, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trim, "STEP", 3)
    await put(log, "s", *(f"{n}" for n in range(1, 21)))
    await log.trim("s", 18)
    assert await texts(log, "s") == ["18", "19", "20"]
    assert await rows(postgres, "entries") == 3
    await log.trim("s", 100)
    info = (await log.read("s", 0)).info
    assert info is not None and (info.head, info.earliest) == (20, 21)
    assert await rows(postgres, "entries") == 0


async def test_what_a_deleted_stream_held_is_removed(
    log: PostgresLog, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_SWEEP_ROWS", 3)
    await put(log, "s", *(f"{n}" for n in range(20)))
    await log.append(Append("s", [NewEntry("m", b"keyed", "k")]))
    await put(log, "kept", "1")
    await log.delete("s", "never", "s")
    assert await rows(postgres, "entries") == 1
    assert await rows(postgres, "removed") == 0
    assert await log.append(Append("s", [NewEntry("m", b"again", "k")])) == [1]
    assert await texts(log, "kept") == ["1"]


async def test_what_a_process_left_of_one_is_removed_by_the_next(postgres: str) -> None:
    log = await PostgresLog.open(postgres)
    await put(log, "s", *(f"{n}" for n in range(20)))

    async def die(_number: int) -> None:
        raise LogUnavailable("the process ends here")

    log._remove = die  # type: ignore[method-assign]
    with pytest.raises(LogUnavailable):
        await log.delete("s")
    assert (await log.read("s", 0)).info is None, "nobody sees what is left"
    assert await rows(postgres, "entries") == 20
    await log.close()
    log = await PostgresLog.open(postgres)
    async with asyncio.timeout(20):
        while await rows(postgres, "removed"):
            await asyncio.sleep(0.01)
    assert await rows(postgres, "entries") == 0
    await log.close()


async def test_expired_keys_are_removed(log: PostgresLog, postgres: str) -> None:
    for n in range(70):
        assert await log.claim("o", f"short{n}", b"v", ttl=0.001) is None
    for n in range(130):
        assert await log.claim("o", f"long{n}", b"v", ttl=60) is None
    assert await rows(postgres, "idempotency") == 130


async def test_a_refused_message_of_a_deletion_deletes_nothing(log: PostgresLog) -> None:
    await put(log, "s", "1")
    await log.append(Append("events", new("1"), close=True))
    with pytest.raises(Exception, match="closed"):
        await log.delete("s", appends=[Append("events", [NewEntry("m", b"gone", "k")])])
    assert [e.body for e in await entries(log, "s")] == [b"1"]
