"""Tables and functions of the PostgreSQL log, and what a store is before it is opened.

All lies in one schema of the database, so that other tables may lie beside it. `entries` is one
table: a later version can make it the first partition of a table by stream number, since numbers
only grow.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import asyncpg
import structlog

from ... import metrics
from ..base import LogUnavailable, StoreIsNewer
from ..transfer import COPY, UNFINISHED

_log = structlog.get_logger("resonantgenesis.log")

#: The schema, in PostgreSQL's sense, that holds the log.
SCHEMA = "resonantgenesis_log"
#: PostgreSQL 14: the oldest that its makers maintain.
_OLDEST = 14
#: The name, in `meta`, of the list of the databases over which a store is spread.
DATABASES = "databases"
#: What commits survive, for people, the weakest first.
DURABILITIES = (
    "none: the database may lose everything with its machine (fsync is off)",
    "on the primary's disk; a failover may lose the last commits (no synchronous standby)",
    "on the disks of the primary and of a synchronous standby",
)

# Names, kinds and keys are bytes: they may hold \0, and differ when their bytes differ.
_VERSION_1 = """
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);
INSERT INTO meta VALUES ('fence', '0'), ('sequencer', '');
CREATE TABLE fences (fence bigint PRIMARY KEY, node bigint NOT NULL);

