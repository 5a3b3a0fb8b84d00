"""Idempotency-Key on POSTs that create a resource: a repeat gets the first answer again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import orjson
from fastapi import Header
from pydantic import BaseModel
from starlette.responses import Response

from ..model.errors import ApiError, Conflict
from ..model.ids import new_id
from ..model.principal import Principal
from ..records.base import KeyUsed, Once, Remembered, RequestName
from ..records.idempotency import IdempotencyRepository

T = TypeVar("T")

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


class Making:
    """The argument of `make`: uses up the request's key in the transaction of the new resource."""

    def __init__(
        self,
        store: IdempotencyRepository,
        name: RequestName | None,
        fingerprint: str,
        window: float,
    ) -> None:
        """`name` is None for a request without a key."""
        self.is_reserved = False
        self._store = store
        self._name = name
        self._fingerprint = fingerprint
        self._window = window

    def answering(self, body: Callable[[T], BaseModel]) -> Once[T] | None:
        """For the repository that creates the resource: makes the answer from the resource."""
        if self._name is None:
            return None
        return Once(
            self._name,
            self._fingerprint,
            self._window,
            render=lambda made: _dump(body(made)),
        )

    def showing_secret(self, thing: Callable[[T], str] | None = None) -> Once[T] | None:
        """Like `answering`, for an answer that must not be stored; `thing` gives the new id."""
        if self._name is None:
            return None
        return Once(self._name, self._fingerprint, self._window, thing=thing)

    async def remember(self) -> None:
        """Use the key up for a request that has stored nothing."""
        once: Once[None] | None = self.showing_secret()
        if once is not None:
            await self._store.remember(once, None)

    async def reserve(self, prefix: str) -> str:
        """The id for a resource outside of the records.

        Every repeat gets the same id until the request is answered. So an existing resource of that
        id was made under this key.
        """
        thing = new_id(prefix)
        if self._name is None:
            return thing
        self.is_reserved = True
        known = await self._store.reserve(self._name, self._fingerprint, thing, window=self._window)
        if known.status is not None or known.thing is None:
            raise KeyUsed(self._name.key)
        if known.fingerprint != self._fingerprint:
            raise _other_body()
        return known.thing


class IdempotentPosts:
    """Runs a request once per organization, binding, route and key. Without a key it always runs.

    After a crash or a failed store the key is free, or used up together with its resource. So a
    repeat makes nothing twice, and waits for no other request.
    """

    def __init__(self, store: IdempotencyRepository, window: float) -> None:
        self._store = store
        self._window = window
        #: Requests of this process that run now.
        self._running: set[RequestName] = set()

    async def run(
        self,
        principal: Principal,
        path: str,
        key: str | None,
        body: BaseModel,
        make: Callable[[Making], Awaitable[BaseModel]],
    ) -> Response:
        """Return 201 with the result of `make`, and its Location if it has an `id`.

        A refusal (an `ApiError` of `make`) does not use the key up. Raises `Conflict` for another
        body under the same key, and for the repeat of a request that showed a secret.
        """
        fingerprint = _fingerprint(body)
        if key is None:
            free = Making(self._store, None, fingerprint, self._window)
            return _created(path, _dump(await make(free)))
        name = RequestName(principal.organization_id, principal.idempotency_scope, path, key)
        if name in self._running:
            raise Conflict(
                "the first request with this Idempotency-Key is running", retry_after=1.0
            )
        self._running.add(name)
        try:
            return await self._run(path, name, fingerprint, make)
        finally:
            self._running.discard(name)

    async def _run(
        self,
        path: str,
        name: RequestName,
        fingerprint: str,
        make: Callable[[Making], Awaitable[BaseModel]],
    ) -> Response:
        known = await self._store.get(name, window=self._window)
        if known is not None and known.status is not None:
            return _repeat(path, known, fingerprint)
        making = Making(self._store, name, fingerprint, self._window)
        try:
            answer = _dump(await make(making))
        except KeyUsed:  # by another process that shares the store
            known = await self._store.get(name, window=self._window)
            if known is None or known.status is None:
                raise Conflict("the Idempotency-Key is in use", retry_after=1.0) from None
            return _repeat(path, known, fingerprint)
        except ApiError:
            if making.is_reserved:
                await self._store.release(name)
            raise
        if making.is_reserved:
            await self._store.finish(name, 201, answer)
        return _created(path, answer)


def _repeat(path: str, known: Remembered, fingerprint: str) -> Response:
    if known.fingerprint != fingerprint:
        raise _other_body()
    if known.body is None:
        if known.thing is None:
            raise Conflict("this was done before, and its secret is shown only once")
        raise Conflict(
            f"this was done before and made {known.thing}, whose secret is shown only once; if it"
            " never reached you, revoke that key, or make another one in that organization",
            details={"id": known.thing},
        )
    response = _created(path, known.body)
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _other_body() -> Conflict:
    return Conflict("this Idempotency-Key was used with another body")


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
