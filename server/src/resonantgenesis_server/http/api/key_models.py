"""Bodies of `/v1/keys`, and the check of granted scopes; organizations and tokens use both."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ...codec.times import rfc3339, rfc3339_or_none
from ...model.errors import Forbidden
from ...model.principal import SCOPES, Principal
from ...records.base import KeyRecord
from ..schemas import Body, Name

_TEN_YEARS = 10 * 365 * 86_400


def _known(scope: str) -> str:
    if scope not in SCOPES:
        near = difflib.get_close_matches(scope[:64], SCOPES, 1, 0.7)
        raise PydanticCustomError(
            "scope",
            "{scope} is no scope{near}; there are {scopes}",
            {
                "scope": repr(scope[:64]),
                "near": f" (did you mean {near[0]}?)" if near else "",
                "scopes": ", ".join(sorted(SCOPES)),
            },
        )
    return scope


Scope = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "enum": sorted(SCOPES)}),
]
ScopeList = Annotated[list[Scope], Field(min_length=1, max_length=64)]


class NewKey(Body):
    name: Name
    scopes: ScopeList
    expires_in: int | None = Field(
        default=None, ge=1, le=_TEN_YEARS, description="Seconds; null: no end."
    )


class KeyBody(BaseModel):
    id: str
    name: str
    scopes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class MadeKey(KeyBody):
    key: str = Field(description="The credential itself; it is not shown again.")


def expiry(expires_in: int | None) -> float | None:
    """The time in `expires_in` seconds."""
    return None if expires_in is None else time.time() + expires_in


def made_key(record: KeyRecord, credential: str) -> MadeKey:
    """The answer with a new key, which is shown this once."""
    return MadeKey(**key_body(record).model_dump(), key=credential)


def key_body(record: KeyRecord) -> KeyBody:
    return KeyBody(
        id=record.id,
        name=record.name,
        scopes=sorted(record.scopes),
        created_at=rfc3339(record.created_at),
        expires_at=rfc3339_or_none(record.expires_at),
        revoked_at=rfc3339_or_none(record.revoked_at),
    )


def check_grant(principal: Principal, scopes: Iterable[str]) -> frozenset[str]:
    """The scopes as a set. Raises `Forbidden` for a scope that `principal` lacks."""
    wanted = frozenset(scopes)
    lacking = sorted(scope for scope in wanted if not principal.allows(scope))
    if lacking:
        raise Forbidden(
            f"your own credential lacks {', '.join(lacking)}, and nobody grants more than they"
            " have; ask with one that has it",
            details={"scopes": lacking},
        )
    return wanted
