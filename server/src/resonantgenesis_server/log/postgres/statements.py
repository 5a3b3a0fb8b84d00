"""The statements of the log's writer: one a group, and what is asked beside it."""

from __future__ import annotations

# Everything hangs on `me`: no row from it, and the statement does nothing.
_ME = """
WITH me AS (
  UPDATE writers SET committed=$2, at=(extract(epoch FROM clock_timestamp()) * 1000000)::bigint
  WHERE node=$1 AND committed=$3 AND generation=$4 AND alive RETURNING at
)"""
_ROWS = """, rows AS (
  INSERT INTO entries (stream, position, at, kind, body, key)
  SELECT s, p, greatest(me.at, l), k, b, y FROM me, unnest(
    $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[]
  ) AS u(s, p, l, k, b, y)
)"""
_STREAMS = """, marked AS (
  UPDATE streams s SET fence=u.f, pending=u.p, closed=u.c
  FROM unnest($11::bigint[], $12::bigint[], $13::boolean[], $14::boolean[]) AS u(i, f, p, c)
  WHERE s.id=u.i AND EXISTS (SELECT 1 FROM me)
), new AS (
  INSERT INTO streams (id, name, owner, fence, pending, closed)
  SELECT u.i, u.n, $1, u.f, u.p, u.c FROM me, unnest(
    $15::bigint[], $16::bytea[], $17::bigint[], $18::boolean[], $19::boolean[]
  ) AS u(i, n, f, p, c)
)"""
_GONE = """, gone AS (
  DELETE FROM streams s USING unnest($20::bigint[]) AS u(i)
  WHERE s.id=u.i AND EXISTS (SELECT 1 FROM me)
), left_over AS (
  INSERT INTO removed SELECT u.i FROM me, unnest($20::bigint[]) AS u(i)
)"""
# The last parameter is what other nodes are told; empty: nothing, which costs nothing.
_AT = " SELECT at, CASE WHEN ${0}::text <> '' THEN pg_notify('resonantgenesis', ${0}) END FROM me"
APPEND = _ME + _ROWS + _AT.format(11)
APPEND_AND_MARK = _ME + _ROWS + _STREAMS + _AT.format(20)
DELETE = _ME + _ROWS + _STREAMS + _GONE + _AT.format(21)
_TRIMMED = """, gone AS (
  DELETE FROM entries WHERE stream=$5 AND position<$6 AND EXISTS (SELECT 1 FROM me)
), kept AS (
  UPDATE streams SET head=$7, last_at=$8, earliest=$6
  WHERE id=$5 AND EXISTS (SELECT 1 FROM me)
)"""
TRIM = _ME + _TRIMMED + _AT.format(9)
TAKE = "SELECT * FROM take_streams($1, $2::bytea[], $3)"
KEYS = """
SELECT u.s, u.k FROM unnest($1::bigint[], $2::bytea[]) AS u(s, k)
WHERE EXISTS (SELECT 1 FROM entries e WHERE e.stream=u.s AND e.key=u.k)
"""
# A stream may have been taken back and again.
TAKEN = """
SELECT stream, max(generation) AS generation FROM taken
WHERE node=$1 AND generation<=$2 GROUP BY stream
"""
FORGET = "DELETE FROM taken WHERE node=$1 AND generation<=$2"
GENERATION = "SELECT generation FROM writers WHERE node=$1"
STANDING = "SELECT generation, alive, committed, at FROM writers WHERE node=$1"
