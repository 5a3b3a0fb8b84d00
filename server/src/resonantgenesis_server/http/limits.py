"""Limits of an API key and of an organization; PROTOCOL.md, section 9.

Requests are counted in a storage of the library `limits`, which several nodes can share. Without
such a one requests are counted where they come, and streams always where they are open; see
`shared_counts` for the counts of other nodes.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from starlette.types import Scope

from ..model.errors import ApiError, RateLimited
from ..model.limits import KIB, Limits
from ..model.principal import ORGANIZATION, Principal, Reached, ignore_limit

log_ = structlog.get_logger("resonantgenesis.limits")

REQUESTS, STREAMS = "requests_per_minute", "open_streams"
_WINDOW = 60
#: `retry_after` of a client that must close a stream first, in seconds.
_STREAM_RETRY_AFTER = 1.0
#: Seconds between two removals of old counts, and between two log lines about a failed storage.
_SWEEP, _COMPLAINT_INTERVAL = 60.0, 60.0
#: Seconds that a storage may take. A request that it has not counted by then passes.
_STORAGE_TIMEOUT = 0.5


#: Sockets without a first message, at most.
_UNAUTHENTICATED = 200


class BadStorage(ApiError):
    """The storage of the configuration cannot be used."""


class RequestLimit:
    """Requests of an API key and of an organization per minute, from the first request on.

    A refused request of a key does not count for its organization: else one busy key would shut
    out all others. If the storage fails, requests pass and the log says so, since a failed limiter
    must not stop the server.
    """

    def __init__(
        self,
        limit: int,
        *,
        storage: str = "memory://",
        reached: Reached = ignore_limit,
        of_organization: int = 0,
    ) -> None:
        """`limit` of a key, and `of_organization`; 0 is any number. Raises BadStorage."""
        self._limit = limit
        self._of_organization = of_organization
        self._reached = reached
        self._item = RateLimitItemPerMinute(max(limit, 1))
        self._storage = _open(storage)
        self._last_complaint = -math.inf
        #: By the id of a key or an organization: the requests of its window here, the window's end
        #: (seconds since 1970), and the limit.
        self._windows: dict[str, tuple[int, float, int]] = {}
        #: How many other nodes have counted, by such an id.
        self.elsewhere: Callable[[str], int] = lambda _whose: 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if isinstance(self._storage, MemoryStorage):
            # The library's own sweep would be a task for each request that visits every key. It
            # makes none while `timer` is set.
            self._task = asyncio.create_task(_sweep(self._storage), name="request counts")
            self._storage.timer = self._task

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)

    @property
    def is_of_process(self) -> bool:
        """Whether requests are counted in this process alone."""
        return isinstance(self._storage, MemoryStorage)

    def above(self, part: float) -> dict[str, int]:
        """The counts of this process that are over this part of their limits."""
        now = time.time()
        self._windows = {
            whose: window for whose, window in self._windows.items() if window[1] > now
        }
        return {
            whose: min(taken, limit)
            for whose, (taken, _, limit) in self._windows.items()
            if taken > part * limit
        }

    async def take(self, principal: Principal) -> list[tuple[bytes, bytes]]:
        """Count a request. Returns the headers with the rest of the limit. Raises RateLimited."""
        if principal.is_bootstrap:
            return []
        of_key = await self._count(principal, REQUESTS, principal.key_id, self._limit)
        of_all = await self._count(
            principal, ORGANIZATION + REQUESTS, principal.organization_id, self._of_organization
        )
        return of_key or of_all

    async def _count(
        self, principal: Principal, name: str, owner: str, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """Count a request for `owner`, a key or an organization. Raises RateLimited."""
        if not limit:
            return []
        key = self._item.key_for(name, owner)
        try:
            if isinstance(self._storage, MemoryStorage):
                taken, ends = await _take(self._storage, key)
                self._windows[owner] = taken, ends, limit
                taken += self.elsewhere(owner)
            else:
                async with asyncio.timeout(_STORAGE_TIMEOUT):
                    taken, ends = await _take(self._storage, key)
        except (StorageError, TimeoutError) as error:
            self._complain(error)
            return []
        left = min(max(math.ceil(ends - time.time()), 1), _WINDOW)
        headers = _headers(limit, max(limit - taken, 0), left)
        if taken <= limit:
            return headers
        self._reached(principal, name, limit)
        raise Limited(
            f"this {_owner(name)} may send {limit} requests a minute",
            details={"limit": name, "most": limit},
            retry_after=float(left),
            headers=headers,
        )

    async def take_for(self, scope: Scope) -> None:
        """Like `take`, for an HTTP request: every answer to it gets the headers."""
        state: dict[str, Any] = scope["state"]
        state["counted"] = True
        try:
            state["headers"].extend(await self.take(state["principal"]))
        except Limited as error:
            state["headers"].extend(error.headers)
            raise

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._last_complaint >= _COMPLAINT_INTERVAL:
            self._last_complaint = now
            log_.error("requests are not counted", error=str(error) or "the storage takes long")


class Limited(RateLimited):
    """RateLimited, with the headers of the limit."""

    def __init__(
        self,
        message: str,
        *,
        details: dict[str, Any],
        retry_after: float,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        super().__init__(message, details=details, retry_after=retry_after)
        self.headers = headers


class StreamLimit:
    """Open streams, sockets and transfers of a key and of an organization."""

    def __init__(
        self, limit: int = 0, reached: Reached = ignore_limit, *, of_organization: int = 0
    ) -> None:
        """`limit` of a key, and `of_organization`; 0 is any number."""
        self.of_key = limit
        self.of_organization = of_organization
        self._reached = reached
        #: How many are open at other nodes, by the id of a key or an organization.
        self.elsewhere: Callable[[str], int] = lambda _whose: 0

    def check(self, principal: Principal, count: int, of_organization: int = 0) -> None:
        """Check that one more may open beside `count` of the key and those of the organization in
        this process.

        Raises RateLimited.
        """
        if principal.is_bootstrap:
            return
        for name, whose, open_here, limit in (
            (STREAMS, principal.key_id, count, self.of_key),
            (
                ORGANIZATION + STREAMS,
                principal.organization_id,
                of_organization,
                self.of_organization,
            ),
        ):
            if not limit or open_here + self.elsewhere(whose) < limit:
                continue
            self._reached(principal, name, limit)
            raise RateLimited(
                f"this {_owner(name)} may have {limit} streams, sockets and transfers open; close"
                " some first",
                details={"limit": name, "most": limit},
                retry_after=_STREAM_RETRY_AFTER,
            )


def _owner(name: str) -> str:
    return "organization" if name.startswith(ORGANIZATION) else "key"


def _headers(limit: int, remaining: int, reset: int) -> list[tuple[bytes, bytes]]:
    left, seconds = b"%d" % remaining, b"%d" % reset
    return [
        # draft-ietf-httpapi-ratelimit-headers-10, and the names in use before it.
        (b"ratelimit-policy", b'"requests";q=%d;w=%d' % (limit, _WINDOW)),
        (b"ratelimit", b'"requests";r=%b;t=%b' % (left, seconds)),
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", left),
        (b"x-ratelimit-reset", seconds),
    ]


def _open(uri: str) -> Storage:
    try:
        storage = storage_from_string(f"async+{uri}", wrap_exceptions=True)
    except (ConfigurationError, ValueError, ImportError) as error:
        raise BadStorage(f"limits_storage: {error}") from error
    if not isinstance(storage, Storage):
        raise BadStorage("limits_storage: is no storage that can be waited for")
    return storage


async def _take(storage: Storage, key: str) -> tuple[int, float]:
    """Count one. Returns the count of the window, and the window's end (seconds since 1970)."""
    taken, ends = await storage.incr(key, _WINDOW), await storage.get_expiry(key)
    if ends > time.time() + 2 * _WINDOW:
        # The window began while the clock was ahead; it would hold the key back until then.
        await storage.clear(key)
        taken, ends = await storage.incr(key, _WINDOW), await storage.get_expiry(key)
    return taken, ends


