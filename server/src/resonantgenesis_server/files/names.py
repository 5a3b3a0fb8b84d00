"""The names that a file may have, and the type of its content."""

from __future__ import annotations

import mimetypes
import re
import unicodedata

MAX_NAME = 255
_MAX_TYPE = 255
UNKNOWN_TYPE = "application/octet-stream"
#: The default of some clients. It describes a form, and no file is one.
_NO_TYPE = frozenset({"application/x-www-form-urlencoded"})
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word for it
#: Within quotes only ASCII: bytes beyond it have no agreed meaning in a header (RFC 9110, 5.5).
_QUOTED = r'"[\t\x20\x21\x23-\x5b\x5d-\x7e]*"'
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*")
#: Characters that show a name in another order than it is written.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Without the machine's own tables: a name has the same type everywhere.
_TYPES = mimetypes.MimeTypes()
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def check_name(name: str) -> str:
    """The name. Raises ValueError with the reason for a name that no file system should see."""
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"must have 1 to {MAX_NAME} characters")
    if "/" in name or "\\" in name or name.strip() in {"", ".", ".."}:
        raise ValueError("must be a name without a path")
    if any(unicodedata.category(letter) in {"Cc", "Cs"} or letter in _TURNS for letter in name):
        raise ValueError("has control characters")
    return name


def content_type_of(given: str | None, name: str) -> str:
    """The given type, else the type of the name's ending. Raises ValueError for no type."""
    given = (given or "").strip()
    if not given or given.split(";")[0].strip().lower() in _NO_TYPE:
        guessed, packed = _TYPES.guess_type(name, strict=True)
        if packed is not None:
            return _PACKED.get(packed, UNKNOWN_TYPE)
        return guessed or UNKNOWN_TYPE
    if not is_content_type(given):
        raise ValueError("is not a content type like text/plain, in ASCII")
    return given


def is_content_type(text: str) -> bool:
    """Whether it can stand in a Content-Type header."""
    return len(text) <= _MAX_TYPE and _TYPE.fullmatch(text) is not None
