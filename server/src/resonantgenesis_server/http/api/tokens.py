"""`/v1/tokens`: short-lived client tokens, so that no API key is in a browser."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from ...codec.times import rfc3339, rfc3339_or_none
from ...model.errors import Conflict, Forbidden
from ...model.principal import Principal
from ...records.audit import AuditLog
from ...records.base import Actor
from ..acting import Acting
from ..auth.authenticator import (
    COOKIE,
    CredentialAuthenticator,
    administrator,
    any_caller,
    bearer,
    scoped,
)
from ..auth.signing import MAX_TOKEN_LIFE
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import NO_NUL, Body, Id
from .key_models import ScopeList, check_grant

PATH = "/v1/tokens"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

Subject = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]


#: Seconds in which a link must be used.
LINK_LIFE = 600
#: Seconds after a sign-in in which its token can be renewed.
SIGN_IN_LIFE = 7 * 86_400


class NewToken(Body):
    scopes: ScopeList = Field(
        default_factory=list, description="Left out: all that the caller has."
    )
    subject: Subject | None = Field(
        default=None, description="The end user: the token sees only this subject's sessions."
    )
    session_id: Id | None = Field(default=None, description="Binds the token to one session.")
    agent_id: Id | None = Field(default=None, description="Binds the token to one agent.")
    ttl_seconds: int = Field(default=3_600, ge=1, le=MAX_TOKEN_LIFE)
    cookie: bool = Field(default=False, description="Also set it as a cookie for GET streams.")


class MadeToken(BaseModel):
    token: str = Field(description="The credential; it is not shown again.")
    expires_at: str
    scopes: list[str]
    subject: str | None
    session_id: str | None
    agent_id: str | None


class NewLink(Body):
    """Nothing: a link signs in with all that the key has."""


class MadeLink(BaseModel):
    code: str = Field(description="The credential of `POST /v1/tokens/sign-in`, once.")
    path: str = Field(description="Of the console's page that uses the code.")
    expires_at: str


class SignIn(Body):
    ttl_seconds: int = Field(default=MAX_TOKEN_LIFE // 2, ge=1, le=MAX_TOKEN_LIFE)


class Rotation(Body):
    end_tokens: bool = Field(
        default=False,
        description="End every token that is out, of every organization: for a leaked secret.",
    )


class SigningKeyBody(BaseModel):
    id: str = Field(description="The `kid` in the header of new tokens.")
    created_at: str
    former: int = Field(description="Former keys, whose tokens are valid until they expire.")


Writer = Annotated[Principal, Depends(scoped("tokens:write"))]
#: Whoever has a credential: what it may do is checked in the route.
Caller = Annotated[Principal, Depends(any_caller)]
Administrator = Annotated[Principal, Depends(administrator)]


#: Raises SessionNotFound for a session that the caller does not see.
CheckSession = Callable[[Principal, str], Awaitable[None]]


async def any_session(_principal: Principal, _session_id: str) -> None:
    """The `CheckSession` of an app without sessions."""


def tokens_router(
    authenticator: CredentialAuthenticator,
    once: IdempotentPosts,
    audit: AuditLog,
    check_session: CheckSession = any_session,
) -> APIRouter:
    router = api_router(tag="tokens")

    @router.post(
        PATH,
        status_code=201,
        response_model=MadeToken,
        responses=documented_errors(404, 409, body=True),
        operation_id="create_token",
    )
    async def create(
        request: Request,
        body: NewToken,
        principal: Writer,
        actor: Acting,
        key: IdempotencyKey = None,
    ) -> Response:
        """Create a token with at most the scopes and the lifetime of the caller's credential."""
        now = time.time()
        granted = _grant(principal, body, now)
        if principal.is_bound and body.session_id is not None:
            # Else it could store files and publish events for a session of others.
            await check_session(principal, body.session_id)
        token = await authenticator.sign(granted, now=now)

        async def make(making: Making) -> BaseModel:
            if granted.is_bound:  # tokens of end users are no act of administration
                await making.remember()
            else:
                await _keep(audit, actor, granted, making)
            return _made(token, granted, now)

        response = await once.run(principal, PATH, key, body, make)
        if body.cookie:
            _set_cookie(request, response, token, (granted.expires_at or now) - now)
        return response

    @router.post(
        PATH + "/links",
        status_code=201,
        responses=documented_errors(body=True),
        operation_id="create_sign_in_link",
    )
    async def link(_body: NewLink, principal: Writer, actor: Acting) -> MadeLink:
        """Create a code that signs in once, within ten minutes, with all scopes of the caller's API
        key. It can do nothing else."""
        if principal.signed_by is not None:
            raise Forbidden("only an API key makes a link, and no token")
        now = time.time()
        end = _until(principal, now + LINK_LIFE)
        await audit.keep(actor, "link.created", principal.key_id, expires_at=rfc3339(end))
        # Without scopes it opens nothing but the sign-in.
        code = await authenticator.sign(
            replace(principal, scopes=frozenset(), expires_at=end), now=now
        )
        return MadeLink(code=code, path=f"/console/#sign-in={code}", expires_at=rfc3339(end))

    @router.post(
        PATH + "/sign-in",
        status_code=201,
        response_model=MadeToken,
        responses=documented_errors(409, body=True),
        operation_id="sign_in",
    )
    async def sign_in(request: Request, body: SignIn, principal: Caller, actor: Acting) -> Response:
        """Exchange the code of a link, which is the credential here, for a token."""
        if principal.scopes or principal.signed_by is None:
            raise Forbidden("this takes the code of a link, which POST /v1/tokens/links makes")
        now = time.time()
        owner = await authenticator.owner(principal)
        signed_in = replace(owner, renewable_until=_until(owner, now + SIGN_IN_LIFE))
        granted = _renewed(signed_in, body, now)
        token = await authenticator.sign(granted, now=now)

        async def make(making: Making) -> BaseModel:
            await _keep(audit, actor, granted, making)
            return _made(token, granted, now)

        # The code used up: one use, on all nodes, as of any Idempotency-Key.
        key = _digest(bearer(request.headers["authorization"].encode("latin-1")))
        try:
            return await once.run(principal, PATH + "/sign-in", key, NewLink(), make)
        except Conflict:
            raise Conflict("this link has been used; make another one") from None

    @router.post(
        PATH + "/renew",
        status_code=201,
        responses=documented_errors(body=True),
        operation_id="renew_token",
    )
    async def renew(body: SignIn, principal: Caller, actor: Acting) -> MadeToken:
        """Exchange the token of a sign-in for a new one with the same rights, up to a week after
        the sign-in. The old one stays valid until it expires."""
        if principal.renewable_until is None:
            raise Forbidden("only the token of a sign-in can be renewed")
        now = time.time()
        granted = _renewed(principal, body, now)
        await audit.keep(
            actor,
            "token.renewed",
            granted.key_id,
            expires_at=rfc3339_or_none(granted.expires_at),
        )
        return _made(await authenticator.sign(granted, now=now), granted, now)

    @router.post(
        PATH + "/rotate",
        responses=documented_errors(409, body=True),
        operation_id="rotate_token_signing_key",
    )
    async def rotate(body: Rotation, administrator: Administrator, actor: Acting) -> SigningKeyBody:
        """Sign tokens with a new key from now on; for the server's bootstrap key alone. Existing
        tokens stay valid until they expire. With `end_tokens` they and their open streams end
        within 2 s."""
        await audit.keep(
            actor, "signing_key.rotated", administrator.key_id, end_tokens=body.end_tokens
        )
        made = await authenticator.rotate(end_tokens=body.end_tokens)
        return SigningKeyBody(id=made.id, created_at=rfc3339(made.created_at), former=made.former)

    return router


