"""Webhooks: what they are, how far each has got, and what was sent to them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.errors import Conflict
from ..model.events import NewEvent
from . import tables
from .audit import keep_audit
from .base import Actor, ListPage, Once
from .database import Duplicate, RecordsDatabase, few_at_once
from .idempotency import use_key
from .outbox import keep_events
from .paging import by_creation, read_page
from .tables import micros, micros_or_none, seconds, seconds_or_none

#: Deliveries that are kept of a webhook.
KEPT_DELIVERIES = 500
_CALLBACKS = "this organization may have {} callbacks that are not over"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a webhook has got in the events of its organization.

    `position` of the log's `epoch` is the last event that it has or is not sent; `reached_at` is
    that event's time in microseconds. `resend_after` to `resend_until` are positions that it gets
    again first. `failing_since`, `attempts` and `next_try_at` are of the event that its receiver
    does not take. Events up to the time `lost_before` were removed before it got them.
    """

    epoch: str
    position: int
    reached_at: int
    resend_after: int | None = None
    resend_until: int | None = None
    failing_since: float | None = None
    attempts: int = 0
    next_try_at: float | None = None
    lost_before: float | None = None


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """`endpoint` is as `EndpointRecords` keeps it. With a `session_id` it is the callback of that
    session, or of its `turn`."""

    id: str
    organization_id: str
    endpoint: Mapping[str, Any] = field(repr=False)
    progress: Progress
    description: str = ""
    events: tuple[str, ...] | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    format: str = "event"
    enabled: bool = True
    disabled_reason: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    revision: int = 0
    session_id: str | None = None
    turn: int | None = None

    @property
    def url(self) -> str:
        return str(self.endpoint["url"])

    @property
    def protocol(self) -> str:
        """The protocol of other people's clients that the callback speaks; "": ours."""
        return str(self.endpoint.get("protocol", ""))


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One attempt. Without a `status` there was no answer, and `error` says why."""

    id: str
    webhook_id: str
    event_id: str
    event_type: str
    attempt: int
    status: int | None
    error: str | None
    answer: str | None
    duration_ms: int
    created_at: float
    next_try_at: float | None = None

    @property
    def succeeded(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Advance:
    """What a delivery writes: the progress, why the webhook is disabled now (or None), and whether
    it is over. It is dropped if a caller has changed the webhook meanwhile (`revision`)."""

    id: str
    revision: int
    progress: Progress
    disabled_reason: str | None = None
    is_over: bool = False


#: Columns that callers set; `endpoint` is the address, the headers and the secret.
_GIVEN = {"description", "endpoint", "events", "filters", "format", "enabled"}


class WebhookRepository:
    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # -- for callers -----------------------------------------------------------------------

    async def create(
        self,
        webhook: WebhookRecord,
        *,
        limit: int = 0,
        of_turn: int = 0,
        once: Once[WebhookRecord] | None = None,
        actor: Actor | None = None,
    ) -> WebhookRecord:
        """Keep a new webhook; its times are now. A callback that is there already stays as it is.
        Raises `Conflict` for more than `limit` of its kind in the organization, and for more than
        `of_turn` of its turn; 0 is any number.
        """
        table, now = tables.webhooks, micros(self._clock())
        values = {
            **_values(webhook),
            "created_at": now,
            "updated_at": now,
            "revision": new_revision(),
        }
        try:
            async with self._database.write() as connection:
                await self._check_limits(connection, webhook, limit, of_turn)
                query = insert(table).values(values).returning(table)
                made = _webhook((await connection.execute(query)).mappings().one())
                await keep_audit(connection, actor, "webhook.created", made.id, now)
                await use_key(connection, once, made, self._database.passed())
        except Duplicate:
            existing = await self.get(webhook.organization_id, webhook.id)
            if existing is None:
                raise
            return existing
        return made

    async def _check_limits(
        self, connection: AsyncConnection, webhook: WebhookRecord, limit: int, of_turn: int
    ) -> None:
        table = tables.webhooks
        is_callback = table.c.session_id.is_not(None)
        kind = is_callback if webhook.session_id else ~is_callback
        mine = and_(table.c.organization_id == webhook.organization_id, kind)
        beside = and_(mine, table.c.session_id == webhook.session_id, table.c.turn == webhook.turn)
        words = _CALLBACKS if webhook.session_id else "this organization may have {} webhooks"
        others = table.c.id != webhook.id  # what is set again adds nothing
        await _check_count(connection, and_(mine, others), limit, words)
        words = "one turn may have {} callbacks"
        await _check_count(connection, and_(beside, others), of_turn, words)

    async def check_room(self, organization_id: str, limit: int) -> None:
        """Raises `Conflict` if the organization has `limit` callbacks that are not over; 0 is any
        number."""
        table = tables.webhooks
        mine = and_(table.c.organization_id == organization_id, table.c.session_id.is_not(None))
        async with self._database.read() as connection:
            await _check_count(connection, mine, limit, _CALLBACKS)

    async def get(self, organization_id: str, webhook_id: str) -> WebhookRecord | None:
        query = select(tables.webhooks).where(_one(organization_id, webhook_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _webhook(row)

    async def of_turn(
        self, organization_id: str, session_id: str, turn: int
    ) -> Sequence[WebhookRecord]:
        """The callbacks of a turn that are not over, by id."""
        table = tables.webhooks
        query = (
            select(table)
            .where(
                table.c.organization_id == organization_id,
                table.c.session_id == session_id,
                table.c.turn == turn,
            )
            .order_by(table.c.id)
        )
        async with self._database.read() as connection:
            return [_webhook(row) for row in (await connection.execute(query)).mappings()]

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> ListPage[WebhookRecord]:
        """Newest first, without callbacks."""
        table = tables.webhooks
        query = select(table).where(
            table.c.organization_id == organization_id, table.c.session_id.is_(None)
        )
        query = by_creation(query, table, cursor)
        async with self._database.read() as connection:
            return await read_page(connection, query, limit, _webhook, _place)

    async def change(
        self,
        organization_id: str,
        webhook_id: str,
        changes: Callable[[WebhookRecord], Mapping[str, Any]],
        *,
        actor: Actor | None = None,
        act: str = "webhook.updated",
    ) -> WebhookRecord | None:
        """Set the columns that `changes` names for the row as it is now; None: there is none. What
        `changes` raises leaves it as it is."""
        one, table = _one(organization_id, webhook_id), tables.webhooks
        async with self._database.write() as connection:
            found = await connection.execute(select(table).where(one).with_for_update())
            row = found.mappings().first()
            if row is None:
                return None
            now, changed = micros(self._clock()), changes(_webhook(row))
            values = {**changed, "updated_at": now, "revision": new_revision()}
            await keep_audit(
                connection, actor, act, webhook_id, now, changes=sorted(_GIVEN & changed.keys())
            )
            query = update(table).where(one).values(values).returning(table)
            return _webhook((await connection.execute(query)).mappings().one())

    async def delete(
        self, organization_id: str, webhook_id: str, actor: Actor | None = None
    ) -> bool:
        """Whether there was such a webhook."""
        async with self._database.write() as connection:
            gone = await connection.execute(
                delete(tables.webhooks)
                .where(_one(organization_id, webhook_id))
                .returning(tables.webhooks.c.id)
            )
            found = gone.first() is not None
            if found:
                await connection.execute(_deliveries_of(webhook_id))
                now = micros(self._clock())
                await keep_audit(connection, actor, "webhook.deleted", webhook_id, now)
        return found

    # -- for the delivery ------------------------------------------------------------------

    async def mark(self) -> tuple[int, int]:
        """Two numbers that are others after each change of the active webhooks."""
        table = tables.webhooks
        query = _active(select(func.count(), func.coalesce(func.sum(table.c.revision), 0)))
        async with self._database.read() as connection:
            count, total = (await connection.execute(query)).one()
        return int(count), int(total)

    async def revisions(self) -> dict[str, int]:
        """The active webhooks: those that are enabled, of organizations that are not disabled."""
        table = tables.webhooks
        async with self._database.read() as connection:
            rows = await connection.execute(_active(select(table.c.id, table.c.revision)))
            return {row.id: row.revision for row in rows}

    async def load(self, ids: Sequence[str]) -> Sequence[WebhookRecord]:
        """Those of these webhooks that exist."""
        found: Sequence[WebhookRecord] = ()
        for part in few_at_once(ids):
            query = select(tables.webhooks).where(tables.webhooks.c.id.in_(part))
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).mappings().all()
            found = [*found, *map(_webhook, rows)]
        return found

    async def advance(
        self,
        advances: Sequence[Advance],
        deliveries: Sequence[DeliveryRecord],
        events: Sequence[tuple[str, NewEvent]] = (),
    ) -> None:
        """Write how far webhooks have got, what was sent, and the events of organizations that tell
        of it, in one transaction."""
        # In one order, so that two nodes that write the same rows wait and do not deadlock.
        ordered = sorted(advances, key=lambda each: each.id)
        over = [each.id for each in ordered if each.is_over]
        moved = [_moved(each) for each in ordered if not each.is_over and not each.disabled_reason]
        async with self._database.write() as connection:
            if moved:
                await connection.execute(_ADVANCE, moved)
            for each in ordered:
                if each.disabled_reason and not each.is_over:
                    await connection.execute(_DISABLE, [_disabled(each, self._clock())])
            for part in few_at_once(over):
                table = tables.webhooks
                await connection.execute(delete(table).where(table.c.id.in_(part)))
            if deliveries:
                rows = [_delivery_values(each) for each in deliveries]
                await connection.execute(insert(tables.webhook_deliveries), rows)
            await keep_events(connection, events, micros(self._clock()))


class DeliveryRepository:
    """What was sent to webhooks: the newest of each, and all of them for some days."""

    def __init__(self, database: RecordsDatabase) -> None:
        self._database = database

    async def list(
        self,
        webhook_id: str,
        *,
        failed: bool | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ListPage[DeliveryRecord]:
        """Newest first; `failed`: only those that failed, or that did not."""
        table = tables.webhook_deliveries
        query = select(table).where(table.c.webhook_id == webhook_id)
        if failed is not None:
            query = query.where(table.c.error.is_not(None) if failed else table.c.error.is_(None))
        query = by_creation(query, table, cursor)
        async with self._database.read() as connection:
            return await read_page(connection, query, limit, _delivery, _place)

    async def trim(self, webhook_id: str) -> None:
        """Remove what is older than the newest KEPT_DELIVERIES."""
        table = tables.webhook_deliveries
        oldest = (
            select(table.c.created_at)
            .where(table.c.webhook_id == webhook_id)
            .order_by(table.c.created_at.desc(), table.c.id.desc())
            .offset(KEPT_DELIVERIES)
            .limit(1)
        )
        async with self._database.write() as connection:
            before = await connection.scalar(oldest)
            if before is not None:
                await connection.execute(
                    _deliveries_of(webhook_id).where(table.c.created_at <= before)
                )

    async def purge(self, before: float, limit: int = 1_000) -> int:
        """Delete up to `limit` attempts from before `before`; return their number."""
        table = tables.webhook_deliveries
        old = select(table.c.id).where(table.c.created_at < micros(before)).limit(limit)
        async with self._database.write() as connection:
            ids = list((await connection.execute(old)).scalars())
            for part in few_at_once(ids):
                await connection.execute(delete(table).where(table.c.id.in_(part)))
        return len(ids)


async def _check_count(
    connection: AsyncConnection, others: ColumnElement[bool], most: int, words: str
) -> None:
    query = select(func.count()).select_from(tables.webhooks).where(others)
    if most and (await connection.scalar(query) or 0) >= most:
        raise Conflict(words.format(most), details={"most": most})


def _one(organization_id: str, webhook_id: str) -> ColumnElement[bool]:
    columns = tables.webhooks.c
    return and_(columns.organization_id == organization_id, columns.id == webhook_id)


def _deliveries_of(webhook_id: str) -> Any:
    table = tables.webhook_deliveries
    return delete(table).where(table.c.webhook_id == webhook_id)


def _active(query: Select[Any]) -> Select[Any]:
    webhooks, organizations = tables.webhooks, tables.organizations
    joined = webhooks.join(organizations, webhooks.c.organization_id == organizations.c.id)
    return query.select_from(joined).where(
        webhooks.c.enabled, organizations.c.disabled_at.is_(None)
    )


def new_revision() -> int:
    """For a webhook that is changed; see `tables`."""
    return secrets.randbits(31)


_COLUMNS = tables.webhooks.c
# Two nodes may serve a webhook for a moment: the one that is further wins.
_CURRENT = and_(
    _COLUMNS.id == bindparam("of_id"),
    _COLUMNS.revision == bindparam("of_revision"),
    or_(_COLUMNS.epoch != bindparam("epoch"), _COLUMNS.position <= bindparam("position")),
)
_ADVANCE = (
    update(tables.webhooks)
    .where(_CURRENT)
    .values({name: bindparam(name) for name in Progress.__dataclass_fields__})
)
_DISABLE = _ADVANCE.values(
    enabled=False,
    disabled_reason=bindparam("reason"),
    revision=bindparam("new_revision"),
    updated_at=bindparam("changed_at"),
)


def _moved(advance: Advance) -> dict[str, Any]:
    return {
        "of_id": advance.id,
        "of_revision": advance.revision,
        **progress_values(advance.progress),
    }


def _disabled(advance: Advance, now: float) -> dict[str, Any]:
    return {
        **_moved(advance),
        "reason": advance.disabled_reason,
        "new_revision": new_revision(),
        "changed_at": micros(now),
    }


def progress_values(progress: Progress) -> dict[str, Any]:
    """The columns of a progress."""
    return {
        **asdict(progress),
        "failing_since": micros_or_none(progress.failing_since),
        "next_try_at": micros_or_none(progress.next_try_at),
        "lost_before": micros_or_none(progress.lost_before),
    }


def _values(webhook: WebhookRecord) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "organization_id": webhook.organization_id,
        "description": webhook.description,
        "events": None if webhook.events is None else list(webhook.events),
        "filters": dict(webhook.filters),
        "format": webhook.format,
        "endpoint": dict(webhook.endpoint),
        "enabled": webhook.enabled,
        "session_id": webhook.session_id,
        "turn": webhook.turn,
        **progress_values(webhook.progress),
    }


def _webhook(row: RowMapping) -> WebhookRecord:
    events = row["events"]
    return WebhookRecord(
        id=row["id"],
        organization_id=row["organization_id"],
        endpoint=row["endpoint"],
        progress=Progress(
            row["epoch"],
            row["position"],
            row["reached_at"],
            row["resend_after"],
            row["resend_until"],
            seconds_or_none(row["failing_since"]),
            row["attempts"],
            seconds_or_none(row["next_try_at"]),
            seconds_or_none(row["lost_before"]),
        ),
        description=row["description"],
        events=None if events is None else tuple(events),
        filters=row["filters"],
        format=row["format"],
        enabled=row["enabled"],
        disabled_reason=row["disabled_reason"],
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
        revision=row["revision"],
        session_id=row["session_id"],
        turn=row["turn"],
    )


def _delivery_values(delivery: DeliveryRecord) -> dict[str, Any]:
    return {
        **asdict(delivery),
        "created_at": micros(delivery.created_at),
        "next_try_at": micros_or_none(delivery.next_try_at),
    }


def _delivery(row: RowMapping) -> DeliveryRecord:
    values = dict(row)
    values["created_at"] = seconds(row["created_at"])
    values["next_try_at"] = seconds_or_none(row["next_try_at"])
    return DeliveryRecord(**values)


def _place(item: WebhookRecord | DeliveryRecord) -> tuple[int, str]:
    return micros(item.created_at), item.id
