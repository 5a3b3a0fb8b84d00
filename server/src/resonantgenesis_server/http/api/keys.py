"""`/v1/keys`: API keys. Each is shown once, when it is created."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from ...model.errors import Conflict, Forbidden, NotFound
from ...model.ids import is_id
from ...model.principal import ORGANIZATION, Principal, Reached, ignore_limit
from ...records.access import KeyRepository
from ...records.base import KeyRecord
from ...records.credentials import new_api_key
from ..acting import Acting
from ..auth.authenticator import CredentialAuthenticator, scoped
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import PageBody, PageCursor, PageLimit, page_body
from .key_models import KeyBody, MadeKey, NewKey, check_grant, expiry, key_body, made_key

PATH = "/v1/keys"

Reader = Annotated[Principal, Depends(scoped("keys:read"))]
Writer = Annotated[Principal, Depends(scoped("keys:write"))]

#: The limit of an organization's keys.
LIMIT = ORGANIZATION + "keys"


def keys_router(
    keys: KeyRepository,
    authenticator: CredentialAuthenticator,
    once: IdempotentPosts,
    *,
    limit: int = 0,
    reached: Reached = ignore_limit,
) -> APIRouter:
    """`limit`: live keys of an organization, neither revoked nor expired; 0 is any number."""
    router = api_router(tag="keys")
    #: Held from the count to the creation; else concurrent requests would exceed the limit.
    counting = asyncio.Lock()

    async def check_limit(principal: Principal) -> None:
        if not limit or principal.is_bootstrap:
            return
        if await keys.count_live(principal.organization_id) >= limit:
            reached(principal, LIMIT, limit)
            raise Conflict(
                f"this organization may have {limit} keys; revoke some first",
                details={"limit": LIMIT, "most": limit},
            )

    @router.post(
        PATH,
        status_code=201,
        response_model=MadeKey,
        responses=documented_errors(409, body=True),
        operation_id="create_key",
    )
    async def create(
        body: NewKey, principal: Writer, actor: Acting, key: IdempotencyKey = None
    ) -> Response:
        """Create a key with scopes that the caller has. It ends no later than the caller's own
        credential; of a sign-in that is the key that signed in."""
        _check_unbound(principal)
        scopes = check_grant(principal, body.scopes)
        last = principal.expires_at
        # A person at the console makes keys that outlast the sign-in.
        if principal.renewable_until is not None:
            last = (await _own(keys, principal, principal.key_id)).expires_at

        async def make(making: Making) -> BaseModel:
            credential = new_api_key()
            async with counting:
                await check_limit(principal)
                record = await keys.create(
                    principal.organization_id,
                    name=body.name,
                    **authenticator.hashed(credential),
                    scopes=scopes,
                    expires_at=_ends(last, body.expires_in),
                    once=making.showing_secret(lambda made: made.id),
                    actor=actor,
                )
            return made_key(record, credential)

        return await once.run(principal, PATH, key, body, make)

    @router.get(PATH, responses=documented_errors(), operation_id="list_keys")
    async def list_keys(
        principal: Reader, limit: PageLimit = 50, cursor: PageCursor = None
    ) -> PageBody[KeyBody]:
        """All keys of the organization, newest first, without their credentials."""
        _check_unbound(principal)
        page = await keys.list(principal.organization_id, limit=limit, cursor=cursor)
        return page_body(page, key_body)

    @router.get(PATH + "/{key_id}", responses=documented_errors(404), operation_id="get_key")
    async def get(key_id: str, principal: Reader) -> KeyBody:
        """One key, without its credential."""
        _check_unbound(principal)
        return key_body(await _own(keys, principal, key_id))

    @router.delete(
        PATH + "/{key_id}",
        status_code=204,
        responses=documented_errors(404),
        operation_id="revoke_key",
    )
    async def revoke(key_id: str, principal: Writer, actor: Acting) -> None:
        """Revoke a key and every token that it made. Their open streams end within 2 s."""
        _check_unbound(principal)
        if (await _own(keys, principal, key_id)).is_bootstrap and not principal.is_bootstrap:
            # Without the bootstrap key nobody could administer the server.
            raise Forbidden("only the bootstrap key can revoke the bootstrap key")
        await keys.revoke(principal.organization_id, key_id, actor)
        authenticator.forget()

    return router


async def _own(keys: KeyRepository, principal: Principal, key_id: str) -> KeyRecord:
    """The organization's key of this id."""
    record = await keys.find(key_id) if is_id(key_id) else None
    if record is None or record.organization_id != principal.organization_id:
        raise NotFound("there is no such key")
    return record


def _check_unbound(principal: Principal) -> None:
    """A key sees its whole organization, so a caller that sees less must not manage keys."""
    if principal.is_bound:
        raise Forbidden("a token bound to a subject, session or agent has no access to keys")


def _ends(last: float | None, expires_in: int | None) -> float | None:
    limits = [end for end in (expiry(expires_in), last) if end is not None]
    return min(limits, default=None)