def _digest(code: str) -> str:
    """That of a code without its signature, which can be written in several ways."""
    return hashlib.sha256(code.rpartition(".")[0].encode()).hexdigest()


async def _keep(audit: AuditLog, actor: Actor, granted: Principal, making: Making) -> None:
    """Have the audit log tell of a token, whose target is the key that it ends with."""
    await audit.keep(
        actor,
        "token.created",
        granted.key_id,
        making.showing_secret(),
        scopes=sorted(granted.scopes),
        expires_at=rfc3339_or_none(granted.expires_at),
    )


def _made(token: str, granted: Principal, now: float) -> MadeToken:
    return MadeToken(
        token=token,
        expires_at=rfc3339(granted.expires_at or now),
        scopes=sorted(granted.scopes),
        subject=granted.subject,
        session_id=granted.session_id,
        agent_id=granted.agent_id,
    )


def _until(owner: Principal, end: float) -> float:
    """At most as long as the owner itself is valid."""
    return end if owner.expires_at is None else min(end, owner.expires_at)


def _renewed(principal: Principal, body: SignIn, now: float) -> Principal:
    """With the rights of a sign-in for `ttl_seconds` more, within the bound of the sign-in."""
    end = min(now + body.ttl_seconds, principal.renewable_until or math.inf)
    return replace(principal, expires_at=end, is_bootstrap=False)


def _grant(maker: Principal, body: NewToken, now: float) -> Principal:
    end = now + body.ttl_seconds
    return Principal(
        organization_id=maker.organization_id,
        key_id=maker.key_id,
        scopes=check_grant(maker, body.scopes) if body.scopes else maker.scopes,
        subject=maker.subject_of_new(body.subject),
        session_id=_bound(maker.session_id, body.session_id, "session"),
        agent_id=_bound(maker.agent_id, body.agent_id, "agent"),
        expires_at=_until(maker, end),
    )


def _bound(own: str | None, asked: str | None, what: str) -> str | None:
    """What the maker is bound to binds its tokens too."""
    if own is not None and asked not in {None, own}:
        raise Forbidden(f"your own token is bound to another {what}")
    return own if asked is None else asked


def _set_cookie(request: Request, response: Response, token: str, lifetime: float) -> None:
    # By the Host header: behind a proxy on the same machine the peer's address is loopback too.
    host = request.headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    response.set_cookie(
        COOKIE,
        token,
        max_age=math.ceil(lifetime),
        path="/",
        secure=name.lower() not in _LOOPBACK,
        httponly=True,
        samesite="strict",
    )
