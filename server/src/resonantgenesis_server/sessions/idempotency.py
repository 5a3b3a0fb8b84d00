"""Idempotency-Keys of execute: the same key names the same turn.

A key is claimed before its turn is recorded. After a crash in between, the key names a turn that
does not exist. So the turn's own record decides: a key that the record does not carry is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, replace

import orjson

from ..codec.json import dumps
from ..log.base import IdempotencyKeys
from ..model.errors import Conflict, InvalidRequest
from ..model.principal import Principal
from .ownership import Ownership
from .state import SessionState

_MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Claim:
    """The turn that an Idempotency-Key names."""

    session_id: str
    turn: int
    fingerprint: str
    #: The node that claimed the key.
    node: int = 0


class KeyTaken(Conflict):
    """Another request with this Idempotency-Key is under way, perhaps at another node."""

    def __init__(self) -> None:
        super().__init__("another request with this Idempotency-Key is under way")


def check_key(key: str) -> str:
    """Raises InvalidRequest for a key that is empty, too long or not printable ASCII."""
    if not 1 <= len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
        raise InvalidRequest.field("Idempotency-Key", f"1 to {_MAX_KEY} printable ASCII characters")
    return key


class TurnIdempotency:
    """Idempotency-Keys of one store; each organization and each bound token has its own."""

    def __init__(
        self,
        keys: IdempotencyKeys,
        load: Callable[[str], Awaitable[SessionState | None]],
        ownership: Ownership,
        *,
        window: float,
    ) -> None:
        """`load` gives a session's current state. Keys are kept `window` seconds."""
        self._ownership = ownership
        self._keys = keys
        self._load = load
        self._window = window
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def alone(self, principal: Principal, key: str) -> AsyncIterator[None]:
        """One request at a time per key, so that a repeat waits for the first one's outcome."""
        name = f"{_scope(principal)}\0{key}"
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[name][1] - 1
            if users:
                self._locks[name] = (lock, users)
            else:
                del self._locks[name]

    async def find(self, principal: Principal, key: str) -> Claim | None:
        """The turn that the key names, if it exists. Raises KeyTaken while another node is about to
        record it."""
        value = await self._keys.lookup(_scope(principal), key)
        if value is None:
            return None
        claim = Claim(**orjson.loads(value))
        state = await self._load(claim.session_id)
        turn = None if state is None else state.turn(claim.turn)
        if turn is None or turn.key != key_digest(key):
            if self._ownership.lives(claim.node):
                raise KeyTaken
            await self._keys.release(_scope(principal), key)
            return None
        return claim

    async def claim(self, principal: Principal, key: str, claim: Claim) -> None:
        """Durably give the key to a turn about to be recorded. Raises KeyTaken."""
        value = dumps(asdict(replace(claim, node=self._ownership.node)))
        existing = await self._keys.claim(_scope(principal), key, value, ttl=self._window)
        if existing is not None and existing != value:
            raise KeyTaken

    async def release(self, principal: Principal, key: str) -> None:
        """The turn was refused: the key is free again."""
        await self._keys.release(_scope(principal), key)


def key_digest(key: str) -> str:
    """How a turn's record carries its key."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _scope(principal: Principal) -> str:
    return f"{principal.organization_id}\0{principal.idempotency_scope}"
