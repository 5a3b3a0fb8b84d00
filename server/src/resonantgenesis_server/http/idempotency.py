"""Idempotency-Key on POSTs that make a resource: a repeat gets the first answer again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated

import orjson
from fastapi import Header
from pydantic import BaseModel
from starlette.responses import Response

from ..model.errors import ApiError, Conflict
from ..model.principal import Principal
from ..records.base import Idempotency, Remembered, RequestName

#: Seconds after which a request that was never answered no longer holds its key.
STALE_AFTER = 60.0

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Makes a repeat within 24 h safe: it gets the first answer again.",
    ),
]


class IdempotentPosts:
    """Runs each request once per organization, binding, route and key; without a key, always."""

    def __init__(self, store: Idempotency, window: float) -> None:
        self._store = store
        self._window = window

    async def run(
        self,
        principal: Principal,
        path: str,
        key: str | None,
        body: BaseModel,
        make: Callable[[], Awaitable[BaseModel]],
        *,
        shows_secret: bool = False,
    ) -> Response:
        """201 with what `make` returns, and its Location if it has an `id`.

        A refusal (an `ApiError` of `make`) does not use the key up. An answer that `shows_secret`
        is not kept, so its repeat is a `Conflict`, as is another body under the same key.
        """
        if key is None:
            return _created(path, _dump(await make()))
        name = RequestName(principal.organization_id, principal.idempotency_scope, path, key)
        fingerprint = _fingerprint(body)
        known = await self._store.claim(name, fingerprint, window=self._window, stale=STALE_AFTER)
        if known is not None:
            return _repeat(path, known, fingerprint)
        try:
            answer = _dump(await make())
        except ApiError:
            await self._store.release(name)
            raise
        await self._store.finish(name, 201, None if shows_secret else answer)
        return _created(path, answer)


def _repeat(path: str, known: Remembered, fingerprint: str) -> Response:
    if known.fingerprint != fingerprint:
        raise Conflict("this Idempotency-Key was used with another body")
    if known.status is None:
        raise Conflict("the first request with this Idempotency-Key is running", retry_after=1.0)
    if known.body is None:
        raise Conflict("this was done before, and its secret is shown only once")
    response = _created(path, known.body)
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _fingerprint(body: BaseModel) -> str:
    canonical = orjson.dumps(body.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _dump(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()


def _created(path: str, body: bytes) -> Response:
    response = Response(body, status_code=201, media_type="application/json")
    made = orjson.loads(body).get("id")
    if made is not None:
        response.headers["Location"] = f"{path}/{made}"
    return response
