"""Pages of lists. A cursor is opaque to clients: the sort key of the last item before it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson
from sqlalchemy import BigInteger, ColumnElement, RowMapping, Select, Table, literal, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.errors import InvalidRequest
from ..model.limits import PAGE_BYTES
from .base import ListPage

T = TypeVar("T")
_MAX = 512
#: Rows fetched at once; some MB if each has the largest size.
_ROWS = 16


def by_creation(
    query: Select[Any], table: Table, cursor: str | None, *, newest_first: bool = True
) -> Select[Any]:
    """Order the rows by creation, then by id, and begin behind the cursor."""
    columns = (table.c.created_at, table.c.id)
    if cursor is not None:
        query = query.where(behind(columns, decode_cursor(cursor, int, str), newest_first))
    return query.order_by(*(column.desc() if newest_first else column for column in columns))


def behind(
    columns: Sequence[ColumnElement[Any]], key: Sequence[str | int], descending: bool
) -> ColumnElement[bool]:
    """Whether a row comes after this sort key."""
    # A number of a forged cursor may be larger than the column's type.
    parts = (literal(part, BigInteger) if isinstance(part, int) else literal(part) for part in key)
    place = tuple_(*parts)
    return tuple_(*columns) < place if descending else tuple_(*columns) > place


async def read_page(
    connection: AsyncConnection,
    query: Select[Any],
    limit: int,
    make: Callable[[RowMapping], T],
    place: Callable[[T], tuple[str | int, ...]],
) -> ListPage[T]:
    """Make items of the first rows of an ordered query. At most `limit`; fewer, but at least one,
    where rows are large. `place` gives an item's sort key."""
    items: list[T] = []
    size = 0
    async with connection.stream(query.limit(limit + 1)) as result:
        mappings = result.mappings()
        while rows := await mappings.fetchmany(_ROWS):
            for row in rows:
                if len(items) >= limit or size >= PAGE_BYTES:
                    return ListPage(items, encode_cursor(*place(items[-1])))
                items.append(make(row))
                size += len(orjson.dumps(list(row.values()), default=str))
    return ListPage(items)


def encode_cursor(*key: str | int) -> str:
    """The cursor that stands after the item with this sort key."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).rstrip(b"=").decode()


def decode_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """The sort key, its parts checked to be of these types. Raises `InvalidRequest`."""
    wrong = InvalidRequest.field("cursor", "is not a cursor of this list")
    if len(cursor) > _MAX or not cursor.isascii():
        raise wrong
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        raise wrong from None
    if not isinstance(key, list) or [type(part) for part in key] != list(types):
        raise wrong
    if any(_is_unstorable(part) for part in key):
        raise wrong
    return tuple(key)


def _is_unstorable(part: str | int) -> bool:
    """Whether some database of ours could not compare with it. No list has such a value."""
    return "\0" in part if isinstance(part, str) else not 0 <= part < 2**63
