"""What a key, and an organization, may ask of the server; PROTOCOL.md, section 9.

Requests are counted in a storage of the library `limits`, so that several nodes can share it.
Streams are counted in this process, where they are open.
"""

from __future__ import annotations

import asyncio
import math
import time
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
#: Seconds that a client is told to wait for a stream of its to end.
_STREAM_RETRY_AFTER = 1.0
#: Seconds between two looks for counts whose time is over, and two complaints about a storage.
_SWEEP, _COMPLAIN = 60.0, 60.0
#: Seconds a storage may take; what it cannot count by then is let pass.
_STORAGE_TIMEOUT = 0.5


#: Sockets whose first message is awaited, at most.
_UNAUTHENTICATED = 200


class BadStorage(ApiError):
    """The storage of the configuration cannot be used."""


class RequestLimit:
    """Requests of a key, and of an organization, per minute, from the first one on.

    What a key is refused does not count for its organization, or one that asks too much would shut
    out all others.

    A storage that fails lets requests pass, and the log says so: a limiter that is away must not
    take the server with it.
    """

    def __init__(
        self,
        most: int,
        *,
        storage: str = "memory://",
        reached: Reached = ignore_limit,
        of_organization: int = 0,
    ) -> None:
        """`most` of a key and `of_organization`; 0: any number. Raises BadStorage."""
        self._most = most
        self._of_organization = of_organization
        self._reached = reached
        self._item = RateLimitItemPerMinute(max(most, 1))
        self._storage = _open(storage)
        self._complained = -math.inf
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if isinstance(self._storage, MemoryStorage):
            # The library's own sweep would be a task for every request that looks at every key;
            # it makes none while this one is there.
            self._task = asyncio.create_task(_sweep(self._storage), name="request counts")
            self._storage.timer = self._task

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)

    async def take(self, principal: Principal) -> list[tuple[bytes, bytes]]:
        """Count a request; the headers that tell what is left. Raises RateLimited."""
        if principal.is_bootstrap:
            return []
        of_key = await self._count(principal, REQUESTS, principal.key_id, self._most)
        of_all = await self._count(
            principal, ORGANIZATION + REQUESTS, principal.organization_id, self._of_organization
        )
        return of_key or of_all

    async def _count(
        self, principal: Principal, name: str, whose: str, most: int
    ) -> list[tuple[bytes, bytes]]:
        """Count it for this key or organization. Raises RateLimited."""
        if not most:
            return []
        key = self._item.key_for(name, whose)
        try:
            if isinstance(self._storage, MemoryStorage):
                taken, ends = await _take(self._storage, key)
            else:
                async with asyncio.timeout(_STORAGE_TIMEOUT):
                    taken, ends = await _take(self._storage, key)
        except (StorageError, TimeoutError) as error:
            self._complain(error)
            return []
        left = min(max(math.ceil(ends - time.time()), 1), _WINDOW)
        headers = _headers(most, max(most - taken, 0), left)
        if taken <= most:
            return headers
        self._reached(principal, name, most)
        raise Limited(
            f"this {_whose(name)} may send {most} requests a minute",
            details={"limit": name, "most": most},
            retry_after=float(left),
            headers=headers,
        )

    async def take_for(self, scope: Scope) -> None:
        """`take` for an HTTP request; whatever it is answered tells what is left."""
        state: dict[str, Any] = scope["state"]
        state["counted"] = True
        try:
            state["headers"].extend(await self.take(state["principal"]))
        except Limited as error:
            state["headers"].extend(error.headers)
            raise

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN:
            self._complained = now
            log_.error("requests are not counted", error=str(error) or "the storage takes long")


class Limited(RateLimited):
    """With the headers of the limit that was met."""

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
    """Streams, sockets and transfers that a key, and an organization, has open in this process."""

    def __init__(
        self, most: int = 0, reached: Reached = ignore_limit, *, of_organization: int = 0
    ) -> None:
        """`most` of a key and `of_organization`; 0: any number."""
        self._most = most
        self._of_organization = of_organization
        self._reached = reached

    def check(self, principal: Principal, count: int, of_organization: int = 0) -> None:
        """Whether one more may be opened beside `count` of the key and those of the organization.
        Raises RateLimited."""
        if principal.is_bootstrap:
            return
        for name, open_now, most in (
            (STREAMS, count, self._most),
            (ORGANIZATION + STREAMS, of_organization, self._of_organization),
        ):
            if not most or open_now < most:
                continue
            self._reached(principal, name, most)
            raise RateLimited(
                f"this {_whose(name)} may have {most} streams, sockets and transfers open; close"
                " some first",
                details={"limit": name, "most": most},
                retry_after=_STREAM_RETRY_AFTER,
            )


