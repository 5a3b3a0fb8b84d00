"""JSON texts of clients, parsed strictly: their values and their depth are bounded."""

from __future__ import annotations

from typing import Any

import orjson

from ..model.errors import InvalidJson, PayloadTooLarge
from .json import has_more_values, nests_deeper


def parse_json(data: bytes, depth: int, values: int, what: str = "body") -> Any:
    """Parse a JSON text; errors call it `what`.

    Raises `InvalidJson` for a text that RFC 8259 does not allow (also NaN, Infinity, invalid UTF-8,
    lone surrogates). Raises `PayloadTooLarge` if it nests deeper than `depth`, or has more than
    `values` values and names.
    """
    # Counted before parsing, since the parser holds the interpreter's lock in any thread.
    if has_more_values(data, values):
        problem = f"the {what} has more than {values} JSON values and names; send it in parts"
        raise PayloadTooLarge(problem, details={"values": values})
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "depth limit" in error.msg:
            raise _too_deep(depth, what) from None
        # `from None`: the cause holds the text; its message does not.
        raise InvalidJson(f"the {what} is not JSON: {error}") from None
    if nests_deeper(data, depth):
        raise _too_deep(depth, what)
    return value


def _too_deep(depth: int, what: str) -> PayloadTooLarge:
    return PayloadTooLarge(f"the {what} nests deeper than {depth}", details={"depth": depth})
