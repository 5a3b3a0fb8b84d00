"""Erases a person's data, or a whole organization, while the server runs.

Every step is durable by itself and can be repeated. A call works for some seconds and tells whether
anything is left, so the caller asks again: also after a crash.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from .events.service import EventService
from .files.service import FileService
from .model.errors import Conflict, NotFound, SessionBusy, SessionNotFound
from .model.events import audit_stream, event_stream
from .model.principal import Principal
from .records.base import Actor
from .records.files import Owner
from .records.store import Records
from .sessions.service import SessionService

log_ = structlog.get_logger("resonantgenesis.erasure")

#: Seconds of one call: under the time-out of proxies.
_SECONDS = 15.0
_PAGE = 100
_EVERYTHING = frozenset({"*"})


@dataclass(slots=True)
class Erased:
    """What a call has erased. `has_more`: ask again. `usage` counts turns that name nobody any
    more, `requests` the kept answers of Idempotency-Keys. Events up to now may name the subject:
    they cannot be changed, and the last of them goes at `named_until` (seconds since 1970)."""

    sessions: int = 0
    files: int = 0
    usage: int = 0
    requests: int = 0
    has_more: bool = False
    named_until: float | None = None


class Erasure:
    """Raises ApiError, LogError, StoreError."""

    def __init__(
        self,
        sessions: SessionService,
        files: FileService,
        events: EventService,
        records: Records,
        settle: Callable[[str], Awaitable[None]],
        event_retention: float,
    ) -> None:
        """`settle` returns when the rows of an organization's usage follow all its current events.
        `event_retention`: seconds for which events are kept."""
        self._sessions = sessions
        self._files = files
        self._events = events
        self._records = records
        self._settle = settle
        self._event_retention = event_retention

    async def subject(self, principal: Principal, subject: str, actor: Actor) -> Erased:
        """Erase what belongs to this subject of the caller's organization."""
        await self._records.audit.keep(actor, "subject.deleted", subject)
        bound = replace(principal, subject=subject)
        erased = await self._contents(bound, actor.request_id)
        if not erased.has_more:
            await self._settle(principal.organization_id)
            erased.usage, erased.requests = await self._records.erasure.forget_subject(
                principal.organization_id, subject
            )
            await self._files.collect()
            erased.named_until = time.time() + self._event_retention
        log_.info(
            "a subject is being erased" if erased.has_more else "a subject is erased",
            organization=principal.organization_id,
            sessions=erased.sessions,
            files=erased.files,
        )
        return erased

    async def organization(
        self,
        principal: Principal,
        organization_id: str,
        actor: Actor,
        forget: Callable[[], None],
    ) -> Erased:
        """Disable the organization, then erase all that it has, itself last. `forget` drops what
        is remembered of credentials. Raises NotFound where it is gone."""
        if organization_id == principal.organization_id:
            raise Conflict("the server's own organization cannot be deleted")
        organizations = self._records.organizations
        disabled = await organizations.update(
            organization_id, disabled=True, actor=actor, act="organization.deleted"
        )
        if disabled is None:
            raise NotFound("there is no such organization")
        forget()
        within = Principal(organization_id, principal.key_id, _EVERYTHING)
        erased = await self._contents(within, actor.request_id)
        if not erased.has_more:
            await self._settle(organization_id)
            for stream in (event_stream(organization_id), audit_stream(organization_id)):
                await self._events.log.delete(stream)
            await self._records.erasure.remove_organization(organization_id)
            await self._files.collect()
            log_.info("an organization is erased", organization=organization_id)
        return erased

    async def _contents(self, owner: Principal, request_id: str) -> Erased:
        """Delete the sessions and files that the owner sees, as many as the time allows."""
        erased, until = Erased(), time.monotonic() + _SECONDS
        seen_by = Owner.of(owner)
        cursor: str | None = None
        while not erased.has_more:
            page = await self._sessions.list_sessions(
                owner, agent_id=None, status=None, limit=_PAGE, cursor=cursor
            )
            for item in page.items:
                if time.monotonic() > until:
                    erased.has_more = True
                    return erased
                await self._delete(owner, item["session_id"], request_id, erased)
            cursor = page.next_cursor
            if cursor is None:
                break
        while files := (await self._files.list(seen_by, limit=_PAGE, cursor=None)).items:
            for file in files:
                if time.monotonic() > until:
                    erased.has_more = True
                    return erased
                try:
                    await self._files.delete(seen_by, file.id)
                    erased.files += 1
                except NotFound:
                    continue
        return erased

    async def _delete(
        self, owner: Principal, session_id: str, request_id: str, erased: Erased
    ) -> None:
        try:
            await self._sessions.delete(owner, session_id, request_id=request_id)
            erased.sessions += 1
        except SessionNotFound:  # gone meanwhile
            return
        except SessionBusy:
            erased.has_more = True
