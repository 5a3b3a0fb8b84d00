"""JSON for the wire: one line, UTF-8, safe for line readers."""

from __future__ import annotations

from typing import Any

import orjson

# Line readers (httpx, Python's str.splitlines) also break lines at these characters, which JSON
# allows inside strings.
_BREAKERS = (
    (b"\xc2\x85", rb"\u0085"),
    (b"\xe2\x80\xa8", rb"\u2028"),
    (b"\xe2\x80\xa9", rb"\u2029"),
)

_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


#: Types of values without inner values, as `loads` makes them.
SCALARS = frozenset({str, int, float, bool, type(None)})


class NotJson(ValueError):
    """A value has no JSON form, or bytes are not JSON."""


def dumps(value: Any) -> bytes:
    """`value` as one line of JSON. Lone surrogates become U+FFFD.

    Raises NotJson for a value without a JSON form: sets, integers over 64 bits, cycles.
    """
    try:
        data = orjson.dumps(value)
    except TypeError as error:
        if "surrogates" not in str(error):
            raise NotJson(str(error)) from error
        data = _dumps_repaired(value)
    if not data.isascii():
        for raw, escaped in _BREAKERS:
            if raw in data:
                data = data.replace(raw, escaped)
    # A copy: orjson allocates 4 KiB for the smallest result, and results are kept in memory.
    return bytes(memoryview(data))


def loads(data: bytes | str) -> Any:
    """Raises NotJson."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from error


def has_more_values(data: bytes, limit: int) -> bool:
    """Whether a JSON text has more than `limit` values and names.

    Counts commas, colons and opening brackets outside of strings. Parsing costs time per value, not
    per byte: 1 MiB of `{},` takes a hundred times as long as 1 MiB of text. Counting a MiB takes 1
    to 4 ms. `data` need not be JSON.
    """
    if _separators(data) <= limit:
        return False
    bare = _without_escapes(data)
    if bare.count(b'"') > 4 * (limit + 1):  # two per string; a value has at most one name
        return True
    return _separators(_outside_strings(bare)) > limit


def nests_deeper(data: bytes, depth: int) -> bool:
    """Whether arrays and objects of a JSON text nest deeper than `depth`; a scalar has depth 0."""
    if data.count(b"[") + data.count(b"{") <= depth:
        return False
    brackets = _outside_strings(_without_escapes(data)).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(depth):  # each round removes the innermost level
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return bool(brackets)


def memory_of(data: bytes) -> int:
    """About the most bytes of memory that the parsed values of a JSON text take.

    The number of values counts more than the size of the text: `{"":1},` has 7 bytes, and takes
    some 250 in memory.
    """
    return 4 * len(data) + 80 * _separators(data)


def _separators(data: bytes) -> int:
    return data.count(b",") + data.count(b":") + data.count(b"[") + data.count(b"{")


def _without_escapes(data: bytes) -> bytes:
    """Remove escaped quotes: every quote that is left begins or ends a string."""
    return data.replace(b"\\\\", b"").replace(b'\\"', b"")


def _outside_strings(bare: bytes) -> bytes:
    return b"".join(bare.split(b'"')[::2])


def _dumps_repaired(value: Any) -> bytes:
    try:
        return orjson.dumps(_repair(value))
    except (TypeError, RecursionError) as error:
        raise NotJson(str(error)) from error


def _repair(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_repair(key): _repair(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_repair(item) for item in value]
    return value
