"""One webhook: a cursor over its organization's events that waits until each is delivered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

import structlog

from .. import metrics
from ..background import Background, Backoff
from ..codec.events import parse_cursor
from ..codec.times import rfc3339
from ..config.webhooks import WebhookSettings
from ..events.service import EventService, EventSubscription
from ..feed.filter import CompiledFilter, parsed
from ..log.base import Entry, LogError
from ..model.errors import ApiError, PositionExpired
from ..model.events import CHANNELS, NewEvent
from ..model.ids import event_id, new_id
from ..model.principal import Principal
from ..records.webhooks import Advance, DeliveryRecord, WebhookRecord
from .book import DeliveryBook
from .message import Message, message_of
from .poster import Outcome, Poster

log_ = structlog.get_logger("resonantgenesis.webhooks")

#: Channels that a webhook can be sent. Deliveries write events of the channel `webhooks`, which
#: would be delivered without an end.
DELIVERED = tuple(channel for channel in CHANNELS if channel != "webhooks")
#: Events that a callback is sent. The last four end a turn, and the last one a session.
CALLBACK_EVENTS = (
    "session.waiting",
    "session.completed",
    "session.failed",
    "session.cancelled",
    "session.deleted",
)
#: Why the server itself disables a webhook.
GONE, FAILING = "gone", "failing"
#: Seconds between two attempts at most, also where the receiver asks for more.
_LONGEST_WAIT = 3_600.0
#: Seconds without an event after which the place is written, so that a start reads few events.
_SILENCE = 60.0
#: Seconds that an attempt under way has to end when the server stops.
_GRACE = 2.0
_FIRST_DELAY, _MAX_DELAY = 0.5, 30.0


#: What a callback of another protocol is sent for an event: the body, and its media type. None: the
#: event says nothing to it, or its turn is no more.
Compose = Callable[[WebhookRecord, Entry], Awaitable[tuple[bytes, str] | None]]


@dataclass(frozen=True, slots=True)
class DeliveryParts:
    """What all senders of a process share; `now` is the store's time."""

    events: EventService
    poster: Poster
    book: DeliveryBook
    settings: WebhookSettings
    now: Callable[[], float]
    #: By protocol; see `WebhookRecord.protocol`.
    protocols: Mapping[str, Compose] = field(default_factory=dict)


def selection_of(events: EventService, webhook: WebhookRecord) -> CompiledFilter:
    """The events that a webhook is sent. Raises InvalidRequest."""
    return events.select(
        owner_of(webhook),
        events=webhook.events,
        filters=webhook.filters,
        channels=DELIVERED,
    )


def owner_of(webhook: WebhookRecord) -> Principal:
    """The reader of its events: the organization, or no more than a session of it."""
    return Principal(webhook.organization_id, "", frozenset(), session_id=webhook.session_id)


