"""Opaque cursors of lists: the sort key of a page's last item."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from sqlalchemy import RowMapping, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.errors import InvalidRequest
from ..model.limits import PAGE_BYTES
from .base import Page

T = TypeVar("T")
_MAX = 512
#: Rows that are asked for at once; of the largest there are, that is some MB.
_ROWS = 16


async def read_page(
    connection: AsyncConnection,
    query: Select[Any],
    limit: int,
    make: Callable[[RowMapping], T],
    place: Callable[[T], tuple[str | int, ...]],
) -> Page[T]:
    """The first rows of an ordered query, made into items: at most `limit`, and fewer, but at least
    one, where they are large. `place` is an item's sort key."""
    items: list[T] = []
    size = 0
    async with connection.stream(query.limit(limit + 1)) as result:
        found = result.mappings()
        while rows := await found.fetchmany(_ROWS):
            for row in rows:
                if len(items) >= limit or size >= PAGE_BYTES:
                    return Page(items, encode_cursor(*place(items[-1])))
                items.append(make(row))
                size += len(orjson.dumps(list(row.values()), default=str))
    return Page(items)


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
    """What no database of ours can compare with: it was never in a list."""
    return "\0" in part if isinstance(part, str) else not 0 <= part < 2**63
