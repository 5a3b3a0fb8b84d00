"""Endpoints: their address, their secret as it is kept, and the signature of what they are sent.

Requests are signed as Standard Webhooks says (standardwebhooks.com, symmetric), so libraries in
every language check them. A secret is kept sealed under the server's own, which is not in the
database: a stolen copy of the records signs nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from ....codec.json import dumps, loads
from ....model.errors import InvalidRequest

#: The prefix of a secret that people see; base64 of 24 to 64 bytes stands behind it.
PREFIX = "whsec_"
_LEAST, _MOST, _MADE = 24, 64, 32
_NONCE, _TAG = 16, 16
#: Seconds for which requests are also signed with the secret that was replaced.
FORMER_SECONDS = 86_400.0
MAX_URL = 2_048

#: A key for a purpose and material, from the server's secret; see `CredentialHasher.derive`.
Derive = Callable[[str, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An agent's address, and its secrets, the newest first."""

    url: httpx.URL
    secrets: tuple[bytes, ...]
    #: Headers of the owner's, of which some may be credentials.
    headers: Mapping[str, str] = field(default_factory=dict)

    def signed(self, message_id: str, body: bytes, now: float) -> list[tuple[bytes, bytes]]:
        """The headers of a request at `now`, in seconds since 1970."""
        timestamp = str(int(now))
        content = f"{message_id}.{timestamp}.".encode() + body
        signatures = " ".join(_signature(secret, content) for secret in self.secrets)
        return [
            (b"webhook-id", message_id.encode()),
            (b"webhook-timestamp", timestamp.encode()),
            (b"webhook-signature", signatures.encode()),
        ]


def _signature(secret: bytes, content: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(secret, content, "sha256")).decode()


def parse_url(text: str) -> httpx.URL:
    """Raises InvalidRequest."""
    try:
        url = httpx.URL(text.strip())
        port = url.port
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidRequest.field("url", f"is not an address: {error}") from None
    if url.scheme not in {"http", "https"} or not url.raw_host or len(text) > MAX_URL:
        raise InvalidRequest.field("url", "is not like https://agent.example/turns")
    if url.userinfo:
        raise InvalidRequest.field("url", "must not have a name or password in it")
    if port is not None and not 0 < port <= 65_535:
        raise InvalidRequest.field("url", f"there is no port {port}")
    return url.copy_with(fragment=None)


def _of_no_secret(purpose: str, material: bytes) -> bytes:
    """The `Derive` of a server without a secret of its own."""
    return hashlib.sha256(purpose.encode() + b"\0" + material).digest()


class EndpointRecords:
    """Endpoints as the records keep them: `{url, secret, former, rotated_at, headers}`, secrets
    and headers sealed."""

    def __init__(self, derives: Callable[[], Sequence[Derive]] = lambda: [_of_no_secret]) -> None:
        """`derives`: of the server's secrets; the first one seals, all open."""
        self._derives = derives

    def make(self, url: str, given: str | None) -> tuple[dict[str, Any], str]:
        """A new record, and its secret as it is shown: the `given` one, or a new one. Raises
        InvalidRequest."""
        secret = secrets.token_bytes(_MADE) if given is None else _bytes_of(given)
        kept = {"url": url, "secret": self._sealed(secret), "former": None, "rotated_at": None}
        return kept, PREFIX + base64.b64encode(secret).decode()

    def rotate(self, kept: Mapping[str, Any], given: str | None) -> tuple[dict[str, Any], str]:
        """The record with another secret, and that secret. For a day requests are signed with the
        former one as well. A repeat with the same secret changes nothing. Raises InvalidRequest."""
        if given is not None and self._opened(kept["secret"]) == _bytes_of(given):
            return dict(kept), given
        made, shown = self.make(kept["url"], given)
        return {**kept, **made, "former": kept["secret"], "rotated_at": time.time()}, shown

    def with_headers(self, kept: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        """The record with these headers in the place of its own."""
        sealed = self._sealed(dumps(dict(headers))) if headers else None
        return {**kept, "headers": sealed, "header_names": list(headers)}

    def open(self, kept: Mapping[str, Any]) -> Endpoint:
        """Raises InvalidRequest if the server's secret is another one than when this was kept."""
        found = [self._opened(kept["secret"])]
        rotated_at = kept.get("rotated_at")
        if kept.get("former") and time.time() - (rotated_at or 0) < FORMER_SECONDS:
            found.append(self._opened(kept["former"]))
        sealed = kept.get("headers")
        headers: Any = {} if sealed is None else loads(self._opened(sealed))
        return Endpoint(parse_url(kept["url"]), tuple(found), headers)

    def resealed(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """The record, sealed under the server's current secret. What is sealed under it already
        stays, and so does what no secret opens."""
        changed, (_, *former) = dict(kept), self._derives()
        for name in ("secret", "former", "headers"):
            if kept.get(name):
                with contextlib.suppress(InvalidRequest):
                    changed[name] = self._sealed(_opened(kept[name], former))
        return changed

    def _sealed(self, secret: bytes) -> str:
        derive, nonce = self._derives()[0], secrets.token_bytes(_NONCE)
        masked = _xor(secret, _mask(derive, nonce, len(secret)))
        return base64.b64encode(nonce + _tag(derive, nonce, masked) + masked).decode()

    def _opened(self, sealed: str) -> bytes:
        return _opened(sealed, self._derives())


def _opened(sealed: str, derives: Iterable[Derive]) -> bytes:
    """Raises InvalidRequest if none of these sealed it."""
    data = base64.b64decode(sealed)
    nonce, tag, masked = data[:_NONCE], data[_NONCE : _NONCE + _TAG], data[_NONCE + _TAG :]
    for derive in derives:
        if hmac.compare_digest(tag, _tag(derive, nonce, masked)):
            return _xor(masked, _mask(derive, nonce, len(masked)))
    raise InvalidRequest.field(
        "secret", "was kept under another secret of the server; give the agent a new one"
    )


def _mask(derive: Derive, nonce: bytes, length: int) -> bytes:
    """At least as many bytes, up to 8 KiB. A nonce is never used twice."""
    return b"".join(
        derive("endpoint-secret", nonce + bytes([part]))
        for part in range(-(-length // hashlib.sha256().digest_size))
    )


def _tag(derive: Derive, nonce: bytes, masked: bytes) -> bytes:
    return derive("endpoint-tag", nonce + masked)[:_TAG]


def _xor(data: bytes, mask: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(data, mask, strict=False))


def _bytes_of(secret: str) -> bytes:
    try:
        if not secret.startswith(PREFIX):
            raise ValueError
        found = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidRequest.field("secret", f"is {PREFIX} and base64") from None
    if not _LEAST <= len(found) <= _MOST:
        raise InvalidRequest.field("secret", f"has {_LEAST} to {_MOST} bytes in base64")
    return found
