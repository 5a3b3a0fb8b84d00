"""An organization's events: selected, replayed, followed, published, as every transport needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..codec.events import BadCursor, cursor_of, entry_of, event_json, parse_cursor
from ..codec.times import parse_time
from ..feed.filter import (
    BadFilter,
    BadPattern,
    CompiledFilter,
    CompiledFilters,
    EventFilter,
    Filters,
    event_filters,
)
from ..feed.hub import Hub
from ..feed.shares import SHARED
from ..feed.subscription import Subscription
from ..log.base import Append, Entry, EventLog, StreamInfo, stream_info, trim_in_steps
from ..model.clock import Clock
from ..model.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    PositionExpired,
)
from ..model.events import PUBLISHABLE, SERVER_TYPES, NewEvent, event_stream, prefix_of
from ..model.ids import event_id, new_id
from ..model.limits import LOOKED_BYTES, PAGE_BYTES
from ..model.principal import Principal

_TYPE = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
_MAX_TYPE = 200
MAX_PATTERNS = 50
#: How much of the log one page of `replay` looks through before it answers with what it found.
_LOOKED_AT = 20_000
_PAGE = 2_000
#: Bytes of the log between two waits: parsed and matched within some 10 ms at worst.
_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events as JSON; `next_cursor` is how far was looked, whether or not there is more."""

    events: list[bytes]
    next_cursor: str
    has_more: bool


class EventSubscription(Subscription):
    """One reader of an organization's events; made by `EventService.subscribe`."""

    def expired(self, earliest: int) -> PositionExpired:
        return events_expired(earliest, self._log.epoch)


