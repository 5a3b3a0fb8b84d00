"""Every statement reads a large store by index probes alone, by the one plan that it has."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest
from resonantgenesis_server.log.base import NewEntry
from resonantgenesis_server.log.postgres import connection as connection_module
from resonantgenesis_server.log.postgres import nodes as nodes_module
from resonantgenesis_server.log.postgres import outbox, reader, statements
from resonantgenesis_server.log.postgres.log import PostgresLog

from .support import connection, counted

pytestmark = pytest.mark.anyio
STREAMS, EACH = 2_000, 50

_FILL = f"""
DELETE FROM streams;
INSERT INTO streams (id, name, owner, pending)
  SELECT n, convert_to('s' || n, 'UTF8'), n % 5, n % 100 = 0 FROM generate_series(1, {STREAMS}) n;
INSERT INTO entries (stream, position, at, kind, body, key)
  SELECT n, p, p, 'm', '{{}}', CASE WHEN p % 2 = 0 THEN convert_to('k' || p, 'UTF8') END
  FROM generate_series(1, {STREAMS}) n, generate_series(1, {EACH}) p;
-- One that is as large as all others: what holds for the usual stream must not for this one.
INSERT INTO entries (stream, position, at, kind, body, key)
  SELECT 1, p, p, 'm', '{{}}', convert_to('k' || p, 'UTF8')
  FROM generate_series({EACH + 1}, {STREAMS * EACH}) p;
INSERT INTO idempotency SELECT 'o', convert_to('k' || n, 'UTF8'), 'v', now() - interval '1 day'
  FROM generate_series(1, 20000) n;
INSERT INTO writers (node, alive) SELECT n, n < 1010 FROM generate_series(1000, 3000) n;
INSERT INTO nodes (name, address, version) SELECT '', '', '' FROM generate_series(1, 3000) n;
INSERT INTO messages (node, body) SELECT n % 100, '{{}}' FROM generate_series(1, 5000) n;
INSERT INTO beats (node) SELECT n FROM generate_series(1000, 3000) n;
INSERT INTO fences SELECT n, 1 FROM generate_series(1000, 20000) n;
INSERT INTO taken SELECT n % 50, n, n FROM generate_series(1, 20000) n;
INSERT INTO removed SELECT n FROM generate_series(10000, 20000) n;
-- Of nodes that live and of dead ones; nothing waits.
DELETE FROM outboxes;
INSERT INTO outboxes (node, stream, place, trimmed)
  SELECT 1000 + n, n, CASE n WHEN 1 THEN {STREAMS * EACH} ELSE {EACH} END,
    CASE n WHEN 1 THEN {STREAMS * EACH - 300} ELSE {EACH} END
  FROM generate_series(1, 12) n;
"""

_ME: list[Any] = [1, 2, 1, 0]
_ROWS: list[Any] = [[7], [51], [0], [b"m"], [b"{}"], [None]]
_STATES: list[Any] = [[7], [1], [True], [False], [9_999], [b"new"], [0], [False], [False]]
STATEMENTS: dict[str, tuple[str, list[Any]]] = {
    "append": (statements.APPEND, [*_ME, *_ROWS, "at 1 7"]),
    "append and mark": (statements.APPEND_AND_MARK, [*_ME, *_ROWS, *_STATES, "at 1 7"]),
    "delete": (statements.DELETE, [*_ME, *_ROWS, *_STATES, [7, 8], "at 1 7"]),
    "trim": (statements.TRIM, [*_ME, 7, 3, 50, 1, ""]),
    "keys": (statements.KEYS, [[1, 7], [b"k2", b"k4"]]),
    "taken": (statements.TAKEN, [7, 100]),
    "forget": (statements.FORGET, [7, 100]),
    "standing": (statements.STANDING, [1]),
    "proof": (connection_module.PROOF, [1]),
    "beat": (connection_module.BEAT, [1]),
    "read": (reader.READ, [b"s7", 10, 1000, 1 << 20]),
    "read many": (reader.READ_MANY, [[b"s7", b"s1"], [10, 0], 500, 1 << 20]),
    "beat and look": (nodes_module.BEAT, [1]),
    "declare dead": (nodes_module.DECLARE, [1001, 0]),
    "runner": (nodes_module.RUNNER, [b"s7"]),
    "orphans": (nodes_module.ORPHANS, [100]),
    "send": (nodes_module.SEND, [[1, 2], b"{}"]),
    "receive": (nodes_module.RECEIVE, [1]),
    "clean": (nodes_module.CLEAN, []),
    "position of": (reader.POSITION_OF, [b"s1", b"k200"]),
    "position at": (reader.POSITION_AT, [b"s1", 70]),
    "pending": (reader.PENDING, []),
    "next fence": (reader.NEXT_FENCE, [1]),
    "claim": (reader.CLAIM, [b"o", b"k7", b"v", 60.0]),
    "lookup": (reader.LOOKUP, [b"o", b"k7"]),
    "release": (reader.RELEASE, [b"o", b"k7"]),
    "expired": (reader.EXPIRED, [100]),
    "left over": (reader.LEFT_OVER, []),
    "remove": (reader.REMOVE, [7, 100]),
    "removed": (reader.REMOVED, [7]),
    "waiting": (outbox.WAITING, []),
    "trim outboxes": (outbox.TRIM, [100]),
    "forget outboxes": (outbox.FORGET, []),
    "places": (outbox.PLACES, [[b"s1", b"s7"], [b"k200", b"k4"]]),
}
#: Nodes of a plan that touch a table and not all of it.
PROBES = {"Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan"}
#: Tables of a few rows, whatever the store: one for each name, or node that lives.
SMALL = {"meta", "outboxes"}


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for each in plan.get("Plans", ()) for node in nodes(each))]


def scans(plan: dict[str, Any]) -> list[str]:
    """The parts of a plan that read a large table as a whole."""
    found = []
    for node in nodes(plan):
        kind, table = node["Node Type"], node.get("Relation Name")
        if table is None or kind == "ModifyTable" or table in SMALL:
            continue
        if kind not in PROBES:
            found.append(f"{kind} of {table}")
        elif kind.startswith("Index") and not (node.get("Index Cond") or bounded(node)):
            found.append(f"all of {node['Index Name']}")
    return found


def bounded(node: dict[str, Any]) -> bool:
    """Indexes that are read in their order up to a LIMIT, or that hold little by themselves."""
    return node["Index Name"] in {"streams_pending", "removed_pkey", "writers_alive", "beats_pkey"}


def literal(value: Any) -> str:
    """A value in SQL's words: the plan is made without it."""
    if isinstance(value, list):
        return "'{" + ", ".join(map(element, value)) + "}'"
    if isinstance(value, bytes):
        return rf"'\x{value.hex()}'"
    return f"'{value}'"


