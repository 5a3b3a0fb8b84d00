"""Scopes in request bodies, and the rule that nobody grants more than they have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ...model.errors import Forbidden
from ...model.principal import SCOPES, Principal


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


def check_grant(principal: Principal, scopes: Iterable[str]) -> frozenset[str]:
    """The scopes as a set. Raises `Forbidden` for one that `principal` lacks."""
    wanted = frozenset(scopes)
    lacking = sorted(scope for scope in wanted if not principal.allows(scope))
    if lacking:
        raise Forbidden(
            f"your own credential lacks {', '.join(lacking)}, and nobody grants more than they"
            " have; ask with one that has it",
            details={"scopes": lacking},
        )
    return wanted
