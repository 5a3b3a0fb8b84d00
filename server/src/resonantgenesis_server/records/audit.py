"""The audit log: administrative acts as events `system.audit.*`, kept with the change itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.events import AUDIT, NewEvent
from ..model.ids import new_id
from .base import Actor, Once
from .database import RecordsDatabase
from .idempotency import use_key
from .outbox import keep_event
from .tables import micros


async def keep_audit(
    connection: AsyncConnection,
    actor: Actor | None,
    act: str,
    target: str,
    now: int,
    **details: Any,
) -> None:
    """Keep the event of an act within the caller's transaction, at `now` (microseconds since 1970).

    `act` is like `key.created`, `target` the id of what was changed. `details` never hold a secret.
    Nothing is kept for what the server does by itself, or for an actor without an organization.
    """
    if actor is None or not actor.organization_id:
        return
    data = {
        "target": target,
        "key_id": actor.key_id,
        "subject": actor.subject,
        "address": actor.address,
        **details,
    }
    metadata = {
        "organization_id": actor.organization_id,
        "key_id": actor.key_id,
        "request_id": actor.request_id,
    }
    event = NewEvent(new_id("evt"), AUDIT + act, data, metadata)
    await keep_event(connection, actor.organization_id, event, now)


class AuditLog:
    """Acts that change no row: each is kept before it takes effect, so that none is lost."""

    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def keep(
        self,
        actor: Actor,
        act: str,
        target: str,
        once: Once[None] | None = None,
        **details: Any,
    ) -> None:
        """See `keep_audit`. Uses the key of `once` up with it; raises `KeyUsed`."""
        async with self._database.write() as connection:
            await use_key(connection, once, None, self._database.passed())
            await keep_audit(connection, actor, act, target, micros(self._clock()), **details)