def element(value: Any) -> str:
    if isinstance(value, bytes):
        return rf'"\\x{value.hex()}"'
    return "NULL" if value is None else str(value)


async def test_every_statement_probes_indexes(postgres: str) -> None:
    log = await PostgresLog.open(postgres)
    async with connection(postgres) as db:
        await db.execute(_FILL)
        await db.execute("ANALYZE")
    async with log._side.acquire() as db:  # with the settings that the log works with
        for name, (sql, arguments) in STATEMENTS.items():
            transaction = db.transaction()
            await transaction.start()
            await db.execute(f"PREPARE one AS {sql}")
            values = f"({', '.join(map(literal, arguments))})" if arguments else ""
            answer = await db.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE one{values}"
            )
            await db.execute("DEALLOCATE one")
            await transaction.rollback()
            plan = json.loads(answer)[0]["Plan"]
            assert scans(plan) == [], name
            read = max(n["Actual Rows"] + n.get("Rows Removed by Filter", 0) for n in nodes(plan))
            assert read <= 1_000, f"{name} reads {read} rows"
            # An index may be gone through as a whole for its second column.
            pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            assert pages <= 500, f"{name} reads {pages} pages"
    await log.close()


async def fetched(db: asyncpg.Connection) -> int:
    """Entries that were found by an index."""
    await db.execute("SELECT pg_stat_clear_snapshot()")
    count: int = await db.fetchval(
        "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname='entries'"
    )
    return count


async def whole_reads(db: asyncpg.Connection) -> dict[str, int]:
    await db.execute("SELECT pg_stat_clear_snapshot()")
    rows = await db.fetch("SELECT relname, seq_tup_read FROM pg_stat_user_tables")
    return {row["relname"]: row["seq_tup_read"] for row in rows if row["relname"] not in SMALL}


async def test_sequencing_reads_no_table_as_a_whole(postgres: str) -> None:
    log = await PostgresLog.open(postgres)
    await log._sequencer.close()
    async with connection(postgres) as db:
        await db.execute(_FILL)
        await db.execute("UPDATE outboxes SET place=place-100 WHERE node=1001")
        await db.execute("UPDATE streams SET owner=0")
        waiting = [
            (n, outbox.wrapped(f"s{n % 50 + 1}", NewEntry("m", b"{}", f"new{n}")).body)
            for n in range(100)
        ]
        await db.executemany(
            f"UPDATE entries SET body=$2 WHERE stream=1 AND position={STREAMS * EACH - 99} + $1",
            waiting,
        )
        await db.execute("ANALYZE")
        async with log._side.acquire() as side:
            for each in (side, db):  # what the filling has read is counted before
                await counted(each)
            before, entries = await whole_reads(db), await fetched(db)
            *rows, last = await side.fetch(outbox.SEQUENCE, log.node, 500, 1 << 20)
            assert (len(rows), last["position"]) == (100, 100)
            await counted(side)
            assert await whole_reads(db) == before
            assert await fetched(db) - entries <= 1_000
    await log.close()


async def test_taking_streams_over_reads_no_table_as_a_whole(postgres: str) -> None:
    """A function's plans are not to be seen; what it did to the tables is counted."""
    log = await PostgresLog.open(postgres)
    async with connection(postgres) as db:
        await db.execute(_FILL)
        await db.execute("ANALYZE")

        async with log._side.acquire() as side:
            for each in (side, db):  # what the filling has read is counted before
                await counted(each)
            before = await whole_reads(db)
            for hold in (False, True):
                names = [f"s{n}".encode() for n in range(1, 200)]
                rows = await side.fetch(statements.TAKE, log.node, names, hold)
                assert len(rows) == 199
                await counted(side)
            assert await whole_reads(db) == before
    await log.close()
