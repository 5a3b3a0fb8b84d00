"""Webhooks for their owners: made, changed, tried out, sent again; and callbacks of turns."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..agents.engines.http.endpoint import parse_url
from ..codec.times import rfc3339
from ..events.service import EventService
from ..feed.filter import may_match, unknown_pattern
from ..model.errors import Conflict, Forbidden, InvalidRequest, NotFound, RateLimited
from ..model.events import AUDIT, event_stream
from ..model.ids import id_of, new_id
from ..model.principal import Principal
from ..records.base import Actor, ListPage, Once
from ..records.webhooks import (
    DeliveryRecord,
    DeliveryRepository,
    Progress,
    WebhookRecord,
    WebhookRepository,
    progress_values,
)
from ..sessions.request import TurnRef
from ..sessions.state import SessionState
from .dispatcher import WebhookDispatcher
from .message import Format, trial
from .poster import Poster
from .sender import CALLBACK_EVENTS, delivery_of, selection_of

#: Headers of the owner's: how many, and characters of a value.
MAX_HEADERS, MAX_HEADER = 16, 1_000
#: Callbacks of one turn that have a name.
MAX_OF_TURN = 100
#: Seconds that a test waits for a place.
_TEST_WAIT = 15.0
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
#: Headers that the server itself sets, or that say where a message ends.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-length", "content-type", "expect", "host",
        "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
        "x-webhook-signature", "x-webhook-timestamp",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """`secret` None: the server makes one."""

    url: str
    events: tuple[str, ...] | None = None
    filters: Mapping[str, Any] | None = None
    description: str = ""
    format: Format = "event"
    headers: Mapping[str, str] | None = None
    secret: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class NewCallback:
    """A callback that waits for its turn to be started. One of another protocol has a name, under
    which it is set again, read and removed."""

    principal: Principal
    endpoint: Mapping[str, Any]
    progress: Progress
    events: tuple[str, ...] = CALLBACK_EVENTS
    name: str = ""

    def of(self, session_id: str, turn: int | None) -> WebhookRecord:
        """The same session, turn and address, or name, are one callback, so a repeat makes none."""
        owner = self.principal.organization_id
        if self.name:
            made = named_callback(owner, session_id, turn or 0, self.name)
        else:
            made = id_of("wh", owner, session_id, turn or 0, self.endpoint["url"])
        return WebhookRecord(
            id=made,
            organization_id=owner,
            endpoint=self.endpoint,
            progress=self.progress,
            events=self.events,
            session_id=session_id,
            turn=turn,
        )


def named_callback(organization_id: str, session_id: str, turn: int, name: str) -> str:
    """The id of a callback that has a name."""
    return id_of("wh", organization_id, session_id, turn, "named", name)


class WebhookService:
    """Every method may raise ApiError, StoreError and LogError."""

    def __init__(
        self,
        webhooks: WebhookRepository,
        deliveries: DeliveryRepository,
        events: EventService,
        poster: Poster,
        dispatcher: WebhookDispatcher,
        *,
        limit: int,
        callbacks: int,
        now: Callable[[], float],
    ) -> None:
        """`limit` webhooks and so many `callbacks` of an organization; 0: any number."""
        self._webhooks = webhooks
        self._deliveries = deliveries
        self._events = events
        self._poster = poster
        self._endpoints = poster.endpoints
        self._dispatcher = dispatcher
        self._limit = limit
        self._callbacks = callbacks
        self._now = now

    # -- what there is ---------------------------------------------------------------------

    async def create(
        self,
        principal: Principal,
        wanted: NewWebhook,
        once: Once[WebhookRecord] | None = None,
        actor: Actor | None = None,
    ) -> tuple[WebhookRecord, str]:
        """The webhook and its secret. It is sent what happens from now on."""
        self._check_url(wanted.url)
        endpoint, secret = self._endpoints.make(wanted.url, wanted.secret)
        headers = _checked_headers(wanted.headers or {})
        webhook = WebhookRecord(
            id=new_id("wh"),
            organization_id=principal.organization_id,
            endpoint=self._endpoints.with_headers(endpoint, headers),
            progress=await self._from_now(principal),
            description=wanted.description,
            events=wanted.events,
            filters=wanted.filters or {},
            format=wanted.format,
            enabled=wanted.enabled,
        )
        self._check_selection(webhook)
        made = await self._webhooks.create(webhook, limit=self._limit, once=once, actor=actor)
        self._dispatcher.changed()
        return made, secret

    async def get(self, principal: Principal, webhook_id: str) -> WebhookRecord:
        return _found(await self._webhooks.get(principal.organization_id, webhook_id))

    async def list(
        self, principal: Principal, *, limit: int, cursor: str | None
    ) -> ListPage[WebhookRecord]:
        """Newest first, without callbacks."""
        return await self._webhooks.list(principal.organization_id, limit=limit, cursor=cursor)

    async def update(
        self,
        principal: Principal,
        webhook_id: str,
        changes: Mapping[str, Any],
        *,
        skip_missed: bool = False,
        actor: Actor | None = None,
    ) -> WebhookRecord:
        """Change the named fields of NewWebhook. What could not be delivered is tried again at
        once; with `skip_missed` it is left out, with all that happened until now."""
        if "url" in changes:
            self._check_url(changes["url"])
        headers = _checked_headers(changes.get("headers") or {})
        skipped = await self._from_now(principal) if skip_missed else None

        def change(existing: WebhookRecord) -> dict[str, Any]:
            values = {name: changes[name] for name in _PLAIN if name in changes}
            endpoint = dict(existing.endpoint)
            if "url" in changes:
                endpoint["url"] = changes["url"]
            if "headers" in changes:
                endpoint = self._endpoints.with_headers(endpoint, headers)
            if endpoint != existing.endpoint:
                values["endpoint"] = endpoint
            if changes.get("enabled"):
                values["disabled_reason"] = None
            return {**values, **(_CALM if skipped is None else progress_values(skipped))}

        if "events" in changes or "filters" in changes:
            existing = await self.get(principal, webhook_id)
            filtered = {name: changes[name] for name in ("events", "filters") if name in changes}
            self._check_selection(replace(existing, **filtered))
        return await self._changed(principal, webhook_id, change, actor)

    async def rotate(
        self,
        principal: Principal,
        webhook_id: str,
        given: str | None,
        actor: Actor | None = None,
    ) -> tuple[WebhookRecord, str]:
        """The webhook with another secret, and that secret. For a day both sign."""
        shown = ""

        def change(existing: WebhookRecord) -> dict[str, Any]:
            nonlocal shown
            endpoint, shown = self._endpoints.rotate(existing.endpoint, given)
            return {"endpoint": endpoint}

        changed = await self._changed(principal, webhook_id, change, actor, "webhook.rotated")
        return changed, shown

    async def delete(
        self, principal: Principal, webhook_id: str, actor: Actor | None = None
    ) -> None:
        if not await self._webhooks.delete(principal.organization_id, webhook_id, actor):
            raise _none()
        self._dispatcher.changed()

    # -- deliveries ------------------------------------------------------------------------

    async def deliveries(
        self,
        principal: Principal,
        webhook_id: str,
        *,
        failed: bool | None,
        limit: int,
        cursor: str | None,
    ) -> ListPage[DeliveryRecord]:
        """The newest attempts, newest first."""
        await self.get(principal, webhook_id)
        return await self._deliveries.list(webhook_id, failed=failed, limit=limit, cursor=cursor)

    async def test(self, principal: Principal, webhook_id: str) -> DeliveryRecord:
        """Send an event of type `webhook.test` now, once, also if the webhook is disabled. Raises
        RateLimited if receivers that do not answer hold all places."""
        webhook = await self.get(principal, webhook_id)
        message = trial(
            new_id("evt"), webhook.format, webhook.organization_id, webhook.id, self._now()
        )
        # Nobody knows whether this receiver answers, so it holds up none of those that do.
        try:
            outcome = await self._poster.post(
                webhook.organization_id,
                webhook.endpoint,
                message,
                is_failing=True,
                wait=_TEST_WAIT,
            )
        except TimeoutError:
            words = "receivers that do not answer hold all places of your organization"
            raise RateLimited(f"{words}; try again later", retry_after=_TEST_WAIT) from None
        delivery = delivery_of(webhook.id, message, outcome, 1, self._now())
        await self._webhooks.advance([], [delivery])
        return delivery

    async def resend(
        self,
        principal: Principal,
        webhook_id: str,
        *,
        event_id: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> None:
        """Send one event again, or those from `since` to `until`, in order and before any other.
        Raises Conflict while others are being sent again."""
        webhook = await self.get(principal, webhook_id)
        after, end = await self._range(principal, webhook, event_id, since, until)

        def change(existing: WebhookRecord) -> dict[str, Any]:
            if existing.progress.resend_until is not None:
                raise Conflict("events are being sent again already; wait until they are delivered")
            if not existing.enabled:
                raise Conflict("the webhook is disabled; enable it first")
            return {"resend_after": after, "resend_until": end}

        if after < end:
            await self._changed(principal, webhook_id, change)

    async def _range(
        self,
        principal: Principal,
        webhook: WebhookRecord,
        event_id: str | None,
        since: str | None,
        until: str | None,
    ) -> tuple[int, int]:
        """The positions after which, and up to which, events are sent again."""
        stream = event_stream(principal.organization_id)
        if event_id is not None:
            position = await self._events.log.locate(stream, key=event_id)
            if position is None:
                raise NotFound("no such event")
            page = await self._events.log.read(stream, position - 1, limit=1)
            if not selection_of(self._events, webhook).pick(page.entries):
                raise InvalidRequest.field("event_id", "is not an event that the webhook is sent")
            return position - 1, position
        head, _ = await self._events.place(principal, None)
        end = head
        if until is not None:
            end, _ = await self._events.place(principal, until, name="until")
        after, _ = await self._events.place(principal, since)
        # What has not been delivered yet is not sent again.
        return after, min(end, webhook.progress.position, head)

    # -- callbacks -------------------------------------------------------------------------

    async def callback(
        self, principal: Principal, wanted: tuple[str, str] | None
    ) -> NewCallback | None:
        """A callback to this address, with this secret, for what happens from now on; None for
        none."""
        if wanted is None:
            return None
        url, secret = wanted
        self._check_url(url, "callback_url")
        try:
            endpoint, _ = self._endpoints.make(url, secret)
        except InvalidRequest as error:
            raise InvalidRequest.field("callback_secret", _problem(error)) from None
        return NewCallback(principal, endpoint, await self._from_now(principal))

    async def check_room(self, principal: Principal) -> None:
        """Before a turn or session is made that would have a callback. Raises Conflict where none
        can be kept: nothing may run of which nobody can be told."""
        await self._webhooks.check_room(principal.organization_id, self._callbacks)

    async def callback_of(
        self,
        principal: Principal,
        url: str,
        name: str,
        about: Mapping[str, str],
        headers: Mapping[str, str],
        events: tuple[str, ...],
    ) -> NewCallback:
        """A callback of another protocol, for what happens from now on. `about` has `protocol`, and
        what else is to be known of it; `headers` are kept sealed, and must be checked before."""
        self._check_url(url)
        endpoint, _ = self._endpoints.make(url, None)
        kept = self._endpoints.with_headers(endpoint, headers) | dict(about)
        return NewCallback(principal, kept, await self._from_now(principal), events, name)

    async def callbacks_of(
        self, principal: Principal, ref: TurnRef, protocol: str
    ) -> Sequence[WebhookRecord]:
        """Those of a turn that speak this protocol and are not over."""
        found = await self._webhooks.of_turn(principal.organization_id, ref.session_id, ref.turn)
        return [each for each in found if each.protocol == protocol]

    async def drop(self, principal: Principal, ref: TurnRef, name: str) -> None:
        """Remove a callback that has a name, if it is there."""
        owner = principal.organization_id
        await self._webhooks.delete(owner, named_callback(owner, ref.session_id, ref.turn, name))
        self._dispatcher.changed()

    async def since(self, callback: NewCallback, at: float) -> NewCallback:
        """The callback, for what has happened since a time as well (seconds since 1970)."""
        progress = await self._from_now(callback.principal, rfc3339(at))
        return replace(callback, progress=progress)

    async def keep_of(
        self,
        callback: NewCallback,
        ref: TurnRef,
        authorize: Callable[[Principal, str], Awaitable[SessionState]],
    ) -> None:
        """Tell this address when the turn waits or ends. A turn that was joined may have ended
        before; `authorize` gives the state of its session."""
        if ref.joined:
            state = await authorize(callback.principal, ref.session_id)
            if state.info is not None:
                callback = await self.since(callback, state.info.created_at)
        await self.keep(callback, ref.session_id, ref.turn)

    async def keep(self, callback: NewCallback, session_id: str, turn: int | None = None) -> None:
        """Tell this address when the session, or its turn, waits or ends. One that has a name takes
        the place of the former one."""
        wanted = callback.of(session_id, turn)
        of_turn = MAX_OF_TURN if callback.name else 0
        kept = await self._webhooks.create(wanted, limit=self._callbacks, of_turn=of_turn)
        if callback.name and kept.endpoint != wanted.endpoint:
            values = {"endpoint": dict(wanted.endpoint), **_CALM}
            await self._webhooks.change(wanted.organization_id, wanted.id, lambda _old: values)
        self._dispatcher.changed()

    # -- inside ----------------------------------------------------------------------------

    async def _changed(
        self,
        principal: Principal,
        webhook_id: str,
        change: Callable[[WebhookRecord], Mapping[str, Any]],
        actor: Actor | None = None,
        act: str = "webhook.updated",
    ) -> WebhookRecord:
        changed = await self._webhooks.change(
            principal.organization_id, webhook_id, change, actor=actor, act=act
        )
        self._dispatcher.changed()
        return _found(changed)

    async def _from_now(self, principal: Principal, since: str | None = None) -> Progress:
        after, _ = await self._events.place(principal, since, expired_ok=True)
        return Progress(self._events.epoch, after, round(self._now() * 1e6))

    def _check_url(self, text: str, field: str = "url") -> None:
        """Raises InvalidRequest. A name is looked at again at each connection, by its address."""
        try:
            url = parse_url(text)
            self._poster.client.check(url)
        except InvalidRequest as error:
            raise InvalidRequest.field(field, _problem(error)) from None
        if self._poster.client.leads_inside(url):
            raise InvalidRequest.field(field, "is not an address of the public internet")

    def _check_selection(self, webhook: WebhookRecord) -> None:
        for pattern in webhook.events or ():
            if pattern.partition(".")[0] == "webhook":
                raise InvalidRequest.field("events", "a webhook is never sent webhook.* itself")
            if f"{pattern}.".startswith(AUDIT):
                raise Forbidden(f"a webhook is never sent {AUDIT}*; subscribe to it, or replay it")
        selection_of(self._events, webhook)
        for pattern in webhook.events or ():
            if not may_match(pattern):
                raise InvalidRequest.field("events", unknown_pattern(pattern))


#: The columns of a webhook whose receiver is to be tried at once.
_CALM: Mapping[str, Any] = {"failing_since": None, "attempts": 0, "next_try_at": None}
#: Fields that are columns.
_PLAIN = ("description", "events", "filters", "format", "enabled")


def _found(webhook: WebhookRecord | None) -> WebhookRecord:
    if webhook is None:
        raise _none()
    return webhook


def _none() -> NotFound:
    return NotFound("there is no such webhook")


def _problem(error: InvalidRequest) -> str:
    """What is wrong, without the name of the field."""
    return str(next(iter(error.details["fields"].values())))


def _checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Raises InvalidRequest."""
    if len(headers) > MAX_HEADERS:
        raise InvalidRequest.field("headers", f"at most {MAX_HEADERS}")
    for name, value in headers.items():
        field = f"headers.{name[:64]}"
        if _HEADER_NAME.fullmatch(name) is None:
            raise InvalidRequest.field("headers", f"{name[:64]!r} is not the name of a header")
        if name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
            raise InvalidRequest.field(field, "is set by the server")
        if len(value) > MAX_HEADER or _HEADER_VALUE.fullmatch(value) is None:
            problem = f"has 1 to {MAX_HEADER} printable characters of ASCII"
            raise InvalidRequest.field(field, problem)
    return headers
