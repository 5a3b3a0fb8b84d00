"""The watchdog of everything that stays open: it checks credentials and progress.

One task looks at all streams twice a second, since a timer per stream would cost more than the
stream.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection
from typing import ClassVar, Protocol, Self

import structlog

from ..model.errors import ApiError, Unauthenticated
from ..model.principal import Principal
from ..records.base import StoreError
from .limits import StreamLimit

log_ = structlog.get_logger("resonantgenesis.watch")

#: Seconds between looks; with the authenticator's own memory of one second, the end of a
#: credential ends its streams within two.
INTERVAL = 0.5

#: The watchdog refreshes a key for so many seconds after its last stream has left, and so many keys
#: at most. A proxy that restarts takes all of a key's streams away, and they come back together.
_LEFT_SECONDS, _LEFT_KEYS = 60.0, 256

#: Kinds of streams whose number is limited for a key and for an organization.
_COUNTED = frozenset({"sse", "websocket", "transfer"})

Recheck = Callable[[Principal], Awaitable[None]]
Refresh = Callable[[Collection[str]], Awaitable[None]]
#: Key, expiry and signing key, which end streams together; and the organization.
Credential = tuple[str, float | None, str | None, str]


class Watched(Protocol):
    """An open stream, or a request that is held open in another way."""

    principal: Principal
    #: What it is: `sse`, `websocket`, `transfer` or `wait`.
    kind: ClassVar[str]

    def end(self, error: ApiError) -> None:
        """Tell the client this error and close."""
        ...

    def check_progress(self, now: float) -> None:
        """Close if the client has taken nothing for too long; `now` is the loop's time."""
        ...


class ReservedPlace:
    """A place for one stream of a principal, kept for the block, or for the stream that is added
    with it."""

    __slots__ = ("_principal", "_watchdog", "is_used")

    def __init__(self, watchdog: StreamWatchdog, principal: Principal) -> None:
        self._watchdog = watchdog
        self._principal = principal
        #: A stream has the place, and gives it back.
        self.is_used = False

    def __enter__(self) -> Self:
        self._watchdog.count_open(self._principal.key_id, self._principal.organization_id, 1)
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self.is_used:
            self._watchdog.count_open(self._principal.key_id, self._principal.organization_id, -1)


class StreamWatchdog:
    """Ends streams whose credential has ended or whose client has stalled."""

    def __init__(
        self, recheck: Recheck, limit: StreamLimit | None = None, refresh: Refresh | None = None
    ) -> None:
        self._recheck = recheck
        #: Called with all keys in use before they are asked about one by one.
        self._refresh = refresh
        self.limit = limit or StreamLimit()
        #: Streams, sockets and transfers by key, and by organization.
        self._of_key: Counter[str] = Counter()
        self._of_organization: Counter[str] = Counter()
        self._open: dict[Credential, set[Watched]] = {}
        self._credential_of: dict[Watched, Credential] = {}
        #: Keys whose last stream has left, and when.
        self._left: OrderedDict[str, float] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        #: The error that ends every new stream at once, when the server goes away.
        self._ended: ApiError | None = None

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._credential_of)

    @property
    def organizations(self) -> set[str]:
        """The organizations that have streams open."""
        return {credential[3] for credential in self._open}

    def kinds(self) -> dict[str, int]:
        """The number of open streams of each kind."""
        return {"sse": 0, "transfer": 0, "wait": 0} | Counter(
            stream.kind for stream in self._credential_of
        )

    def count_of(self, organization_id: str | None) -> int:
        """The number of open streams, sockets and transfers of an organization; None: of all."""
        if organization_id is None:
            return self._of_organization.total()
        return self._of_organization[organization_id]

    def check_limit(self, principal: Principal) -> None:
        """Raise RateLimited if the key or its organization has as many streams, sockets and
        transfers open as it may. Await nothing from here to `add`; else use `opening`."""
        self.limit.check(
            principal,
            self._of_key[principal.key_id],
            self._of_organization[principal.organization_id],
        )

    def above(self, part: float) -> dict[str, int]:
        """The numbers of open streams of keys and organizations that use more than this part of
        their limits in this process."""
        return {
            whose: count
            for counter, limit in (
                (self._of_key, self.limit.of_key),
                (self._of_organization, self.limit.of_organization),
            )
            for whose, count in counter.items()
            if limit and count > part * limit
        }

    def opening(self, principal: Principal) -> ReservedPlace:
        """Reserve a place while a stream opens, so a hundred that open at once do not all find the
        same place free. Raises RateLimited, like `check_limit`."""
        self.check_limit(principal)
        return ReservedPlace(self, principal)

    def count_open(self, key_id: str, organization_id: str, change: int) -> None:
        _count(self._of_key, key_id, change)
        _count(self._of_organization, organization_id, change)

    def add(self, stream: Watched, place: ReservedPlace | None = None) -> None:
        """Watch a stream, or one again whose principal has changed. `place`: the stream's own from
        now on; None: the stream is counted here."""
        self.discard(stream)
        principal = stream.principal
        credential = (
            principal.key_id,
            principal.expires_at,
            principal.signed_by,
            principal.organization_id,
        )
        self._credential_of[stream] = credential
        self._open.setdefault(credential, set()).add(stream)
        if place is not None:
            place.is_used = True
        elif stream.kind in _COUNTED:
            self.count_open(principal.key_id, principal.organization_id, 1)
        if self._ended is not None:
            stream.end(self._ended)

    def discard(self, stream: Watched) -> None:
        credential = self._credential_of.pop(stream, None)
        if credential is None:
            return
        if stream.kind in _COUNTED:
            self.count_open(credential[0], credential[3], -1)
            if credential[0] not in self._of_key:
                self._leave(credential[0])
        streams = self._open[credential]
        streams.discard(stream)
        if not streams:
            del self._open[credential]

    def _leave(self, key_id: str) -> None:
        self._left[key_id] = time.monotonic()
        self._left.move_to_end(key_id)
        if len(self._left) > _LEFT_KEYS:
            self._left.popitem(last=False)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="stream watch")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)

    def end_all(self, error: ApiError) -> None:
        """End all open streams, and those that open from now on: the server goes away."""
        self._ended = error
        for stream in tuple(self._credential_of):
            stream.end(error)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._look(loop.time())
            except StoreError as error:
                log_.warning("streams could not be checked", error=str(error))
            except Exception as error:  # one bad look must not be the last
                log_.error("streams could not be checked", exc_info=error)

    async def _refresh_keys(self) -> None:
        """Refresh the keys that are in use, or were until a moment ago."""
        while self._left:
            key_id, when = next(iter(self._left.items()))
            if time.monotonic() - when < _LEFT_SECONDS:
                break
            del self._left[key_id]
        in_use = {credential[0] for credential in self._open}
        if self._refresh is not None and (in_use or self._left):
            await self._refresh(in_use | self._left.keys())

    async def _look(self, now: float) -> None:
        await self._refresh_keys()
        for streams in tuple(self._open.values()):
            if not streams:  # all closed while another credential was asked about
                continue
            group = tuple(streams)
            for stream in group:
                stream.check_progress(now)
            try:
                await self._recheck(group[0].principal)
            except Unauthenticated as error:
                # `streams` again: meanwhile a socket may have got a fresh credential.
                for stream in tuple(streams):
                    stream.end(error)


def _count(counter: Counter[str], whose: str, change: int) -> None:
    count = counter[whose] + change
    if count:
        counter[whose] = count
    else:
        del counter[whose]
