"""IdempotencyKeys: first come, first served; durable; forgotten in time."""

from __future__ import annotations

import asyncio

import pytest

from .support import PATIENCE, Backend, Store

pytestmark = pytest.mark.anyio


async def test_the_first_claim_stands(store: Store) -> None:
    assert await store.lookup("o", "k") is None
    assert await store.claim("o", "k", b"first", ttl=60) is None
    assert await store.claim("o", "k", b"second", ttl=60) == b"first"
    assert await store.lookup("o", "k") == b"first"


async def test_of_many_claims_at_once_one_takes(store: Store) -> None:
    values = [f"v{n}".encode() for n in range(30)]
    answers = await asyncio.gather(*(store.claim("o", "k", v, ttl=60) for v in values))
    assert answers.count(None) == 1
    winner = values[answers.index(None)]
    assert set(answers) == {None, winner}
    assert await store.lookup("o", "k") == winner


async def test_scopes_are_apart(store: Store) -> None:
    for scope in ("o", "o/subject", "p", "Ω"):
        assert await store.claim(scope, "k", scope.encode(), ttl=60) is None
    for scope in ("o", "o/subject", "p", "Ω"):
        assert await store.lookup(scope, "k") == scope.encode()
    assert await store.claim("o/subject/k", "", b"x", ttl=60) is None


async def test_a_claim_is_durable_on_return(backend: Backend) -> None:
    store = await backend.open()
    await store.claim("o", "k", bytes(range(256)), ttl=60)
    other = await backend.open()
    assert await other.lookup("o", "k") == bytes(range(256))
    await other.close()
    await store.close()
    store = await backend.open()
    assert await store.claim("o", "k", b"again", ttl=60) == bytes(range(256))
    await store.close()


async def test_a_released_key_is_free(store: Store) -> None:
    await store.claim("o", "k", b"1", ttl=60)
    await store.claim("o", "other", b"1", ttl=60)
    await store.release("o", "k")
    assert await store.lookup("o", "k") is None
    assert await store.claim("o", "k", b"2", ttl=60) is None
    assert await store.lookup("o", "k") == b"2"
    assert await store.lookup("o", "other") == b"1"
    await store.release("o", "never claimed")


async def test_a_key_is_forgotten_after_its_time_and_no_other(store: Store) -> None:
    assert await store.claim("o", "long", b"1", ttl=3600) is None
    assert await store.claim("o", "short", b"1", ttl=0.05) is None
    async with asyncio.timeout(PATIENCE):
        while await store.lookup("o", "short") is not None:
            await asyncio.sleep(0.005)
    assert await store.claim("o", "short", b"2", ttl=3600) is None
    assert await store.lookup("o", "short") == b"2"
    assert await store.lookup("o", "long") == b"1"


async def test_a_refused_claim_does_not_prolong(store: Store) -> None:
    assert await store.claim("o", "k", b"1", ttl=0.05) is None
    async with asyncio.timeout(PATIENCE):
        while await store.claim("o", "k", b"2", ttl=3600) is not None:
            await asyncio.sleep(0.005)
    assert await store.lookup("o", "k") == b"2"
