"""CORS: the pages of other origins that may read our answers (PROTOCOL.md, section 2).

The framework's middleware answers refused preflights in plain text, and wraps every stream once
more. This module only makes headers, which the gateway adds.
"""

from __future__ import annotations

import re
from collections.abc import Collection

HeaderList = list[tuple[bytes, bytes]]

_EXPOSED = ", ".join(
    [
        "X-Session-Id", "X-Turn", "X-Log-Epoch", "X-Heartbeat-Seconds", "X-Request-Id",
        "Retry-After", "RateLimit", "RateLimit-Policy",
        "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
        "ETag", "Content-Range", "Content-Disposition", "Repr-Digest", "Preference-Applied",
        # Of other people's clients (PROTOCOL.md, section 10).
        "X-Vercel-AI-UI-Message-Stream", "X-Workflow-Run-Id", "X-Workflow-Stream-Tail-Index",
        "X-Next-Cursor", "Retry-After-Ms", "X-Should-Retry", "Location", "Content-Location",
        "Mcp-Session-Id", "Stream-Next-Offset", "Stream-Up-To-Date", "Stream-Closed",
        "Stream-Cursor",
    ]
).encode()  # fmt: skip
_ALLOWED = [
    "Authorization", "Cache-Control", "Content-Type", "Content-Digest", "Idempotency-Key",
    "If-None-Match", "If-Range", "Last-Event-ID", "Prefer", "Range", "X-Log-Epoch",
    "X-Request-Id", "X-Requested-With", "traceparent", "tracestate", "baggage",
]  # fmt: skip
_KNOWN = frozenset(name.lower() for name in _ALLOWED)
#: Further header names that one preflight may ask for. Of a longer list none is granted.
_MOST_ASKED = 64
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
#: Proxies trust these headers, or take a path or method from them. So no page may send them.
#: OpenAI's SDK names its helper in `x-stainless-helper-method`, which is no such method.
_PROXYS = re.compile(
    r"forwarded|x-forwarded-.*|x-real-ip|x-original-.*|x-rewrite-.*|x-(?!stainless-).*method.*"
)
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_PREFLIGHT_SECONDS = b"600"


class Cors:
    """Headers for the answers to pages of other origins.

    `origins` may send credentials, e.g. `https://app.example`. Without any, every origin may read,
    without credentials.
    """

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def lists(self, origin: str) -> bool:
        """Whether the configuration names this origin."""
        return origin.lower() in self._origins

    def headers(self, origin: bytes | None) -> HeaderList:
        """The headers of a response to `origin`; None is no browser, or a page of our own."""
        if not self._origins:
            if origin is None:
                return []
            return [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", _EXPOSED),
            ]
        # The answer depends on the origin, also on a missing one, so a cache must keep them apart.
        vary = (b"vary", b"Origin")
        if origin is None or not self.lists(origin.decode("latin-1")):
            return [vary]
        return [
            vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def preflight(self, origin: bytes, asked: bytes) -> HeaderList | None:
        """The headers of the answer to a preflight, beside `headers`; None if it is refused.

        `asked`: the header names that the page wants to send. Libraries add headers of their own to
        every request (`x-stainless-os`, `sentry-trace`), so a list would always lack some. They
        mean nothing to us, and are granted to every origin that may read the answer.
        """
        if self._origins and not self.lists(origin.decode("latin-1")):
            return None
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", ", ".join(_allowed(asked)).encode("ascii")),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]


def _allowed(asked: bytes) -> list[str]:
    """Our list, and the names of `asked` that no proxy trusts."""
    names = [name.strip().lower() for name in asked.decode("latin-1").split(",", _MOST_ASKED)]
    if len(names) > _MOST_ASKED:
        return _ALLOWED
    others = (name for name in dict.fromkeys(names) if name not in _KNOWN)
    return [*_ALLOWED, *(n for n in others if _NAME.fullmatch(n) and not _PROXYS.fullmatch(n))]


def is_same_host(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from the host and port of the Host header.

    The scheme is not compared: behind a proxy that ends TLS we see http and the browser https.
    """
    scheme, _, rest = origin.lower().partition("://")  # an origin ends with its port
    return scheme in {"http", "https"} and rest == host.lower() != ""
