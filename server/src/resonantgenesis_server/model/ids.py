"""Identifiers: a prefix that names the kind, then 20 random characters of [0-9a-v] (100 bits)."""

from __future__ import annotations

import hashlib
import os
import re

_AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ANY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
#: A digit for each value of a random byte: eight values have the same digit.
_RANDOM_DIGITS = bytes(ord(_DIGITS[value % 32]) for value in range(256))
#: Random characters for the next ids, fetched many at a time, since a system call costs more than
#: the rest of an id. `list.pop` gives each of them to one thread only.
_random: list[str] = []
_EACH, _AT_ONCE = 20, 256
# A child must not give out its parent's ids.
os.register_at_fork(after_in_child=_random.clear)


def new_id(prefix: str) -> str:
    """A new id, e.g. `sess_0h2c…`: unguessable, safe in URLs and file names."""
    try:
        random = _random.pop()
    except IndexError:
        fetched = os.urandom(_EACH * _AT_ONCE).translate(_RANDOM_DIGITS).decode()
        _random.extend(
            fetched[start : start + _EACH] for start in range(_EACH, len(fetched), _EACH)
        )
        random = fetched[:_EACH]
    return f"{prefix}_{random}"


def event_id(*parts: str | int) -> str:
    """The id of a platform event. Equal parts give an equal id, so the log drops a repeat."""
    return id_of("evt", *parts)


def id_of(prefix: str, *parts: str | int) -> str:
    """The id of a thing that these parts name. Equal parts give an equal id."""
    name = "\0".join(str(part) for part in parts).encode()
    return f"{prefix}_{_base32(hashlib.sha256(name).digest())}"


def _base32(data: bytes) -> str:
    """The first 100 bits of 13 bytes as 20 characters of [0-9a-v], as base32hex has them."""
    bits = int.from_bytes(data[:13]) >> 4
    return "".join([_PAIRS[bits >> shift & 1023] for shift in range(90, -1, -10)])


def is_agent_id(text: str) -> bool:
    """Whether `text` may name an agent: `[A-Za-z0-9_-]{1,64}`."""
    return _AGENT_ID.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id. No other text can name a thing."""
    return _ANY_ID.fullmatch(text) is not None