def _whose(name: str) -> str:
    return "organization" if name.startswith(ORGANIZATION) else "key"


def _headers(most: int, remaining: int, reset: int) -> list[tuple[bytes, bytes]]:
    left, seconds = b"%d" % remaining, b"%d" % reset
    return [
        # draft-ietf-httpapi-ratelimit-headers-10, and the names in use before it.
        (b"ratelimit-policy", b'"requests";q=%d;w=%d' % (most, _WINDOW)),
        (b"ratelimit", b'"requests";r=%b;t=%b' % (left, seconds)),
        (b"x-ratelimit-limit", b"%d" % most),
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
    """How many of the window are taken now, and when it ends (seconds since 1970)."""
    taken, ends = await storage.incr(key, _WINDOW), await storage.get_expiry(key)
    if ends > time.time() + 2 * _WINDOW:
        # Begun while the clock was ahead: without this the key would be held back until then.
        await storage.clear(key)
        taken, ends = await storage.incr(key, _WINDOW), await storage.get_expiry(key)
    return taken, ends


async def _sweep(storage: MemoryStorage) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        for key in list(storage.expirations):
            await storage.get(key)  # forgets it when its time is over


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Sizes in bytes, times in seconds."""

    message: int = 256 * KIB
    json_depth: int = 32
    json_values: int = 20_000
    unsent: int = 64 * KIB
    stall: float = 60.0
    subscriptions: int = 100
    #: Sustained; twice as many may come at once. Fragments, pings and pongs count as messages.
    messages_per_second: float = 100.0
    #: That many bad messages within the window end the connection.
    errors: int = 20
    errors_window: float = 10.0
    auth_wait: float = 10.0
    #: Sockets of this process whose first message is still awaited.
    unauthenticated: int = _UNAUTHENTICATED
    #: Executes under way on one socket, and how long its next messages wait for one to end.
    executes: int = 16
    execute_wait: float = 5.0
    #: What those under way have to end once the client has gone.
    finish_wait: float = 30.0
    #: Silence after which a subscription is told its cursor.
    quiet: float = 25.0
    #: How long a client may take to answer a close.
    close_wait: float = 10.0

    @classmethod
    def of(cls, limits: Limits) -> SocketLimits:
        """Those that are settings taken from the server's.

        Sockets that have not said who they are get a quarter of a cap on connections, at most.
        """
        strangers = _UNAUTHENTICATED
        if limits.connections:
            strangers = min(strangers, max(limits.connections // 4, 1))
        return cls(
            unauthenticated=strangers,
            message=limits.socket_message,
            json_depth=limits.json_depth,
            json_values=limits.json_values,
            unsent=limits.unsent,
            stall=limits.stall,
            subscriptions=limits.socket_subscriptions,
            messages_per_second=limits.socket_messages_per_second,
        )


class Allowance:
    """How many frames a socket may send now: grows by the rate, up to a burst of two seconds'.

    Times are of a clock that never goes back, in seconds.
    """

    __slots__ = ("_burst", "_left", "_rate", "_seen")

    def __init__(self, per_second: float, now: float) -> None:
        self._rate = per_second
        self._burst = self._left = 2 * per_second
        self._seen = now

    def take(self, now: float) -> bool:
        """Count a message, if it is allowed."""
        self._grow(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def charge(self, now: float, frames: int) -> float:
        """Count frames that have been read. Seconds for which no more may be read: 0 while some
        are left, else until half of the burst is back, since a message may follow them at once."""
        self._grow(now)
        self._left -= frames
        return 0.0 if self._left >= 1 else (self._burst / 2 - self._left) / self._rate

    def _grow(self, now: float) -> None:
        grown = max(0.0, now - self._seen) * self._rate
        self._seen = max(self._seen, now)
        self._left = min(self._burst, self._left + grown)
