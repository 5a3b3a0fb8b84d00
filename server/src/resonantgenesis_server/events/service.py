"""An organization's events: select, replay, follow and publish them, for every transport."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from ..codec.events import BadCursor, cursor_of, entry_of, event_json, parse_cursor
from ..codec.times import parse_time
from ..feed.filter import (
    MAX_PATTERNS,
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
from ..model.events import (
    AUDIT,
    PUBLISHABLE,
    SERVER_TYPES,
    NewEvent,
    audit_stream,
    event_stream,
    prefix_of,
)
from ..model.ids import event_id, new_id
from ..model.limits import LOOKED_BYTES, PAGE_BYTES
from ..model.principal import AUDIT as AUDIT_SCOPE
from ..model.principal import Principal

_TYPE = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
_MAX_TYPE = 200
#: Entries that one call of `replay` reads at most. It then answers with the matches so far.
_MAX_ENTRIES = 20_000
_PAGE = 2_000
#: Bytes of the log between two awaits: parsed and matched within some 10 ms at worst.
_READ_BYTES = 256 * 1024
#: Bytes of the two oldest events of an organization, when those of many are looked at.
_TWO_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events as JSON. `next_cursor` is the last position that was read, matching or not."""

    events: list[bytes]
    next_cursor: str
    has_more: bool


class EventSubscription(Subscription):
    """One reader of an organization's events. `EventService.subscribe` makes it."""

    def expired(self, earliest: int) -> PositionExpired:
        return events_expired(earliest, self._log.epoch)


