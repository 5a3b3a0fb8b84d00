"""`/v1/secret`: the server's own secret, for the server's bootstrap key alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from ...codec.times import rfc3339_or_none
from ...model.principal import Principal
from ...records.server_secret import UnusedKeys
from ...rotation import SecretReport, SecretRotation
from ..acting import Acting
from ..auth.authenticator import administrator
from ..errors import documented_errors
from ..routing import api_router
from ..schemas import Body

PATH = "/v1/secret"

Administrator = Annotated[Principal, Depends(administrator)]


class NoFields(Body):
    """Nothing."""


class UnusedKeyBody(BaseModel):
    id: str
    organization_id: str
    name: str


class UnusedKeysBody(BaseModel):
    count: int
    first: list[UnusedKeyBody] = Field(description="The oldest hundred.")


class SecretBody(BaseModel):
    id: str = Field(description="Names the secret and does not reveal it.")
    rotated_at: str | None = Field(description="null: it is the first one.")
    former: int = Field(description="Former secrets that still open what they have made.")
    coming: str | None = Field(description="The id of the one that a rotation makes current.")
    unused_keys: UnusedKeysBody = Field(
        description="API keys that were not used since the rotation: they end with the former one."
    )


class RetiredBody(BaseModel):
    revoked_keys: UnusedKeysBody


def secret_router(rotation: SecretRotation) -> APIRouter:
    router = api_router(tag="secret")

    @router.get(PATH, responses=documented_errors(), operation_id="get_secret")
    async def get_secret(_admin: Administrator) -> SecretBody:
        """Which secret is in use, and what a former one still holds."""
        return _body(await rotation.report())

    @router.post(
        PATH + "/rotate", responses=documented_errors(409, body=True), operation_id="rotate_secret"
    )
    async def rotate(_body_: NoFields, _admin: Administrator, actor: Acting) -> SecretBody:
        """Put another secret in the place of the current one, which becomes the former one."""
        return _body(await rotation.rotate(actor))

    @router.post(
        PATH + "/retire", responses=documented_errors(409, body=True), operation_id="retire_secret"
    )
    async def retire(_body_: NoFields, _admin: Administrator, actor: Acting) -> RetiredBody:
        """End the former secret, the tokens that it signed, and the keys not used since."""
        return RetiredBody(revoked_keys=_keys(await rotation.retire(actor)))

    return router


def _body(report: SecretReport) -> SecretBody:
    return SecretBody(
        id=report.id,
        rotated_at=rfc3339_or_none(report.since),
        former=report.former,
        coming=report.coming,
        unused_keys=_keys(report.unused),
    )


def _keys(unused: UnusedKeys) -> UnusedKeysBody:
    first = [
        UnusedKeyBody(id=key.id, organization_id=key.organization_id, name=key.name)
        for key in unused.first
    ]
    return UnusedKeysBody(count=unused.count, first=first)
