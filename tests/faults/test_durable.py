"""Durable before visible, as the kernel saw it: the file is synced before a socket is written."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from support import tracing
from support.server import TESTS, Serve
from support.wire import dense, read_all, text_of

SESSIONS, COUNT = 3, 60


async def unsynced_marks(serve: Serve, trace: Path, **options: object) -> list[str]:
    """Stream some sessions under strace; the pieces of text that went out too early."""
    server = serve(
        wrapper=tracing.command(trace), agents={"paced": "support.agents:paced"}, **options
    )
    marks: list[str] = []
    async with server.client() as client:

        async def one(number: int) -> None:
            goal = f"mark{number}"
            body = {"agent_id": "paced", "goal": goal, "context": {"count": COUNT, "pace": 150}}
            made = await client.post("/v1/sessions", json={"agent_id": "paced"})
            session_id = made.json()["session_id"]
            body |= {"session_id": session_id, "stream": True}
            answer = await client.post("/v1/sessions/execute", json=body)
            kept = await read_all(client, session_id, resume_from=0)
            dense(kept)
            # The first send of each is the live stream's; both brought the same.
            assert answer.text.count("event: message") == COUNT
            marks.extend(text_of(kept).split())

        await asyncio.gather(*(one(number) for number in range(SESSIONS)))
    server.stop()
    assert len(set(marks)) == SESSIONS * COUNT
    wal = str(server.data / "log.db-wal")
    with trace.open(encoding="utf-8", errors="replace") as lines:
        return tracing.unsynced(tracing.parse(lines), marks, wal)


async def test_no_chunk_is_sent_before_it_is_on_disk(serve: Serve, tmp_path: Path) -> None:
    assert await unsynced_marks(serve, tmp_path / "trace") == []


async def test_a_server_that_does_not_sync_is_found_out(serve: Serve, tmp_path: Path) -> None:
    careless = TESTS / "support" / "unsynced.py"
    found = await unsynced_marks(serve, tmp_path / "trace", program=careless)
    assert len(found) > SESSIONS * COUNT / 2


@pytest.mark.parametrize(
    ("order", "early"),
    [
        ("write sync send", []),
        ("write send sync", ["m1"]),
        ("sync write send", ["m1"]),
        ("write sync-begins send sync-ends", ["m1"]),
        ("write-begins sync write-ends send", ["m1"]),
    ],
)
def test_the_reading_of_traces(order: str, early: list[str]) -> None:
    lines = {
        "write": '7 pwrite64(4</d/log.db-wal>, "m1", 2, 0) = 2',
        "write-begins": '7 pwrite64(4</d/log.db-wal>, "m1", 2, 0 <unfinished ...>',
        "write-ends": "7 <... pwrite64 resumed>) = 2",
        "sync": "8 fdatasync(4</d/log.db-wal>) = 0",
        "sync-begins": "8 fdatasync(4</d/log.db-wal> <unfinished ...>",
        "sync-ends": "8 <... fdatasync resumed>) = 0",
        "send": '9 write(6<socket:[123]>, "m1", 2) = 2',
    }
    trace = [lines[word] for word in re.split(r"\s+", order)]
    assert tracing.unsynced(tracing.parse(trace), ["m1"], "/d/log.db-wal") == early