-- One row in each of the three per start of a process. `writers` is what fences a node's commits:
-- the node raises `committed` from the number of its last group to that of the next; whoever takes
-- a stream from it raises `generation`; whoever declares it dead clears `alive`. Each of them waits
-- for the group under way and stops the next one. `at` is the date of the last group.
CREATE TABLE nodes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL, address text NOT NULL, version text NOT NULL
);
CREATE TABLE writers (
  node bigint PRIMARY KEY,
  alive boolean NOT NULL DEFAULT true,
  generation bigint NOT NULL DEFAULT 0,
  committed bigint NOT NULL DEFAULT 0,
  at bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
CREATE INDEX writers_alive ON writers (node) WHERE alive;
CREATE TABLE beats (node bigint PRIMARY KEY, beat bigint NOT NULL DEFAULT 0)
  WITH (fillfactor = 10);
-- Streams that were taken from a node, for it to forget what it knows of them.
CREATE TABLE taken (
  node bigint, generation bigint, stream bigint, PRIMARY KEY (node, generation, stream)
);

-- `owner`: the node that may keep the stream's state in memory; 0: none. `head` and `last_at` hold
-- only while the stream has no entry, else the last entry tells.
CREATE SEQUENCE stream_numbers INCREMENT BY 1000;
CREATE TABLE streams (
  id bigint PRIMARY KEY,
  name bytea NOT NULL,
  owner bigint NOT NULL DEFAULT 0,
  fence bigint NOT NULL DEFAULT 0,
  head bigint NOT NULL DEFAULT 0,
  last_at bigint NOT NULL DEFAULT 0,
  earliest bigint NOT NULL DEFAULT 1,
  closed boolean NOT NULL DEFAULT false,
  pending boolean NOT NULL DEFAULT false,
  CONSTRAINT streams_name UNIQUE (name)
) WITH (fillfactor = 70);
CREATE INDEX streams_pending ON streams (id) WHERE pending;
CREATE TABLE entries (
  stream bigint NOT NULL,
  position bigint NOT NULL,
  at bigint NOT NULL,
  kind bytea NOT NULL,
  body bytea NOT NULL,
  key bytea,
  PRIMARY KEY (stream, position)
);
CREATE UNIQUE INDEX entries_key ON entries (stream, key) WHERE key IS NOT NULL;
-- Streams that are deleted, whose entries are still to be removed.
CREATE TABLE removed (stream bigint PRIMARY KEY);

-- Entries that nodes have for streams which many of them write wait in `outbox:NODE`, a stream of
-- each node's own; see outbox.py. Those up to `place` have been given their positions, those below
-- `trimmed` are removed. A dead node's row goes when nothing of it waits.
CREATE TABLE outboxes (
  node bigint PRIMARY KEY, stream bigint NOT NULL,
  place bigint NOT NULL DEFAULT 0, trimmed bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

-- What nodes tell each other. It need not outlast a crash: whoever asks waits for an answer.
CREATE UNLOGGED TABLE messages (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, node bigint NOT NULL, body bytea NOT NULL
);
CREATE INDEX messages_node ON messages (node);

CREATE TABLE idempotency (
  scope bytea NOT NULL, key bytea NOT NULL, value bytea NOT NULL, expires timestamptz NOT NULL,
  PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_expires ON idempotency (expires);

-- Make the node `me` the owner of those of the streams that there are, and tell their state.
-- Locks are taken in one order, owners by number and then streams by number. `hold`: keep the
-- node's own row as well, so that nobody takes a stream from it before this transaction ends.
-- Node 0: nobody owns them afterwards.
CREATE FUNCTION take_streams(me bigint, wanted bytea[], hold boolean)
RETURNS TABLE (
  id bigint, name bytea, fence bigint, head bigint, last_at bigint, earliest bigint,
  closed boolean, pending boolean, generation bigint
) LANGUAGE plpgsql AS $take$
#variable_conflict use_column
DECLARE
  owners bigint[];
  numbers bigint[];
BEGIN
  IF me <> 0 AND NOT EXISTS (SELECT 1 FROM writers w WHERE w.node = me AND w.alive) THEN
    RETURN;
  END IF;
  SELECT coalesce(array_agg(DISTINCT s.owner), '{}') INTO owners FROM streams s
    WHERE s.name = ANY(wanted) AND s.owner <> 0 AND s.owner <> me;
  IF hold THEN
    owners := owners || me;
  END IF;
  PERFORM 1 FROM writers w WHERE w.node = ANY(owners) ORDER BY w.node FOR NO KEY UPDATE;
  SELECT coalesce(array_agg(l.id), '{}') INTO numbers FROM (
    SELECT s.id FROM streams s WHERE s.name = ANY(wanted) ORDER BY s.id FOR NO KEY UPDATE
  ) l;
  IF EXISTS (
    SELECT 1 FROM streams s WHERE s.id = ANY(numbers)
    AND s.owner <> 0 AND s.owner <> me AND s.owner <> ALL(owners)
  ) THEN
    RAISE EXCEPTION 'another node was faster' USING ERRCODE = 'serialization_failure';
  END IF;
  UPDATE writers w SET generation = w.generation + 1 WHERE w.alive AND w.node IN (
    SELECT s.owner FROM streams s WHERE s.id = ANY(numbers) AND s.owner <> me
  );
  INSERT INTO taken SELECT w.node, w.generation, s.id FROM streams s, writers w
    WHERE s.id = ANY(numbers) AND s.owner <> me AND w.node = s.owner AND w.alive;
  PERFORM pg_notify('resonantgenesis', 'took ' || o.owner) FROM (
    SELECT DISTINCT s.owner FROM streams s
    WHERE s.id = ANY(numbers) AND s.owner <> me AND s.owner <> 0
  ) o;
  UPDATE streams s SET owner = me WHERE s.id = ANY(numbers) AND s.owner <> me;
  RETURN QUERY SELECT s.id, s.name, s.fence, coalesce(e.position, s.head),
      coalesce(e.at, s.last_at), s.earliest, s.closed, s.pending,
      (SELECT w.generation FROM writers w WHERE w.node = me)
    FROM unnest(numbers) AS n(id) JOIN streams s ON s.id = n.id
    LEFT JOIN LATERAL (
      SELECT position, at FROM entries WHERE stream = n.id ORDER BY position DESC LIMIT 1
    ) e ON true;
END
$take$;
"""
# Entries find their positions by functions of their own, since the stream that they are for may lie
# in another database than the outbox that they wait in.
_VERSION_2 = """
-- What waits in the outboxes: at most `most` entries of some `bytes`, the oldest of all nodes by
-- their dates. An entry of an outbox says in 3 bytes each how long its stream's name and its key
-- are, then both, then its own body. `size`: with all that.
CREATE FUNCTION waiting_entries(most integer, bytes bigint)
RETURNS TABLE (
  n bigint, node bigint, place bigint, name bytea, key bytea, kind bytea, body bytea, at bigint,
  size integer
) LANGUAGE sql STABLE AS $waiting$
  SELECT w.n, w.node, w.position, substring(w.body, 7, l.name),
    substring(w.body, 7 + l.name, l.key), w.kind, substring(w.body, 7 + l.name + l.key), w.at,
    octet_length(w.body)
  FROM (
    SELECT o.node, e.*, row_number() OVER oldest AS n,
      sum(octet_length(e.body)) OVER oldest - octet_length(e.body) AS before
    FROM outboxes o CROSS JOIN LATERAL (
      SELECT position, at, kind, body FROM entries
      WHERE stream = o.stream AND position > o.place ORDER BY position LIMIT most
    ) e
    WINDOW oldest AS (ORDER BY e.at, o.node, e.position ROWS UNBOUNDED PRECEDING)
  ) w CROSS JOIN LATERAL (
    SELECT (get_byte(b, 0) << 16) + (get_byte(b, 1) << 8) + get_byte(b, 2) AS name,
      (get_byte(b, 3) << 16) + (get_byte(b, 4) << 8) + get_byte(b, 5) AS key
    FROM (SELECT substring(w.body, 1, 6) AS b) h
  ) l
  WHERE w.n <= most AND w.before < bytes ORDER BY w.n
$waiting$;

-- Give entries, in this order, their positions, each unless its stream has its key. Gives the new
-- ones.
CREATE FUNCTION place_entries(
  me bigint, names bytea[], keys bytea[], kinds bytea[], bodies bytea[], dates bigint[]
) RETURNS TABLE (
  name bytea, "position" bigint, kind bytea, body bytea, at bigint
) LANGUAGE plpgsql AS $place$
#variable_conflict use_column
DECLARE
  marks text;
BEGIN
  -- Whoever stood still meanwhile may hold what others have placed, and removed again, long ago.
  IF me <> 0 AND NOT EXISTS (SELECT 1 FROM writers w WHERE w.node = me AND w.alive) THEN
    RAISE EXCEPTION 'this node was declared dead'
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  INSERT INTO streams (id, name) SELECT nextval('stream_numbers'), u.name
    FROM (SELECT DISTINCT name FROM unnest(names) AS n(name)) u
    WHERE NOT EXISTS (SELECT 1 FROM streams s WHERE s.name = u.name)
    ORDER BY u.name ON CONFLICT ON CONSTRAINT streams_name DO NOTHING;
  PERFORM 1 FROM take_streams(0, names, false);
  RETURN QUERY WITH waiting AS (
    SELECT * FROM unnest(names, keys, kinds, bodies, dates) WITH ORDINALITY
      AS w(name, key, kind, body, at, n)
  ), first AS (
    SELECT w.*, s.id, s.head, s.last_at,
      row_number() OVER (PARTITION BY w.name, w.key ORDER BY w.n) AS nth
    FROM waiting w JOIN streams s ON s.name = w.name
    WHERE NOT s.closed
      -- Not an EXISTS: as a join it would read all keys of the stream.
      AND (SELECT e.position FROM entries e WHERE e.stream = s.id AND e.key = w.key) IS NULL
  ), placed AS (
    SELECT f.*, row_number() OVER (PARTITION BY f.id ORDER BY f.n) AS nth_new
    FROM first f WHERE f.nth = 1
  ), made AS (
    INSERT INTO entries (stream, position, at, kind, body, key)
    SELECT p.id, coalesce(l.position, p.head) + p.nth_new,
      greatest(coalesce(l.at, p.last_at), p.at), p.kind, p.body, p.key
    FROM placed p LEFT JOIN LATERAL (
      SELECT position, at FROM entries WHERE stream = p.id ORDER BY position DESC LIMIT 1
    ) l ON true
    RETURNING stream, position, kind, body, at
  )
  SELECT s.name, m.position, m.kind, m.body, m.at FROM made m JOIN streams s ON s.id = m.stream
  ORDER BY m.stream, m.position;
  SELECT string_agg(encode(u.name, 'hex'), ' ') INTO marks
    FROM (SELECT DISTINCT name FROM unnest(names) AS n(name)) u;
  PERFORM pg_notify('resonantgenesis', 'in ' || me || ' ' ||
    CASE WHEN length(marks) < 7800 THEN marks ELSE '*' END);
END
$place$;

-- The entries of these nodes' outboxes have their positions, up to these places.
CREATE FUNCTION advance_outboxes(nodes bigint[], places bigint[]) RETURNS SETOF bigint
LANGUAGE sql AS $advance$
  UPDATE outboxes o SET place = greatest(o.place, u.place) FROM (
    SELECT node, max(place) AS place FROM unnest(nodes, places) AS p(node, place) GROUP BY node
  ) u WHERE o.node = u.node RETURNING o.node
$advance$;

-- Give what waits in the outboxes its positions in this database. One sequencer works at a time.
-- Gives the new entries, and in a last row without a stream how many it took, with their bytes.
CREATE OR REPLACE FUNCTION sequence_outboxes(me bigint, most integer, bytes bigint)
RETURNS TABLE (
  name bytea, "position" bigint, kind bytea, body bytea, at bigint
) LANGUAGE plpgsql AS $sequence$
#variable_conflict use_column
DECLARE
  nodes bigint[];
  places bigint[];
  dates bigint[];
  names bytea[];
  keys bytea[];
  kinds bytea[];
  bodies bytea[];
  taken bigint;
BEGIN
  PERFORM 1 FROM meta m WHERE m.name = 'sequencer' FOR NO KEY UPDATE;
  SELECT array_agg(w.node ORDER BY w.n), array_agg(w.place ORDER BY w.n),
      array_agg(w.at ORDER BY w.n), array_agg(w.name ORDER BY w.n),
      array_agg(w.key ORDER BY w.n), array_agg(w.kind ORDER BY w.n),
      array_agg(w.body ORDER BY w.n), sum(w.size)
    INTO nodes, places, dates, names, keys, kinds, bodies, taken
    FROM waiting_entries(most, bytes) w;
  IF nodes IS NOT NULL THEN
    RETURN QUERY SELECT * FROM place_entries(me, names, keys, kinds, bodies, dates);
    PERFORM 1 FROM advance_outboxes(nodes, places);
  END IF;
  RETURN QUERY SELECT NULL::bytea, coalesce(cardinality(nodes), 0)::bigint, NULL::bytea,
    NULL::bytea, coalesce(taken, 0);
END
$sequence$;
"""
#: What makes each version of the one before it.
_VERSIONS = (_VERSION_1, _VERSION_2)
SCHEMA_VERSION = len(_VERSIONS)

_RIGHTS = """
SELECT string_agg(DISTINCT p || ' on ' || c.relname, ', ')
FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND NOT has_table_privilege(c.oid, p)
"""


@dataclass(frozen=True, slots=True)
class Server:
    """What a PostgreSQL promises. `durability` is for people; `warnings` are whole lines."""

    durability: str
    #: Its own word for `synchronous_commit`.
    commit: str
    warnings: tuple[str, ...]
    history: str


async def look_at(db: asyncpg.Connection) -> Server:
    """Raises LogUnavailable for a server on which no log can be kept."""
    major = db.get_server_version().major
    if major < _OLDEST:
        raise LogUnavailable(f"PostgreSQL {major} is too old for the log; {_OLDEST} is the oldest")
    row = await db.fetchrow(
        "SELECT pg_is_in_recovery() AS standby, current_setting('fsync') AS fsync,"
        " current_setting('transaction_read_only') AS read_only,"
        " current_setting('full_page_writes') AS whole_pages,"
        " current_setting('synchronous_standby_names') AS standbys,"
        " current_setting('synchronous_commit') AS commit"
    )
    if row["standby"] or row["read_only"] == "on":
        raise LogUnavailable("the database is a standby or read-only; name the primary")
    warnings = []
    if row["fsync"] == "off" or row["whole_pages"] == "off":
        durability = DURABILITIES[0]
        warnings.append(
            "the database runs with fsync or full_page_writes off: a power loss may take everything"
        )
    elif row["standbys"]:
        durability = DURABILITIES[2]
    else:
        durability = DURABILITIES[1]
    if row["commit"] not in ("on", "remote_apply"):
        warnings.append(
            f"the database's synchronous_commit is {row['commit']}; the log's connections use on"
        )
    return Server(durability, row["commit"], tuple(warnings), await _history(db))


async def _history(db: asyncpg.Connection) -> str:
    """Which writing of which server's history this is; empty where the server does not say.

    A restored backup and a promoted standby are other ones: they may lack what was committed.
    """
    try:
        return str(
            await db.fetchval(
                "SELECT system_identifier || '/' || (SELECT oid FROM pg_database"
                " WHERE datname=current_database()) || '/' ||"
                " left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
            )
        )
    except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError):
        return ""


async def create_or_check(
    db: asyncpg.Connection,
    schema: str,
    history: str,
    *,
    for_copy: bool = False,
    is_one_of_several: bool = False,
) -> str:
    """Create the store or check its version and bring it to this one; its epoch, which is a new
    one where the database's history is another. Any number of processes may do so at once. A log
    that is being filled by a copy is refused, unless `for_copy`; a part of a store that is spread
    over several databases, unless `is_one_of_several`.

    Raises LogUnavailable and StoreIsNewer, and what asyncpg raises.
    """
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(hashtext($1))", schema)
        version = await version_of(db, schema)
        if version > SCHEMA_VERSION:
            raise StoreIsNewer(
                f"the log has version {version}; this program reads up to {SCHEMA_VERSION}"
            )
        if version < SCHEMA_VERSION:
            await _upgrade(db, schema, version)
        if missing := await db.fetchval(_RIGHTS, schema):
            raise LogUnavailable(f"the database's user lacks rights: {missing}")
        rows = await db.fetch("SELECT name, value FROM meta WHERE name IN ('epoch', 'history')")
        meta = {row["name"]: str(row["value"]) for row in rows}
        copy = await db.fetchval("SELECT value FROM meta WHERE name=$1", COPY)
        if copy is not None and not for_copy:
            raise LogUnavailable(UNFINISHED)
        if not is_one_of_several:
            await refuse_part(db)
        if not meta:
            meta = {"epoch": secrets.token_hex(8), "history": history}
            await db.executemany("INSERT INTO meta VALUES ($1, $2)", list(meta.items()))
        elif history and meta["history"] != history:
            meta["epoch"] = await new_epoch(db, meta["epoch"], history)
        return meta["epoch"]


async def refuse_part(db: asyncpg.Connection) -> None:
    """Raises LogUnavailable for one of several databases of a store."""
    parts = await db.fetchval("SELECT value FROM meta WHERE name=$1", DATABASES)
    if parts is not None:
        raise LogUnavailable(
            f"the store is spread over {len(parts.split())} databases, and one is named; name all"
            " of them, in their order"
        )


async def new_epoch(db: asyncpg.Connection, old: str, history: str) -> str:
    """Give the store another epoch unless somebody has just done so; the one that it has now."""
    changed = await db.fetchval(
        "UPDATE meta SET value=$2 WHERE name='epoch' AND value=$1 RETURNING value",
        old,
        secrets.token_hex(8),
    )
    if changed is None:
        return str(await db.fetchval("SELECT value FROM meta WHERE name='epoch'"))
    await db.execute("UPDATE meta SET value=$1 WHERE name='history'", history)
    _log.error(
        "the database's history is another: a failover or a backup has perhaps lost what was"
        " committed; positions and cursors from before mean nothing now",
        epoch=changed,
    )
    metrics.store_damaged("log")
    return str(changed)


async def version_of(db: asyncpg.Connection, schema: str) -> int:
    """0: there is no store yet."""
    if await db.fetchval("SELECT to_regclass($1)", f"{schema}.meta") is None:
        return 0
    return int(await db.fetchval("SELECT value FROM meta WHERE name='version'"))


async def _upgrade(db: asyncpg.Connection, schema: str, version: int) -> None:
    """In the caller's transaction: the store is whole afterwards, as it was or as it is to be."""
    if await db.fetchval("SELECT to_regnamespace($1)", schema) is None:
        await db.execute(f"CREATE SCHEMA {schema}")
    for statements in _VERSIONS[version:]:
        await db.execute(statements)
    await db.execute(
        "INSERT INTO meta VALUES ('version', $1)"
        " ON CONFLICT (name) DO UPDATE SET value=excluded.value",
        str(SCHEMA_VERSION),
    )
