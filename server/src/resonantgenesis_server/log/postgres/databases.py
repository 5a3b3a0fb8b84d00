"""The databases over which one store is spread: which stream lies in which, and the list of them
that every one of them holds.

A stream's group decides, so all streams of a session lie together. Streams that many nodes append
to, such as an organization's events, lie in the first. Each database has an identity of its own,
and the list of all identities, in their order, stands in each. So a node that was given another
list, or the same one in another order, is refused before it looks for a stream in the wrong place.
A list never changes: `resonantgenesis store copy` moves a store into one with more databases.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from zlib import crc32

import asyncpg

from ..base import LogUnavailable, group_of
from .outbox import Place, Rows
from .schema import DATABASES, SCHEMA, create_or_check, look_at
from .upkeep import connected

_IDENTITY = "database"
_PART = """
SELECT (SELECT value FROM meta WHERE name='database') AS identity,
  (SELECT value FROM meta WHERE name='databases') AS list,
  NOT EXISTS (SELECT 1 FROM streams WHERE name < 'outbox:' OR name >= 'outbox;') AS empty,
  coalesce((SELECT max(id) FROM nodes), 0) AS node
"""
#: Stream numbers that a node takes at once.
_BLOCK = 1_000

#: Says, by a stream's name, in which of the databases it lies, from 0.
Placing = Callable[[str], int]


def placing(count: int, is_first: Callable[[str], bool]) -> Placing:
    """Where streams lie in a store of `count` databases. `is_first`: groups of the first one.

    Stores depend on it: it cannot change.
    """

    def place_of(stream: str) -> int:
        group = group_of(stream)
        if is_first(group):
            return 0
        # Half of a surrogate pair is refused later, by the call that has it.
        return crc32(group.encode(errors="surrogatepass")) % count

    return place_of


async def place_each(rows: Rows, places: Sequence[Place], place_of: Placing) -> None:
    """Give waiting entries their positions, each in the database of its stream. `places` does it in
    each database. Raises what they raise."""
    for number, place in enumerate(places):
        here = [row for row in rows if place_of(row["name"].decode()) == number]
        if here:
            await place(here)


def label_of(place: int, count: int) -> str:
    """One of several databases, in words."""
    return f"database {place + 1} of {count}"


def numbers_from(last: int, place: int, count: int) -> int:
    """The first of the next stream numbers, above `last`: no two databases give the same."""
    return (last // (_BLOCK * count) + 1) * _BLOCK * count + 1 + _BLOCK * place


def joined_epoch(epochs: Iterable[str]) -> str:
    """The epochs of all databases, 16 hexadecimal digits each, as one: another when one of them
    changes. It is their exclusive or, so that a copy can give its databases epochs that make the
    one of the store that it was copied from."""
    joined = 0
    for epoch in epochs:
        joined ^= int(epoch, 16)
    return f"{joined:016x}"


@dataclass(frozen=True, slots=True)
class _Part:
    identity: str
    #: The identities of all; empty: the list is not written yet.
    list: tuple[str, ...]
    is_empty: bool
    #: The highest number of a node.
    node: int


async def agree(urls: Sequence[str], *, make: bool, for_copy: bool = False) -> None:
    """See that these are the databases of one store, in its order; `make`: make it where there is
    none. Any number of processes may do so at once.

    Raises LogUnavailable with one line, and StoreIsNewer.
    """
    async with AsyncExitStack() as stack:
        connections: list[asyncpg.Connection] = []
        parts: list[_Part] = []
        for place, url in enumerate(urls):
            label = label_of(place, len(urls))
            try:
                db = await stack.enter_async_context(connected(url))
                if make:
                    history = (await look_at(db)).history
                    await create_or_check(
                        db, SCHEMA, history, for_copy=for_copy, is_one_of_several=True
                    )
                parts.append(await _part(db, make=make))
            except LogUnavailable as error:
                raise LogUnavailable(f"{label}: {error}") from error
            connections.append(db)
        _check(parts)
        if any(not part.list for part in parts):
            if not make:
                raise LogUnavailable("there is no store yet; run `resonantgenesis store init`")
            await _write(connections, [part.identity for part in parts])
        if (above := max(part.node for part in parts)) > parts[0].node:
            # The first database has lost its last nodes in a failover, and would number others so.
            await connections[0].execute(f"ALTER TABLE nodes ALTER id RESTART WITH {above + 1:d}")


async def _part(db: asyncpg.Connection, *, make: bool) -> _Part:
    if make:
        await db.execute(
            "INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO NOTHING",
            _IDENTITY,
            secrets.token_hex(8),
        )
    row = await db.fetchrow(_PART)
    named = tuple((row["list"] or "").split())
    return _Part(row["identity"] or "", named, row["empty"], row["node"])


def _check(parts: Sequence[_Part]) -> None:
    """Raises LogUnavailable for databases that are not the parts of one store."""
    count, identities = len(parts), tuple(part.identity for part in parts)
    for place, part in enumerate(parts):
        if part.identity and (first := identities.index(part.identity)) != place:
            raise LogUnavailable(f"databases {first + 1} and {place + 1} of {count} are the same")
    lists = {part.list for part in parts if part.list}
    if not lists:
        for place, part in enumerate(parts):
            if not part.is_empty:
                raise LogUnavailable(
                    f"{label_of(place, count)} holds a store of its own; `resonantgenesis store"
                    " copy` moves it into empty databases"
                )
        return
    known = min(lists)
    for place, part in enumerate(parts):
        is_strange = part.list != known if part.list else not part.is_empty
        if is_strange or part.identity not in known:
            raise LogUnavailable(
                f"{label_of(place, count)} is no part of the store in the others; to spread a store"
                " over other databases copy it into empty ones by `resonantgenesis store copy`"
            )
    if len(known) != count:
        raise LogUnavailable(f"the store is spread over {len(known)} databases, {count} are named")
    if known != identities:
        order = " ".join(str(identities.index(identity) + 1) for identity in known)
        raise LogUnavailable(
            f"the databases are not named in the order of the store, which is {order}"
        )


async def _write(connections: Sequence[asyncpg.Connection], identities: Sequence[str]) -> None:
    count = len(connections)
    for place, db in enumerate(connections):
        async with db.transaction():
            made = await db.fetchval(
                "INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1",
                DATABASES,
                " ".join(identities),
            )
            if made:
                last = await db.fetchval("SELECT last_value FROM stream_numbers")
                await db.execute(
                    f"ALTER SEQUENCE stream_numbers INCREMENT BY {_BLOCK * count:d}"
                    f" RESTART WITH {numbers_from(last, place, count):d}"
                )
