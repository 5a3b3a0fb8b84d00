"""Headers about a file: its digest, its name, its type."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import quote

from starlette.types import Scope

from ..files.names import UNKNOWN_TYPE, content_type_of, is_content_type
from ..model.errors import InvalidRequest, UnsupportedMediaType
from .params import text_header

#: One member of a Content-Digest: an algorithm and base64 between colons (RFC 9530).
_MEMBER = re.compile(r"[ \t]*([a-z0-9*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):[ \t]*")
_SHA256_BYTES = 32
#: What RFC 5987 lets stand in an extended parameter.
_PLAIN = "!#$&+-.^_`|~"


def announced_digest(scope: Scope) -> str | None:
    """The SHA-256 that the header Content-Digest announces, in hexadecimal; other algorithms are
    not looked at. Raises InvalidRequest for a header that is none."""
    value = text_header(scope, b"content-digest")
    if value is None:
        return None
    for member in value.split(","):
        match = _MEMBER.fullmatch(member)
        if match is None:
            raise _bad_digest("is not like sha-256=:BASE64:")
        if match[1] == "sha-256":
            try:
                digest = base64.b64decode(match[2], validate=True)
            except binascii.Error:
                raise _bad_digest("is not base64") from None
            if len(digest) != _SHA256_BYTES:
                raise _bad_digest("has another length than SHA-256")
            return digest.hex()
    return None


def check_digest(announced: str | None, found: str) -> None:
    """Raises InvalidRequest when something else came than was announced."""
    if announced is not None and announced != found:
        raise _bad_digest(f"is not that of what came, which is sha256 {found}")


def digest_header(sha256: str) -> bytes:
    """The value of Repr-Digest."""
    return b"sha-256=:" + base64.b64encode(bytes.fromhex(sha256)) + b":"


def upload_type(scope: Scope, name: str) -> str:
    """The type of the file that is the body. Raises UnsupportedMediaType for a body that is not
    simply the file, InvalidRequest for what is no type."""
    given = text_header(scope, b"content-type")
    if (given or "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType("send the file itself as the body, not in a form")
    coding = text_header(scope, b"content-encoding")
    if coding is not None and coding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType("send the file as it is, without Content-Encoding")
    try:
        return content_type_of(given, name)
    except ValueError as error:
        raise InvalidRequest.field("Content-Type", str(error)) from None


def type_header(content_type: str) -> bytes:
    """The value of Content-Type for a stored file; an older server stored types that no header
    can carry."""
    return (content_type if is_content_type(content_type) else UNKNOWN_TYPE).encode("ascii")


def announced_size(scope: Scope) -> int:
    """The body's length as announced; 0 if it was not."""
    value = text_header(scope, b"content-length") or ""
    # However many digits: more than any limit is enough to know.
    return int(value[:18]) if value.isascii() and value.isdigit() else 0


def disposition(name: str) -> bytes:
    """A Content-Disposition under which no browser shows the content, and any saves it under this
    name (RFC 6266): in ASCII for old ones, then as it is."""
    fallback = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    extended = quote(name, safe=_PLAIN)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{extended}".encode("ascii")


def _bad_digest(problem: str) -> InvalidRequest:
    return InvalidRequest.field("Content-Digest", problem)
