"""What the PostgreSQL log is asked beside its writer: pages, places, keys, fences. Every function
is one snapshot, or one transaction, on the connection that it is given."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from ..base import Entry, LogUnavailable, Page, StreamInfo

#: Positions and dates are below it.
_MAX = (1 << 63) - 1
_SECONDS = 30.0

# The window sums the bodies up to a row; the first row that begins past the bound ends the page.
READ = """
SELECT s.fence, s.closed, s.earliest, coalesce(l.position, s.head) AS head,
  e.position, e.kind, e.body, e.at
FROM streams s
LEFT JOIN LATERAL (
  SELECT position FROM entries WHERE stream=s.id ORDER BY position DESC LIMIT 1
) l ON true
LEFT JOIN LATERAL (
  SELECT position, kind, body, at FROM (
    SELECT x.*, sum(octet_length(body)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING)
      - octet_length(body) AS before
    FROM (
      SELECT position, kind, body, at FROM entries
      WHERE stream=s.id AND position>$2 ORDER BY position LIMIT $3
    ) x
  ) y WHERE before < $4
) e ON true
WHERE s.name=$1 ORDER BY e.position
"""
READ_MANY = """
SELECT u.n, s.fence, s.closed, s.earliest, coalesce(l.position, s.head) AS head,
  e.position, e.kind, e.body, e.at
FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS u(name, after, n)
JOIN streams s ON s.name=u.name
LEFT JOIN LATERAL (
  SELECT position FROM entries WHERE stream=s.id ORDER BY position DESC LIMIT 1
) l ON true
LEFT JOIN LATERAL (
  SELECT position, kind, body, at FROM (
    SELECT x.*, sum(octet_length(body)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING)
      - octet_length(body) AS before
    FROM (
      SELECT position, kind, body, at FROM entries
      WHERE stream=s.id AND position>u.after ORDER BY position LIMIT $3
    ) x
  ) y WHERE before < $4
) e ON true
ORDER BY u.n, e.position
"""
POSITION_OF = """
SELECT e.position FROM streams s JOIN LATERAL (
  SELECT position FROM entries WHERE stream=s.id AND key=$2
) e ON true WHERE s.name=$1
"""
# Halving: positions are dense between the first and the last, and dates never go back.
POSITION_AT = """
WITH RECURSIVE ends AS (
  SELECT s.id, f.position AS first, l.position AS last FROM streams s
  JOIN LATERAL (
    SELECT position FROM entries WHERE stream=s.id ORDER BY position LIMIT 1
  ) f ON true
  JOIN LATERAL (
    SELECT position FROM entries WHERE stream=s.id ORDER BY position DESC LIMIT 1
  ) l ON true
  WHERE s.name=$1
), halves AS (
  SELECT id, last, first AS low, last + 1 AS high FROM ends
  UNION ALL
  SELECT h.id, h.last, CASE WHEN e.at < $2 THEN m.middle + 1 ELSE h.low END,
    CASE WHEN e.at < $2 THEN h.high ELSE m.middle END
  FROM halves h
  JOIN LATERAL (SELECT (h.low + h.high) / 2 AS middle) m ON true
  JOIN LATERAL (SELECT at FROM entries WHERE stream=h.id AND position=m.middle) e ON true
  WHERE h.low < h.high
)
SELECT low FROM halves WHERE low=high AND low<=last
"""
PENDING = "SELECT name FROM streams WHERE pending ORDER BY id"
NEXT_FENCE = """
WITH last AS (
  UPDATE meta SET value=(value::bigint + 1)::text WHERE name='fence' RETURNING value::bigint
) INSERT INTO fences (fence, node) SELECT value, $1 FROM last RETURNING fence
"""
# Of a fence that another database has given out.
NOTE_FENCE = """
WITH last AS (
  UPDATE meta SET value=greatest(value::bigint, $2)::text WHERE name='fence'
) INSERT INTO fences (fence, node) VALUES ($2, $1) ON CONFLICT DO NOTHING RETURNING 1
"""
CLAIM = """
INSERT INTO idempotency VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
ON CONFLICT (scope, key) DO UPDATE SET value=excluded.value, expires=excluded.expires
WHERE idempotency.expires <= clock_timestamp() RETURNING 1
"""
LOOKUP = """
SELECT value FROM idempotency WHERE scope=$1 AND key=$2 AND expires > clock_timestamp()
"""
RELEASE = "DELETE FROM idempotency WHERE scope=$1 AND key=$2"
EXPIRED = """
DELETE FROM idempotency WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM idempotency WHERE expires <= now() ORDER BY expires LIMIT $1
  FOR UPDATE SKIP LOCKED
))
"""
LEFT_OVER = "SELECT stream FROM removed ORDER BY stream LIMIT 1000"
REMOVE = """
DELETE FROM entries WHERE stream=$1 AND position < (
  SELECT position FROM entries WHERE stream=$1 ORDER BY position LIMIT 1
) + $2
"""
REMOVED = "DELETE FROM removed WHERE stream=$1"


async def read_page(
    db: asyncpg.Connection, stream: str, after: int, limit: int, max_bytes: int
) -> Page:
    """Entries after a position, with the stream's info from the same snapshot."""
    place = min(max(after, 0), _MAX)
    rows = await db.fetch(
        READ, stream.encode(), place, min(limit, _MAX), max(max_bytes, 1), timeout=_SECONDS
    )
    if not rows:
        return Page([], None)
    fence, closed, earliest, head, first, *_ = rows[0]
    info = StreamInfo(head, earliest, fence, closed)
    if first is None:
        return Page([], info)
    return Page([Entry(row[4], row[5].decode(), row[6], row[7]) for row in rows], info)


