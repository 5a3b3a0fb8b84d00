"""`/v1/organizations`: the separate tenants of a server, for its bootstrap key alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from ...codec.times import rfc3339, rfc3339_or_none
from ...model.errors import Conflict, NotFound
from ...model.ids import is_id
from ...model.principal import Principal
from ...records.access import KeyRepository, OrganizationRepository
from ...records.base import UNSET, Organization
from ...records.credentials import new_api_key
from ..acting import Acting
from ..auth.authenticator import CredentialAuthenticator, administrator
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import (
    Body,
    Name,
    PageBody,
    PageCursor,
    PageLimit,
    page_body,
)
from .key_models import MadeKey, NewKey, expiry, made_key

PATH = "/v1/organizations"
#: The scopes of an organization's first key.
_ALL = frozenset({"*"})

Administrator = Annotated[Principal, Depends(administrator)]


class NewOrganization(Body):
    name: Name
    key_name: Name = Field(default="first", description="Of its first key.")


class OrganizationPatch(Body):
    """Only the fields that are sent change."""

    name: Name = Field(default_factory=str)
    disabled: bool = Field(
        default=False,
        description="None of its credentials is valid, and their open streams end within"
        " 2 s. Nothing is deleted.",
    )


class OrganizationBody(BaseModel):
    id: str
    name: str
    created_at: str
    disabled_at: str | None


class MadeOrganization(OrganizationBody):
    key: MadeKey = Field(description="Its first key, with every scope in it.")


def organizations_router(
    organizations: OrganizationRepository,
    keys: KeyRepository,
    authenticator: CredentialAuthenticator,
    once: IdempotentPosts,
) -> APIRouter:
    router = api_router(tag="organizations")

    @router.post(
        PATH,
        status_code=201,
        response_model=MadeOrganization,
        responses=documented_errors(409, body=True),
        operation_id="create_organization",
    )
    async def create(
        body: NewOrganization, admin: Administrator, actor: Acting, key: IdempotencyKey = None
    ) -> Response:
        """Create an organization and its first key, which is shown this once."""

        async def make(making: Making) -> BaseModel:
            credential = new_api_key()
            made, first = await organizations.create_with_key(
                body.name,
                key_name=body.key_name,
                **authenticator.hashed(credential),
                scopes=_ALL,
                once=making.showing_secret(lambda made: made.id),
                actor=actor,
            )
            shown = made_key(first, credential)
            return MadeOrganization(**_body(made).model_dump(), key=shown)

        return await once.run(admin, PATH, key, body, make)

    @router.get(PATH, responses=documented_errors(), operation_id="list_organizations")
    async def list_organizations(
        _admin: Administrator, limit: PageLimit = 50, cursor: PageCursor = None
    ) -> PageBody[OrganizationBody]:
        """All organizations of the server, oldest first."""
        page = await organizations.all(limit=limit, cursor=cursor)
        return page_body(page, _body)

    @router.get(
        PATH + "/{organization_id}",
        responses=documented_errors(404),
        operation_id="get_organization",
    )
    async def get(organization_id: str, _admin: Administrator) -> OrganizationBody:
        """One organization."""
        return _body(await _known(organizations, organization_id))

    @router.patch(
        PATH + "/{organization_id}",
        responses=documented_errors(404, 409, body=True),
        operation_id="update_organization",
    )
    async def update(
        organization_id: str, body: OrganizationPatch, admin: Administrator, actor: Acting
    ) -> OrganizationBody:
        """Rename, disable or enable an organization."""
        sent = body.model_fields_set
        if body.disabled and organization_id == admin.organization_id:
            raise Conflict("the server's own organization cannot be disabled")
        await _known(organizations, organization_id)
        changed = await organizations.update(
            organization_id,
            name=body.name if "name" in sent else UNSET,
            disabled=body.disabled if "disabled" in sent else UNSET,
            actor=actor,
        )
        authenticator.forget()
        return _body(_found(changed))

    @router.post(
        PATH + "/{organization_id}/keys",
        status_code=201,
        response_model=MadeKey,
        responses=documented_errors(404, 409, body=True),
        operation_id="create_organization_key",
    )
    async def create_key(
        organization_id: str,
        body: NewKey,
        admin: Administrator,
        actor: Acting,
        key: IdempotencyKey = None,
    ) -> Response:
        """Create a key in an organization whose keys are lost."""
        owner = await _known(organizations, organization_id)

        async def make(making: Making) -> BaseModel:
            credential = new_api_key()
            record = await keys.create(
                owner.id,
                name=body.name,
                **authenticator.hashed(credential),
                scopes=frozenset(body.scopes),
                expires_at=expiry(body.expires_in),
                once=making.showing_secret(lambda made: made.id),
                actor=actor,
            )
            return made_key(record, credential)

        # No Location: the key is at /v1/keys, which only its own organization sees.
        path = f"{PATH}/{owner.id}/keys"
        answer = await once.run(admin, path, key, body, make)
        del answer.headers["Location"]
        return answer

    return router


async def _known(organizations: OrganizationRepository, organization_id: str) -> Organization:
    found = await organizations.get(organization_id) if is_id(organization_id) else None
    return _found(found)


def _found(organization: Organization | None) -> Organization:
    if organization is None:
        raise NotFound("there is no such organization")
    return organization


def _body(organization: Organization) -> OrganizationBody:
    return OrganizationBody(
        id=organization.id,
        name=organization.name,
        created_at=rfc3339(organization.created_at),
        disabled_at=rfc3339_or_none(organization.disabled_at),
    )