async def _sweep(storage: MemoryStorage) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        for key in list(storage.expirations):
            await storage.get(key)  # removes an old count


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Limits of one socket; sizes in bytes, times in seconds."""

    message: int = 256 * KIB
    json_depth: int = 32
    json_values: int = 20_000
    unsent: int = 64 * KIB
    stall: float = 60.0
    subscriptions: int = 100
    #: Sustained; a burst may have twice as many. Fragments, pings and pongs count as messages.
    messages_per_second: float = 100.0
    #: Bad messages within the window that end the connection.
    errors: int = 20
    errors_window: float = 10.0
    auth_wait: float = 10.0
    #: Sockets of this process without a first message.
    unauthenticated: int = _UNAUTHENTICATED
    #: Executes that run on one socket, and the time that the next message waits for one to end.
    executes: int = 16
    execute_wait: float = 5.0
    #: Time for running executes to end once the client has gone.
    finish_wait: float = 30.0
    #: Silence after which a subscription gets its cursor.
    quiet: float = 25.0
    #: Time for a client to answer a close.
    close_wait: float = 10.0

    @classmethod
    def of(cls, limits: Limits) -> SocketLimits:
        """The limits of the server's settings.

        Unauthenticated sockets get at most a quarter of `limits.connections`.
        """
        unauthenticated = _UNAUTHENTICATED
        if limits.connections:
            unauthenticated = min(unauthenticated, max(limits.connections // 4, 1))
        return cls(
            unauthenticated=unauthenticated,
            message=limits.socket_message,
            json_depth=limits.json_depth,
            json_values=limits.json_values,
            unsent=limits.unsent,
            stall=limits.stall,
            subscriptions=limits.socket_subscriptions,
            messages_per_second=limits.socket_messages_per_second,
        )


class Allowance:
    """Frames that a socket may send now. It grows with the rate, up to the burst of two seconds.

    Times are seconds of a monotonic clock.
    """

    __slots__ = ("_burst", "_left", "_rate", "_seen")

    def __init__(self, per_second: float, now: float) -> None:
        self._rate = per_second
        self._burst = self._left = 2 * per_second
        self._seen = now

    def take(self, now: float) -> bool:
        """Count a message. Returns whether it is allowed."""
        self._grow(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def charge(self, now: float, frames: int) -> float:
        """Count frames that have been read. Returns the seconds for which no more may be read.

        0 while some are left; else the time until half of the burst is back, since a message may
        follow the frames at once.
        """
        self._grow(now)
        self._left -= frames
        return 0.0 if self._left >= 1 else (self._burst / 2 - self._left) / self._rate

    def _grow(self, now: float) -> None:
        grown = max(0.0, now - self._seen) * self._rate
        self._seen = max(self._seen, now)
        self._left = min(self._burst, self._left + grown)
