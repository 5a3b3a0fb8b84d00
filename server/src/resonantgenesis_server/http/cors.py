"""Which pages of other origins a browser lets read our answers (PROTOCOL.md, section 2).

The framework's middleware answers refused preflights in plain text and wraps every stream once
more; this one is a table of headers that the edge adds.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

HeaderList = list[tuple[bytes, bytes]]

_EXPOSED = ", ".join(
    [
        "X-Session-Id", "X-Turn", "X-Log-Epoch", "X-Heartbeat-Seconds", "X-Request-Id",
        "Retry-After", "RateLimit", "RateLimit-Policy",
        "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
        "ETag", "Content-Range", "Content-Disposition", "Repr-Digest",
    ]
).encode()  # fmt: skip
_ALLOWED = (
    b"Authorization, Content-Type, Content-Digest, Idempotency-Key, If-None-Match, If-Range,"
    b" Last-Event-ID, Prefer, Range, X-Log-Epoch"
)
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_PREFLIGHT_SECONDS = b"600"


class Cors:
    """`origins`: those that may send credentials, e.g. `https://app.example`; empty: any origin
    may read, without credentials."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def lists(self, origin: str) -> bool:
        """Whether the configuration names this origin."""
        return origin.lower() in self._origins

    def headers(self, origin: bytes | None) -> HeaderList:
        """What a response to a request of `origin` (None: no browser, or our own page) carries."""
        if not self._origins:
            if origin is None:
                return []
            return [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", _EXPOSED),
            ]
        # The answer depends on the origin, so a cache must keep them apart, even without one.
        vary = (b"vary", b"Origin")
        if origin is None or not self.lists(origin.decode("latin-1")):
            return [vary]
        return [
            vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def preflight(self, origin: bytes) -> HeaderList | None:
        """What a preflight of `origin` is told beyond `headers`; None: refused."""
        if self._origins and not self.lists(origin.decode("latin-1")):
            return None
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _ALLOWED),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]


def is_same_host(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from the host and port of the Host header.

    The scheme is left out: behind a proxy that ends TLS we see http where the browser saw https.
    """
    return urlsplit(origin).netloc.lower() == host.lower() != ""
