"""`DELETE /v1/subjects` and `DELETE /v1/organizations/{id}`: a person's data, a tenant's data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from ...codec.times import rfc3339_or_none
from ...erasure import Erased, Erasure
from ...model.errors import Forbidden, NotFound
from ...model.ids import is_id
from ...model.principal import Principal
from ..acting import Acting
from ..auth.authenticator import administrator, scoped
from ..errors import documented_errors
from ..routing import api_router
from ..waiting import waiting_for
from . import organizations
from .session_models import Subject

PATH = "/v1/subjects"

Writer = Annotated[Principal, Depends(scoped("subjects:write"))]
Administrator = Annotated[Principal, Depends(administrator)]


class ErasedBody(BaseModel):
    sessions: int = Field(description="Sessions that this call has deleted, with their logs.")
    files: int = Field(description="Files that this call has deleted beside those of sessions.")
    usage: int = Field(description="Turns in the usage that name nobody any more.")
    requests: int = Field(description="Kept answers of Idempotency-Keys.")
    has_more: bool = Field(description="Something is left: send the request again.")
    named_until: str | None = Field(
        description="Events up to now may name the subject, and are kept until then."
    )


def erasure_router(erasure: Erasure, forget: Callable[[], None]) -> APIRouter:
    """`forget`: drops what is remembered of credentials."""
    router = api_router(tag="erasure")

    @router.delete(PATH, responses=documented_errors(), operation_id="delete_subject")
    async def delete_subject(
        request: Request, principal: Writer, actor: Acting, subject: Annotated[Subject, Query()]
    ) -> ErasedBody:
        """Delete the sessions and files of one end user, and take the name from the usage."""
        if principal.is_bound:
            raise Forbidden("a token bound to a subject, session or agent cannot delete a subject")
        async with waiting_for(request):
            erased = await erasure.subject(principal, subject, actor)
        return _body(erased)

    @router.delete(
        organizations.PATH + "/{organization_id}",
        responses=documented_errors(404, 409),
        operation_id="delete_organization",
    )
    async def delete_organization(
        request: Request, organization_id: str, admin: Administrator, actor: Acting
    ) -> ErasedBody:
        """Disable an organization, then delete all that it has. It is gone when nothing is left."""
        if not is_id(organization_id):
            raise NotFound("there is no such organization")
        async with waiting_for(request):
            erased = await erasure.organization(admin, organization_id, actor, forget)
        return _body(erased)

    return router


def _body(erased: Erased) -> ErasedBody:
    named_until = rfc3339_or_none(erased.named_until)
    return ErasedBody(**{**asdict(erased), "named_until": named_until})