class EventService:
    """Raises ApiError, and LogError when the log fails."""

    def __init__(
        self, log: EventLog, hub: Hub, *, max_data: int, clock: Clock | None = None
    ) -> None:
        self.log = log
        self.hub = hub
        self.selections = CompiledFilters()
        self._max_data = max_data
        self._clock = clock or Clock()

    @property
    def epoch(self) -> str:
        return self.log.epoch

    # -- what and from where ---------------------------------------------------------------

    def select(
        self,
        principal: Principal,
        *,
        events: Sequence[str] | None = None,
        filters: Filters | None = None,
        channels: Sequence[str] | None = None,
    ) -> CompiledFilter:
        """What this caller gets of what it asks for; `events` within `channels`, if both are
        given. Raises InvalidRequest."""
        if events is not None and len(events) > MAX_PATTERNS:
            raise InvalidRequest.field("events", f"at most {MAX_PATTERNS} patterns")
        try:
            wanted = event_filters(filters or {}, beside=sum(map(len, events or ())))
        except BadFilter as error:
            raise InvalidRequest.field(error.field, str(error)) from error
        bound = tuple(_bound(principal).items())
        types = None if channels is None else tuple(f"{prefix_of(c)}.*" for c in sorted(channels))
        try:
            return self.selections.get(
                EventFilter(
                    None if events is None else tuple(sorted(set(events))),
                    tuple(wanted),
                    types,
                    bound,
                )
            )
        except BadPattern as error:
            raise InvalidRequest.field("events", str(error)) from error

    async def place(
        self,
        principal: Principal,
        since: str | None,
        *,
        expired_ok: bool = False,
        name: str = "since",
    ) -> tuple[int, bool]:
        """The position to read after, and whether events before it are gone that were asked for.

        `since`: a cursor (exclusive), a time (inclusive), None for now; `name` is what the caller
        called it. Raises InvalidRequest, and PositionExpired unless `expired_ok`.
        """
        stream = event_stream(principal.organization_id)
        info = await self._info(stream)
        if since is None:
            return info.head, False
        after, expired = await self._after(stream, info, since, name)
        if expired and not expired_ok:
            raise events_expired(info.earliest, self.log.epoch)
        return (info.earliest - 1 if expired else after), expired

    async def _after(
        self, stream: str, info: StreamInfo, since: str, name: str
    ) -> tuple[int, bool]:
        if since.startswith("c_"):
            epoch, position = self._parse(since, name)
            if epoch != self.log.epoch:
                return 0, True
            if position > info.head:
                raise InvalidRequest.field(name, "this cursor is beyond the end")
            return position, position + 1 < info.earliest
        at = parse_time(since)
        if at is None:
            raise InvalidRequest.field(name, "is neither a cursor nor an RFC 3339 time")
        found = await self.log.locate(stream, at=at)
        if found is None:
            return info.head, False
        # Whatever was trimmed may have been younger than the time asked for.
        return found - 1, found == info.earliest > 1

    def _parse(self, cursor: str, name: str) -> tuple[str, int]:
        try:
            return parse_cursor(cursor)
        except BadCursor:
            raise InvalidRequest.field(name, "is not a cursor of this server") from None

    async def _info(self, stream: str) -> StreamInfo:
        return await stream_info(self.log, stream) or StreamInfo(0, 1, 0, False)

    # -- reading ---------------------------------------------------------------------------

    def subscribe(
        self, principal: Principal, selection: CompiledFilter, after: int
    ) -> EventSubscription:
        """One reader of the matching events after a position."""
        stream = event_stream(principal.organization_id)
        return EventSubscription(self.hub, self.log, stream, after, selection=selection)

    async def replay(
        self,
        principal: Principal,
        selection: CompiledFilter,
        *,
        after: int,
        until: str | None,
        limit: int,
    ) -> EventPage:
        """Matching events after a position and before `until` (a time, exclusive, or a cursor,
        inclusive; None: now), at most `limit`, in order; fewer where they, or what was looked
        through for them, are large."""
        stream = event_stream(principal.organization_id)
        end = await self._end(stream, until)
        found: list[bytes] = []
        looked = seen = size = 0
        full = False
        while after < end and looked < _LOOKED_AT and seen < LOOKED_BYTES and not full:
            async with SHARED.alone(principal.organization_id):
                page = await self.log.read(stream, after, limit=_PAGE, max_bytes=_READ_BYTES)
                if not page.entries:
                    break
                for entry in page.entries:
                    after = min(entry.position, end)
                    if entry.position > end:  # what was before it has been trimmed meanwhile
                        break
                    looked += 1
                    seen += len(entry.body)
                    if selection.matches(entry):
                        found.append(event_json(entry, self.log.epoch))
                        size += len(found[-1])
                        full = len(found) >= limit or size >= PAGE_BYTES
                        if full:
                            break
        return EventPage(found, cursor_of(self.log.epoch, after), after < end)

    async def _end(self, stream: str, until: str | None) -> int:
        info = await self._info(stream)
        if until is None:
            return info.head
        if until.startswith("c_"):
            epoch, position = self._parse(until, "until")
            if epoch != self.log.epoch:
                raise events_expired(info.earliest, self.log.epoch)
            return min(position, info.head)
        at = parse_time(until)
        if at is None:
            raise InvalidRequest.field("until", "is neither a cursor nor an RFC 3339 time")
        found = await self.log.locate(stream, at=at)
        return info.head if found is None else found - 1

    async def get(self, principal: Principal, wanted: str) -> bytes:
        """One event by its id, as JSON. Raises NotFound."""
        entry = await self._find(principal, wanted)
        if entry is None or not self.select(principal).matches(entry):
            raise NotFound("no such event")
        return event_json(entry, self.log.epoch)

    async def _find(self, principal: Principal, key: str) -> Entry | None:
        stream = event_stream(principal.organization_id)
        position = await self.log.locate(stream, key=key)
        if position is None:
            return None
        page = await self.log.read(stream, position - 1, limit=1)
        found = page.entries[:1]
        return found[0] if found and found[0].position == position else None

    # -- writing ---------------------------------------------------------------------------

    async def publish(
        self,
        principal: Principal,
        kind: str,
        data: Mapping[str, Any],
        *,
        key: str | None,
        request_id: str,
    ) -> bytes:
        """Write an event of the user's own; the event as JSON once it is durable.

        The same Idempotency-Key writes it once. Raises Forbidden for the server's own types,
        InvalidRequest, PayloadTooLarge, Conflict for another event under the same key.
        """
        _check_type(kind)
        if principal.is_bound and not kind.startswith("app."):
            raise Forbidden("a token bound to a subject, session or agent publishes app.* only")
        said: dict[str, Any] = {
            "organization_id": principal.organization_id,
            "key_id": principal.key_id,
            "request_id": request_id,
        }
        said |= _bound(principal)
        name = new_id("evt")
        if key is not None:
            owner = (principal.organization_id, principal.idempotency_scope)
            name = event_id("published", *owner, key)
        entry = entry_of(NewEvent(name, kind, data, said))
        if len(entry.body) > self._max_data:
            raise PayloadTooLarge(f"the event is over {self._max_data} bytes")
        await self.log.room()
        stream = event_stream(principal.organization_id)
        (position,) = await self.log.append(Append(stream, [entry]))
        if key is not None:
            return await self._published(principal, name, kind, data)
        # Whoever follows the events has it in memory.
        written = self.hub.recent(stream, position - 1, 1)
        if not written:
            written = (await self.log.read(stream, position - 1, limit=1)).entries
        return event_json(_still_there(written), self.log.epoch)

    async def _published(
        self, principal: Principal, name: str, kind: str, data: Mapping[str, Any]
    ) -> bytes:
        """The event that this key wrote, now or before."""
        written = await self._find(principal, name)
        entry = _still_there([] if written is None else [written])
        kept = orjson.loads(entry.body)
        if (kept["type"], kept["data"]) != (kind, orjson.loads(orjson.dumps(data))):
            raise Conflict("this Idempotency-Key was used for another event")
        return event_json(entry, self.log.epoch)

    async def trim_before(self, organization_id: str, seconds: float) -> int:
        """Forget events older than this many seconds; how many.

        The youngest of them stays as a mark: who asks for a time after it has lost nothing, even
        where no younger event is left; who asks for one before it is told so.
        """
        stream = event_stream(organization_id)
        at = round(self._clock.before(seconds) * 1e6)
        info = await self._info(stream)
        found = await self.log.locate(stream, at=at)
        mark = (info.head + 1 if found is None else found) - 1
        return await trim_in_steps(self.log, stream, info.earliest, mark)


def events_expired(earliest: int, epoch: str) -> PositionExpired:
    """The error for a place of which the events are gone."""
    return PositionExpired(
        "these events are no longer kept; start at details.earliest",
        details={"earliest": cursor_of(epoch, earliest - 1), "epoch": epoch},
    )


def _still_there(written: list[Entry]) -> Entry:
    if not written:
        raise NotFound("the event was trimmed as soon as it was written")
    return written[0]


def _check_type(kind: str) -> None:
    if len(kind) > _MAX_TYPE or _TYPE.fullmatch(kind) is None:
        raise InvalidRequest.field("type", "is not a type like app.order.paid")
    if kind in SERVER_TYPES or kind.partition(".")[0] not in PUBLISHABLE:
        raise Forbidden(
            f"only the server writes {kind}; publish app.* types, or types of your own under"
            " team.*, billing.* and system.*"
        )


def _bound(principal: Principal) -> dict[str, str]:
    """What a token is bound to: the only events that it sees, and said of those it publishes."""
    bound = {
        "subject": principal.subject,
        "session_id": principal.session_id,
        "agent_id": principal.agent_id,
    }
    return {name: value for name, value in bound.items() if value is not None}
