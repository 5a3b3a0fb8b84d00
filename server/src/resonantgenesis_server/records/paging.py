"""Opaque cursors of lists: the sort key of a page's last item."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from ..model.errors import InvalidRequest

_MAX = 512


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