class Sender:
    """Delivers the events of one webhook in order, from `start` to `close`."""

    def __init__(self, webhook: WebhookRecord, parts: DeliveryParts) -> None:
        self._webhook = self._newest = webhook
        self._progress = webhook.progress
        self._parts = parts
        self._selection: CompiledFilter | None = None
        self._subscription: EventSubscription | None = None
        #: The webhook was changed by a caller, or this sender shall end.
        self._changed = asyncio.Event()
        self._is_closing = False
        self._ended = asyncio.Event()
        self._loop = Background(f"webhook {webhook.id}", self._run)

    @property
    def revision(self) -> int:
        return self._newest.revision

    @property
    def is_failing(self) -> bool:
        return self._progress.failing_since is not None

    def start(self) -> None:
        self._loop.start()

    def change(self, webhook: WebhookRecord) -> None:
        """Go on with the webhook as it is now, after an attempt that is under way."""
        self._newest = webhook
        self._interrupt()

    async def close(self) -> None:
        """Stop; an attempt that does not end within 2 s is broken off, and made again later."""
        self._is_closing = True
        self._interrupt()
        if self._loop.running:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _GRACE)
        await self._loop.close()

    def _interrupt(self) -> None:
        self._changed.set()
        if self._subscription is not None:
            self._subscription.stop()

    # -- the loop --------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff(_FIRST_DELAY, _MAX_DELAY)
        try:
            while not self._is_closing:
                self._changed.clear()
                try:
                    self._take(self._newest)
                    await self._serve()
                except (LogError, ApiError) as error:
                    log_.warning("webhook waits", webhook=self._webhook.id, error=str(error))
                    await self._wait(backoff.failed())
                except Exception as error:
                    metrics.defect("other")
                    log_.error("webhook failed", webhook=self._webhook.id, exc_info=error)
                    await self._wait(backoff.failed())
                else:
                    backoff.succeeded()
        finally:
            self._ended.set()

    def _take(self, webhook: WebhookRecord) -> None:
        """Go on with what callers have set, from the later of both places."""
        own, kept = self._progress, webhook.progress
        # A callback that is over may be made again, under the same id.
        is_same = webhook.created_at == self._webhook.created_at
        if webhook is not self._webhook:
            self._progress = kept
        if is_same and own.epoch == kept.epoch and own.position > kept.position:
            self._progress = replace(
                self._progress, position=own.position, reached_at=own.reached_at
            )
        if is_same and own.resend_until is not None and own.resend_until == kept.resend_until:
            self._progress = replace(self._progress, resend_after=own.resend_after)
        self._webhook = webhook
        self._selection = selection_of(self._parts.events, webhook)

    async def _serve(self) -> None:
        """Deliver until the webhook is changed, or what is sent again has an end."""
        progress = self._progress
        try:
            if progress.resend_after is not None and progress.resend_until is not None:
                await self._follow(progress.resend_after, progress.resend_until)
                if not self._changed.is_set():
                    self._move(resend_after=None, resend_until=None)
            else:
                await self._follow(await self._place(), None)
        except PositionExpired as error:
            self._skip(error)

    async def _place(self) -> int:
        """The position to go on from. After a restore of the log it is found by its time."""
        progress, events = self._progress, self._parts.events
        if progress.epoch == events.epoch:
            return progress.position
        since = rfc3339(progress.reached_at / 1e6)
        after, _ = await events.place(owner_of(self._webhook), since, expired_ok=True)
        self._move(epoch=events.epoch, position=after)
        return after

    def _skip(self, error: PositionExpired) -> None:
        """Go on with the earliest event that is kept."""
        _, after = parse_cursor(error.details["earliest"])
        if self._progress.resend_until is not None:
            is_over = after >= self._progress.resend_until
            until = None if is_over else self._progress.resend_until
            self._move(resend_after=None if is_over else after, resend_until=until)
        else:
            self._move(position=after, lost_before=self._parts.now())
            log_.warning("a webhook has lost old events", webhook=self._webhook.id)

    async def _follow(self, after: int, until: int | None) -> None:
        if self._selection is None:
            return
        owner = owner_of(self._webhook)
        subscription = self._parts.events.subscribe(owner, self._selection, after)
        subscription.end = until
        self._subscription = subscription
        try:
            if self._changed.is_set():
                return
            async with aclosing(subscription.batches(_SILENCE)) as batches:
                async for entries in batches:
                    for entry in entries:
                        if not await self._deliver(entry):
                            return
                    if until is None and not entries:
                        self._reached(subscription.reached)
        finally:
            self._subscription = None
        if until is None:
            await self._wait(_FIRST_DELAY)  # the events are gone, or the webhook was changed

    def _reached(self, position: int) -> None:
        """Events up to this position are delivered, or are not for this webhook."""
        if position > self._progress.position:
            self._move(position=position, reached_at=round(self._parts.now() * 1e6))

    async def _wait(self, seconds: float) -> bool:
        """Whether nothing was changed for so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    # -- one event -------------------------------------------------------------------------

    async def _deliver(self, entry: Entry) -> bool:
        """Whether to go on: the event is delivered, and nothing was changed meanwhile."""
        webhook, parts = self._webhook, self._parts
        if webhook.turn is not None and _turn_of(entry) not in {None, webhook.turn}:
            return True
        message = await self._message(entry)
        if message is None:
            if self._passed(entry):
                await self._changed.wait()
            return not self._changed.is_set()
        while True:
            next_try_at = self._progress.next_try_at
            if next_try_at is not None and not await self._wait(next_try_at - parts.now()):
                return False
            await parts.book.room()
            outcome = await parts.poster.post(
                webhook.organization_id, webhook.endpoint, message, is_failing=self.is_failing
            )
            took = outcome.error is None
            if took:
                self._note(message, outcome, None)
                is_over = self._passed(entry)
            else:
                is_over = self._failed(message, outcome)
            if is_over:  # until the dispatcher sees it
                await self._changed.wait()
            if took or self._changed.is_set():
                return not self._changed.is_set()

    async def _message(self, entry: Entry) -> Message | None:
        webhook, parts = self._webhook, self._parts
        message = message_of(entry, parts.events.epoch, webhook.format, webhook.organization_id)
        if not webhook.protocol:
            return message
        composed = await parts.protocols[webhook.protocol](webhook, entry)
        if composed is None:
            return None
        return replace(message, body=composed[0], content_type=composed[1])

    def _passed(self, entry: Entry) -> bool:
        """Go on behind this event. Whether it was the last one of a callback."""
        calm = replace(self._progress, failing_since=None, attempts=0, next_try_at=None)
        if calm.resend_until is not None:
            self._progress = replace(calm, resend_after=entry.position)
        else:
            self._progress = replace(calm, position=entry.position, reached_at=entry.at)
        is_over = self._is_last(entry)
        self._parts.book.moved(self._advance(is_over=is_over))
        return is_over

    def _failed(self, message: Message, outcome: Outcome) -> bool:
        """Whether this was the last attempt."""
        now, progress, settings = self._parts.now(), self._progress, self._parts.settings
        since = now if progress.failing_since is None else progress.failing_since
        delay = min(settings.first_retry * 2 ** min(progress.attempts, 30), _LONGEST_WAIT)
        delay *= random.uniform(0.5, 1)  # noqa: S311
        if outcome.retry_after is not None:
            delay = max(delay, min(outcome.retry_after, _LONGEST_WAIT))
        reason: str | None = None
        if outcome.is_gone:
            reason = GONE
        elif now + delay > since + settings.retry_for:
            reason = FAILING
        next_try_at = None if reason else now + delay
        self._note(message, outcome, next_try_at)
        self._move(failing_since=since, attempts=progress.attempts + 1, next_try_at=next_try_at)
        if reason is not None:
            self._disable(reason)
        return reason is not None

    def _disable(self, reason: str) -> None:
        webhook = self._webhook
        self._parts.book.tell(
            webhook.organization_id,
            self._event(
                event_id("webhook.disabled", webhook.id, webhook.revision, reason),
                "webhook.disabled",
                {"webhook_id": webhook.id, "url": webhook.url, "reason": reason},
            ),
        )
        # Nobody could enable a callback again.
        is_over = webhook.session_id is not None
        self._parts.book.moved(self._advance(disabled_reason=reason, is_over=is_over))
        log_.warning("a webhook is disabled", webhook=webhook.id, reason=reason)

    def _is_last(self, entry: Entry) -> bool:
        """Whether a callback has been told the end."""
        if self._webhook.session_id is None:
            return False
        return entry.kind in CALLBACK_EVENTS[-1 if self._webhook.turn is None else 1 :]

    # -- the book --------------------------------------------------------------------------

    def _move(self, **changes: object) -> None:
        self._progress = replace(self._progress, **changes)  # type: ignore[arg-type]
        self._parts.book.moved(self._advance())

    def _advance(self, disabled_reason: str | None = None, is_over: bool = False) -> Advance:
        return Advance(
            self._webhook.id, self._webhook.revision, self._progress, disabled_reason, is_over
        )

    def _note(self, message: Message, outcome: Outcome, next_try_at: float | None) -> None:
        delivery = delivery_of(
            self._webhook.id,
            message,
            outcome,
            self._progress.attempts + 1,
            self._parts.now(),
            next_try_at,
        )
        self._parts.book.tried(delivery)
        kind = "webhook.sent" if delivery.succeeded else "webhook.failed"
        data = {
            "webhook_id": self._webhook.id,
            "delivery_id": delivery.id,
            "event_id": delivery.event_id,
            "event_type": delivery.event_type,
            "attempt": delivery.attempt,
            "status": delivery.status,
            "duration_ms": delivery.duration_ms,
        }
        if not delivery.succeeded:
            at = None if next_try_at is None else rfc3339(next_try_at)
            data |= {"error": delivery.error, "next_try_at": at}
        event = self._event(event_id(kind, delivery.id), kind, data)
        self._parts.book.tell(self._webhook.organization_id, event)

    def _event(self, name: str, kind: str, data: dict[str, object]) -> NewEvent:
        owner = self._webhook.organization_id
        metadata = {"organization_id": owner, "key_id": None, "request_id": None}
        return NewEvent(name, kind, data, metadata)


def delivery_of(
    webhook_id: str,
    message: Message,
    outcome: Outcome,
    attempt: int,
    now: float,
    next_try_at: float | None = None,
) -> DeliveryRecord:
    """The record of an attempt that has just ended."""
    return DeliveryRecord(
        new_id("dlv"),
        webhook_id,
        message.id,
        message.type,
        attempt,
        outcome.status,
        outcome.error,
        outcome.answer,
        outcome.duration_ms,
        now,
        next_try_at,
    )


def _turn_of(entry: Entry) -> object:
    return parsed(entry)["data"].get("turn")
