"""JSON as it goes over the wire: one line, UTF-8, safe for line readers."""

from __future__ import annotations

from typing import Any

import orjson

# Line readers of the field (httpx, Python's str.splitlines) break lines at these characters too,
# which JSON lets stand raw inside strings.
_BREAKERS = (
    (b"\xc2\x85", rb"\u0085"),
    (b"\xe2\x80\xa8", rb"\u2028"),
    (b"\xe2\x80\xa9", rb"\u2029"),
)

_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


#: Types of values that hold no others, as `loads` makes them.
SCALARS = frozenset({str, int, float, bool, type(None)})


class NotJson(ValueError):
    """A value has no JSON form, or bytes are not JSON."""


def dumps(value: Any) -> bytes:
    """`value` as one line of JSON. Lone surrogates in it become U+FFFD.

    Raises NotJson for what has no JSON form: sets, integers over 64 bits, cycles.
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
    # orjson leaves the 4 KiB it began with behind even the smallest result, and these are kept.
    return bytes(memoryview(data))


def loads(data: bytes | str) -> Any:
    """Raises NotJson."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from error


def has_more_values(data: bytes, limit: int) -> bool:
    """Whether a JSON text has more than `limit` values and names, counted as the commas, colons
    and opening brackets outside of its strings.

    Parsing costs time per value and not per byte: 1 MiB of `{},` takes a hundred times as long as
    1 MiB of text. Counting costs 1 ms, and at most 4, a MiB. `data` need not be JSON.
    """
    if _separators(data) <= limit:
        return False
    bare = _without_escapes(data)
    if bare.count(b'"') > 4 * (limit + 1):  # two a string, and a value has one name at most
        return True
    return _separators(_outside_strings(bare)) > limit


def nests_deeper(data: bytes, depth: int) -> bool:
    """Whether arrays and objects of a JSON text nest deeper than that; 0 is a scalar's depth."""
    if data.count(b"[") + data.count(b"{") <= depth:
        return False
    brackets = _outside_strings(_without_escapes(data)).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(depth):  # each time those that have nothing in them are taken out
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return bool(brackets)


def memory_of(data: bytes) -> int:
    """About how many bytes the values of a JSON text take at most, once they are parsed. That goes
    by their number more than by the text's size: `{"":1},` is 7 bytes, and some 250 in memory."""
    return 4 * len(data) + 80 * _separators(data)


def _separators(data: bytes) -> int:
    return data.count(b",") + data.count(b":") + data.count(b"[") + data.count(b"{")


def _without_escapes(data: bytes) -> bytes:
    """Without what a string hides: every quote that is left begins or ends one."""
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