async def read_pages(
    db: asyncpg.Connection, after: Mapping[str, int], limit: int, max_bytes: int
) -> dict[str, Page]:
    """A page of each stream, all from one snapshot."""
    names = list(after)
    encoded = [name.encode() for name in names]
    places = [min(max(place, 0), _MAX) for place in after.values()]
    rows = await db.fetch(READ_MANY, encoded, places, limit, max_bytes, timeout=_SECONDS)
    pages = {name: Page([], None) for name in names}
    for number, fence, closed, earliest, head, position, kind, body, at in rows:
        page = pages[names[number - 1]]
        if page.info is None:
            page = pages[names[number - 1]] = Page([], StreamInfo(head, earliest, fence, closed))
        if position is not None:
            page.entries.append(Entry(position, kind.decode(), body, at))
    return pages


async def position_of(db: asyncpg.Connection, stream: str, key: str) -> int | None:
    """The position of the entry with this key."""
    position: int | None = await db.fetchval(
        POSITION_OF, stream.encode(), key.encode(), timeout=_SECONDS
    )
    return position


async def position_at(db: asyncpg.Connection, stream: str, at: int) -> int | None:
    """The position of the first entry that is not older than `at`."""
    moment = min(max(at, 0), _MAX)
    position: int | None = await db.fetchval(POSITION_AT, stream.encode(), moment, timeout=_SECONDS)
    return position


async def pending(db: asyncpg.Connection) -> list[str]:
    return [row[0].decode() for row in await db.fetch(PENDING, timeout=_SECONDS)]


async def next_fence(db: asyncpg.Connection, node: int) -> int:
    """Durable on return, and the node that it was given to is known."""
    return int(await db.fetchval(NEXT_FENCE, node, timeout=_SECONDS))


async def note_fence(db: asyncpg.Connection, node: int, fence: int) -> bool:
    """Whether this database now knows that the fence was given to the node; False: it was given
    out before."""
    return bool(await db.fetchval(NOTE_FENCE, node, fence, timeout=_SECONDS))


async def claim(
    db: asyncpg.Connection, scope: str, key: str, value: bytes, ttl: float
) -> bytes | None:
    place = scope.encode(), key.encode()
    for _ in range(100):
        if await db.fetchval(CLAIM, *place, value, float(ttl), timeout=_SECONDS):
            return None
        standing: bytes | None = await db.fetchval(LOOKUP, *place, timeout=_SECONDS)
        if standing is not None:
            return standing
    raise LogUnavailable("the key is claimed and released all the time")


async def lookup(db: asyncpg.Connection, scope: str, key: str) -> bytes | None:
    value: bytes | None = await db.fetchval(LOOKUP, scope.encode(), key.encode(), timeout=_SECONDS)
    return value


async def release(db: asyncpg.Connection, scope: str, key: str) -> None:
    await db.execute(RELEASE, scope.encode(), key.encode(), timeout=_SECONDS)


async def forget_expired(db: asyncpg.Connection, limit: int) -> None:
    await db.execute(EXPIRED, limit, timeout=_SECONDS)


async def left_over(db: asyncpg.Connection) -> list[int]:
    """Deleted streams that may still have entries."""
    return [row[0] for row in await db.fetch(LEFT_OVER, timeout=_SECONDS)]


async def remove_some(db: asyncpg.Connection, number: int, limit: int) -> bool:
    """Remove entries of a deleted stream; whether there may be more."""
    done = await db.execute(REMOVE, number, limit, timeout=_SECONDS)
    if done != "DELETE 0":
        return True
    await db.execute(REMOVED, number, timeout=_SECONDS)
    return False
