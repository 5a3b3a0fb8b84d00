"""The caller of a request that changes something, for the events of the change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from ..model.principal import Principal
from ..records.base import Actor


def actor_of(request: Request) -> Actor:
    """The caller; its credential was checked before."""
    principal: Principal = request.state.principal
    address = None if request.client is None else request.client.host
    return Actor(
        principal.key_id,
        request.state.request_id,
        principal.subject,
        principal.organization_id,
        address,
    )


async def _acting(request: Request) -> AsyncIterator[Actor]:
    yield actor_of(request)
    await request.app.state.settle()


#: The caller. Behind the answer the events of the change are brought to the log.
Acting = Annotated[Actor, Depends(_acting)]
