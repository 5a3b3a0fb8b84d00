"""`/healthz` and `/livez`: the process answers. `/readyz`: the server takes requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ...model.errors import Unavailable
from ..errors import only_errors
from ..routing import api_router

#: The check of `/readyz`: None when ready, else the reason.
Ready = Callable[[], Awaitable[str | None]]
READY_TIMEOUT = 2.0


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(Health):
    durability: str = Field(description="What a commit survives, for people.")


def health_router(
    is_draining: Callable[[], bool], ready: Ready, durability: Callable[[], str]
) -> APIRouter:
    router = api_router(tag="operations")

    @router.head("/livez", include_in_schema=False)
    @router.get("/livez", responses=only_errors(500), operation_id="livez")
    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", responses=only_errors(500), operation_id="healthz")
    async def healthz() -> Health:
        """The process is alive."""
        return Health()

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses=only_errors(500, 503), operation_id="readyz")
    async def readyz() -> Readiness:
        """The server takes requests."""
        if is_draining():
            raise Unavailable("the server is draining", retry_after=1.0)
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                reason = await ready()
        except TimeoutError:
            reason = "a store does not answer"
        if reason is not None:
            raise Unavailable(reason, retry_after=1.0)
        return Readiness(durability=durability())

    return router