class EventService:
    """Every method may raise ApiError, and LogError when the log fails."""

    def __init__(
        self,
        log: EventLog,
        hub: Hub,
        *,
        max_data: int,
        clock: Clock | None = None,
        stream_of: Callable[[str], str] = event_stream,
    ) -> None:
        """`stream_of`: the stream of an organization's id."""
        self._stream_of = stream_of
        self.log = log
        self.hub = hub
        self.selections = CompiledFilters()
        self._max_data = max_data
        self._clock = clock or Clock()

    @property
    def epoch(self) -> str:
        return self.log.epoch

    @cached_property
    def audit(self) -> EventService:
        """The same over the acts of administration alone, which have positions of their own."""
        return EventService(
            self.log,
            self.hub,
            max_data=self._max_data,
            clock=self._clock,
            stream_of=audit_stream,
        )

    # -- filters and positions -------------------------------------------------------------

    def select(
        self,
        principal: Principal,
        *,
        events: Sequence[str] | None = None,
        filters: Filters | None = None,
        channels: Sequence[str] | None = None,
    ) -> CompiledFilter:
        """Compile the filter of a subscription, within the bounds of the caller's token.

        With both `events` and `channels` an event must match both. Administrative acts match only
        patterns that begin with `system.audit`, which need a scope of their own. Raises
        InvalidRequest, Forbidden.
        """
        if events is not None and len(events) > MAX_PATTERNS:
            raise InvalidRequest.field("events", f"at most {MAX_PATTERNS} patterns")
        try:
            wanted = event_filters(filters or {}, beside=sum(map(len, events or ())))
        except BadFilter as error:
            raise InvalidRequest.field(error.field, str(error)) from error
        audit = asks_audit(events)
        if audit:
            _check_audit(principal)
        bound = tuple(_bound(principal).items())
        types = None if channels is None else tuple(f"{prefix_of(c)}.*" for c in sorted(channels))
        try:
            return self.selections.get(
                EventFilter(
                    None if events is None else tuple(sorted(set(events))),
                    tuple(wanted),
                    types,
                    bound,
                    audit,
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
        """Return the position to read after, and whether requested events were trimmed.

        `since` is a cursor (exclusive), a time (inclusive) or None for now. `name` is the name of
        the request's field. Raises InvalidRequest, and PositionExpired unless `expired_ok`.
        """
        stream = self._stream_of(principal.organization_id)
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
        # A trimmed event may have been younger than the requested time.
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
        """A reader of the matching events after a position."""
        stream = self._stream_of(principal.organization_id)
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
        """At most `limit` matching events after a position, in order.

        `until` is a time (exclusive), a cursor (inclusive) or None for now. The page has fewer
        events when they are large, or when many others had to be read. Raises InvalidRequest,
        PositionExpired.
        """
        stream = self._stream_of(principal.organization_id)
        end = await self._end(stream, until)
        found: list[bytes] = []
        entries_read = bytes_read = size = 0
        full = False
        while (
            after < end and entries_read < _MAX_ENTRIES and bytes_read < LOOKED_BYTES and not full
        ):
            async with SHARED.alone(principal.organization_id):
                page = await self.log.read(stream, after, limit=_PAGE, max_bytes=_READ_BYTES)
                if not page.entries:
                    break
                for entry in page.entries:
                    after = min(entry.position, end)
                    if entry.position > end:  # the entries before it were trimmed meanwhile
                        break
                    entries_read += 1
                    bytes_read += len(entry.body)
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
        if entry is None or not self._shows(principal, entry):
            raise NotFound("there is no such event")
        return event_json(entry, self.log.epoch)

    def _shows(self, principal: Principal, entry: Entry) -> bool:
        is_audit = entry.kind.startswith(AUDIT)
        if is_audit and not _may_audit(principal):
            return False
        asked = [entry.kind] if is_audit else None
        return self.select(principal, events=asked).matches(entry)

    async def _find(self, principal: Principal, key: str) -> Entry | None:
        stream = self._stream_of(principal.organization_id)
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
        """Append an event of the caller. Returns the event as JSON once it is durable.

        `key` is the Idempotency-Key: a repeated request appends nothing. Raises Forbidden for the
        server's own types, InvalidRequest, PayloadTooLarge, Conflict for another event under the
        same key.
        """
        _check_type(kind)
        if principal.is_bound and not kind.startswith("app."):
            raise Forbidden("a token bound to a subject, session or agent publishes app.* only")
        metadata: dict[str, Any] = {
            "organization_id": principal.organization_id,
            "key_id": principal.key_id,
            "request_id": request_id,
        }
        metadata |= _bound(principal)
        name = new_id("evt")
        if key is not None:
            owner = (principal.organization_id, principal.idempotency_scope)
            name = event_id("published", *owner, key)
        entry = entry_of(NewEvent(name, kind, data, metadata))
        if len(entry.body) > self._max_data:
            raise PayloadTooLarge(f"the event is over {self._max_data} bytes")
        await self.log.room()
        stream = self._stream_of(principal.organization_id)
        (position,) = await self.log.append(Append(stream, [entry]))
        if key is not None:
            return await self._published(principal, name, kind, data)
        # The hub has the entry in memory when somebody follows the events.
        written = self.hub.recent(stream, position - 1, 1)
        if not written:
            written = (await self.log.read(stream, position - 1, limit=1)).entries
        return event_json(_still_there(written), self.log.epoch)

    async def _published(
        self, principal: Principal, name: str, kind: str, data: Mapping[str, Any]
    ) -> bytes:
        """The event that was written under this Idempotency-Key, now or by an earlier request."""
        written = await self._find(principal, name)
        entry = _still_there([] if written is None else [written])
        kept = orjson.loads(entry.body)
        if (kept["type"], kept["data"]) != (kind, orjson.loads(orjson.dumps(data))):
            raise Conflict("this Idempotency-Key was used for another event")
        return event_json(entry, self.log.epoch)

    async def outdated(self, organization_ids: Sequence[str], seconds: float) -> list[str]:
        """Those of which `trim_before` removes something; perhaps some more, whose first event is
        large."""
        at = round(self._clock.before(seconds) * 1e6)
        names = {self._stream_of(each): each for each in organization_ids}
        pages = await self.log.read_many(dict.fromkeys(names, 0), limit=2, max_bytes=_TWO_BYTES)
        found: list[str] = []
        for stream, page in pages.items():
            # The first one may be the mark.
            last = page.entries[-1:]
            if last and last[0].at < at and (len(page.entries) == 2 or not page.at_end):
                found.append(names[stream])
        return found

    async def trim_before(self, organization_id: str, seconds: float) -> int:
        """Remove events older than `seconds`. Returns the number of removed positions.

        The youngest old event stays as a mark. A reader that asks for a time after the mark has
        lost nothing, even without a younger event. A reader that asks for a time before the mark
        gets PositionExpired.
        """
        stream = self._stream_of(organization_id)
        at = round(self._clock.before(seconds) * 1e6)
        info = await self._info(stream)
        found = await self.log.locate(stream, at=at)
        mark = (info.head + 1 if found is None else found) - 1
        return await trim_in_steps(self.log, stream, info.earliest, mark)


def events_expired(earliest: int, epoch: str) -> PositionExpired:
    """The error for a position whose events were trimmed."""
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
    is_ours = kind in SERVER_TYPES or f"{kind}.".startswith(AUDIT)
    if is_ours or kind.partition(".")[0] not in PUBLISHABLE:
        raise Forbidden(
            f"only the server writes {kind}; publish app.* types, or types of your own under"
            " team.*, billing.* and system.*"
        )


def asks_audit(patterns: Sequence[str] | None) -> bool:
    """Whether one of the patterns is of administrative acts."""
    return any(f"{pattern}.".startswith(AUDIT) for pattern in patterns or ())


def _may_audit(principal: Principal) -> bool:
    return not principal.is_bound and principal.allows(AUDIT_SCOPE)


def _check_audit(principal: Principal) -> None:
    """Raises Forbidden."""
    if not _may_audit(principal):
        raise Forbidden(
            f"{AUDIT}* needs the scope {AUDIT_SCOPE}, and a credential that is not bound",
            details={"scope": AUDIT_SCOPE},
        )


def _bound(principal: Principal) -> dict[str, str]:
    """The bounds of a token: it sees only events with these values, and its own events get them."""
    bound = {
        "subject": principal.subject,
        "session_id": principal.session_id,
        "agent_id": principal.agent_id,
    }
    return {name: value for name, value in bound.items() if value is not None}
