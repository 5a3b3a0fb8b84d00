"""Who gets in: keys, client tokens, the cookie; who does not, and how soon."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from http_harness import Service, bearer, status
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.http.auth.authenticator import (
    KEY_CACHE,
    CredentialAuthenticator,
    open_authenticator,
    require,
)
from resonantgenesis_server.http.auth.signing import SigningKey, SigningKeys, TokenSigner
from resonantgenesis_server.model.errors import Forbidden, Unauthenticated
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.records.base import KeyRecord, SecretVersion, StoreUnusable
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets
from starlette.types import Scope

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer   "])
async def test_the_scheme_is_read_in_any_case(service: Service, scheme: str) -> None:
    assert await status(service, {"Authorization": f"{scheme} {service.key}"}) == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer rg_test_bootstrap_kez",
        "Bearer rg_test_bootstrap_key x",
        "rg_test_bootstrap_key",
        "Basic cmdfdGVzdF9ib290c3RyYXBfa2V5",
        "Token rg_test_bootstrap_key",
        "Bearer " + "x" * 9_000,
        "Bearer a.b.c",
        "Bearer ..",
    ],
)
async def test_a_bad_credential_is_refused(service: Service, value: str) -> None:
    assert await status(service, {"Authorization": value}) == 401


async def test_no_credential_is_refused(service: Service) -> None:
    assert await status(service, {}) == 401


@given(value=st.binary(max_size=40))
async def test_no_header_breaks_the_check(value: bytes) -> None:
    """Whatever bytes come, the answer is yes or Unauthenticated."""

    class NoKeys:
        async def find_by_hash(self, hash: str) -> None:
            return None

    class KeptSecrets:
        async def versions(self, name: str) -> list[SecretVersion]:
            return [SecretVersion(b"k" * 32, 0.0)]

    authenticator = CredentialAuthenticator(
        NoKeys(),  # type: ignore[arg-type]
        CredentialHasher(b"s" * 32),
        SigningKeys(KeptSecrets(), CredentialHasher(b"s" * 32)),  # type: ignore[arg-type]
    )
    scope = {"type": "http", "path": "/v1/x", "method": "GET", "headers": []}
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(
            {**scope, "headers": [(b"authorization", b"Bearer " + value)]}
        )
    assert await authenticator.authenticate({**scope, "headers": [(b"cookie", value)]}) is None


async def test_a_credential_in_the_url_is_never_read(service: Service) -> None:
    for name in ("token", "access_token", "api_key", "key", "authorization"):
        assert await status(service, {}, f"/v1/agents?{name}={service.key}") == 401


async def test_a_revoked_key_and_its_tokens_are_refused_at_once(service: Service) -> None:
    made = await service.client.post("/v1/keys", json={"name": "k", "scopes": ["*"]})
    key, key_id = made.json()["key"], made.json()["id"]
    answer = await service.client.post("/v1/tokens", json={"scopes": ["*"]}, headers=bearer(key))
    token = answer.json()["token"]
    assert await status(service, bearer(key)) == await status(service, bearer(token)) == 200
    assert (await service.client.delete(f"/v1/keys/{key_id}")).status_code == 204
    assert await status(service, bearer(key)) == await status(service, bearer(token)) == 401


async def test_a_key_revoked_elsewhere_is_refused_within_a_second(service: Service) -> None:
    key = await service.make_key("*")
    token = (
        await service.client.post("/v1/tokens", json={"scopes": ["*"]}, headers=bearer(key))
    ).json()["token"]
    principal = await service.authenticator.verify(token)
    assert await status(service, bearer(key)) == 200
    # Another process writes to the same records: this one cannot know at once.
    await service.records.keys.revoke(service.organization_id, principal.key_id)
    service.clock.ahead += 1.001
    assert await status(service, bearer(key)) == await status(service, bearer(token)) == 401
    with pytest.raises(Unauthenticated):
        await service.authenticator.recheck(principal)


async def test_refreshed_keys_are_remembered_on(service: Service) -> None:
    """Whoever comes with one of them needs no look into the records; a revocation elsewhere counts
    from the next refresh."""
    authenticator = service.authenticator
    token = await service.make_token(ttl_seconds=60)
    scopes = [
        {"type": "http", "headers": [(b"authorization", f"Bearer {credential}".encode())]}
        for credential in (service.key, token)
    ]

    async def remembered(scope: Scope) -> bool:
        """Whether the credential is good, and no records are asked: nothing is waited for."""
        task = asyncio.create_task(authenticator.authenticate(scope))
        await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            return False
        return task.exception() is None

    for _ in range(5):
        await authenticator.refresh([service.key_id, "key_none"])
        assert [await remembered(scope) for scope in scopes] == [True, True]
        service.clock.ahead += 0.5
        assert [await remembered(scope) for scope in scopes] == [True, True]
    service.clock.ahead += 0.6
    assert [await remembered(scope) for scope in scopes] == [False, False]
    await authenticator.refresh([service.key_id])
    await service.records.keys.revoke(service.organization_id, service.key_id)
    service.clock.ahead += 0.5
    await authenticator.refresh([service.key_id])
    assert [await remembered(scope) for scope in scopes] == [False, False]


async def test_recheck_tells_what_ended(service: Service) -> None:
    token = await service.make_token(ttl_seconds=10)
    principal = await service.authenticator.verify(token)
    await service.authenticator.recheck(principal)
    await service.authenticator.recheck(Principal("org", service.key_id, frozenset()))
    service.clock.ahead += 10.5
    with pytest.raises(Unauthenticated):
        await service.authenticator.recheck(principal)
    with pytest.raises(Unauthenticated):
        await service.authenticator.recheck(Principal("org", "key_none", frozenset()))


async def test_an_expired_key_is_refused_even_while_remembered(service: Service) -> None:
    made = await service.client.post(
        "/v1/keys", json={"name": "k", "scopes": ["*"], "expires_in": 60}
    )
    key = made.json()["key"]
    service.clock.ahead += 59
    assert await status(service, bearer(key)) == 200
    service.clock.ahead += 1.5
    assert await status(service, bearer(key)) == 401


async def test_the_memory_of_keys_is_bounded(service: Service) -> None:
    cache = service.authenticator._by_hash
    record = await service.records.keys.find(service.key_id)
    assert record is not None
    for number in range(KEY_CACHE + 10):
        cache.put(str(number), record, service.clock.monotonic())
    assert cache.get("0") is None
    assert cache.get(str(KEY_CACHE + 9)) == record
    assert len(cache._entries) == KEY_CACHE


async def test_a_token_carries_what_it_was_made_for(service: Service) -> None:
    token = await service.make_token(
        scopes=["sessions:read"],
        subject="ann",
        session_id="sess_1",
        agent_id="guide",
        ttl_seconds=60,
    )
    principal = await service.authenticator.verify(token)
    assert principal.expires_at is not None
    assert abs(principal.expires_at - service.clock() - 60) < 5
    signer = await service.signing.signer()
    assert principal == Principal(
        service.organization_id,
        service.key_id,
        frozenset({"sessions:read"}),
        subject="ann",
        session_id="sess_1",
        agent_id="guide",
        expires_at=principal.expires_at,
        signed_by=signer.current_id,
    )


async def test_a_token_ends_with_its_time(service: Service) -> None:
    token = await service.make_token(ttl_seconds=5)
    service.clock.ahead += 4
    assert await status(service, bearer(token)) == 200
    service.clock.ahead += 2
    assert await status(service, bearer(token)) == 401


def forge(service: Service, **changes: Any) -> dict[str, Any]:
    return {
        "org": service.organization_id,
        "key": service.key_id,
        "scopes": ["*"],
        "exp": service.clock() + 60,
        "jti": "tok_1",
        **changes,
    }


async def test_forged_tokens_are_refused(service: Service) -> None:
    kid = jwt.get_unverified_header(await service.make_token())["kid"]
    secret = (await service.signing.signer())._current.value
    headers = {"kid": kid}

    def unsigned(alg: str) -> str:
        parts = [{"alg": alg, "kid": kid, "typ": "JWT"}, forge(service)]
        encoded = [base64.urlsafe_b64encode(orjson.dumps(p)).rstrip(b"=") for p in parts]
        return b".".join([*encoded, b""]).decode()

    good = jwt.encode(forge(service), secret, "HS256", headers)
    assert await status(service, bearer(good)) == 200
    body = good.split(".")
    forged = [
        jwt.encode(forge(service), b"x" * 32, "HS256", headers),
        jwt.encode(forge(service), secret, "HS256", {"kid": "other"}),
        jwt.encode(forge(service), secret, "HS256"),
        jwt.encode(forge(service), secret * 2, "HS384", headers),
        jwt.encode(forge(service, exp=service.clock() - 1), secret, "HS256", headers),
        jwt.encode(forge(service, key="key_none"), secret, "HS256", headers),
        jwt.encode(forge(service, org="org_none"), secret, "HS256", headers),
        *(
            jwt.encode(
                {k: v for k, v in forge(service).items() if k != left_out},
                secret,
                "HS256",
                headers,
            )
            for left_out in ("exp", "org", "key", "scopes", "jti")
        ),
        unsigned("none"),
        unsigned("HS256"),
        f"{body[0]}.{body[1]}.{body[2][:-4]}AAAA",
        f"{body[0]}.{body[1][:-4]}AAAA.{body[2]}",
        good + ".x",
    ]
    assert [await status(service, bearer(token)) for token in forged] == [401] * len(forged)


async def test_scopes_that_a_token_invents_grant_nothing(service: Service) -> None:
    signer = await service.signing.signer()
    headers = {"kid": signer.current_id}
    claims = forge(service, scopes=["agents:read", "root"])
    token = jwt.encode(claims, signer._current.value, "HS256", headers)
    assert (await service.authenticator.verify(token)).scopes == {"agents:read"}


def test_a_former_signing_key_still_reads() -> None:
    old, new = SigningKey.of(b"o" * 32), SigningKey.of(b"n" * 32)
    principal = Principal("org", "key", frozenset({"*"}), expires_at=100.0)
    token = TokenSigner(old).sign(principal, now=0.0)
    assert TokenSigner(new, old).read(token, now=99.9) == replace(principal, signed_by=old.id)
    assert TokenSigner(new, old).read(token, now=100.0) is None
    assert TokenSigner(new).read(token, now=0.0) is None
    assert TokenSigner(new, old).sign(principal, now=0.0) != token
    with pytest.raises(ValueError):
        TokenSigner(new).sign(Principal("org", "key", frozenset()), now=0.0)


async def test_a_key_with_dots_is_a_key(service: Service) -> None:
    await service.records.keys.create(
        service.organization_id,
        name="dots",
        hash=service.hasher.hash("my.own.key-of-mine"),
        scopes=frozenset({"agents:read"}),
    )
    assert await status(service, bearer("my.own.key-of-mine")) == 200


async def test_processes_that_share_store_and_secret_share_tokens(
    service: Service, tmp_path: Path
) -> None:
    one = open_authenticator(service.records.keys, service.records.secrets, service.hasher)
    two = open_authenticator(
        service.records.keys,
        service.records.secrets,
        CredentialHasher(*load_secrets(tmp_path / "secret")),
    )
    stolen = open_authenticator(
        service.records.keys, service.records.secrets, CredentialHasher(b"?" * 32)
    )
    principal = Principal(
        service.organization_id, service.key_id, frozenset({"*"}), expires_at=time.time() + 60
    )
    token = await one.sign(principal, now=time.time())
    assert replace(await two.verify(token), signed_by=None) == principal
    with pytest.raises(Unauthenticated):
        await one.verify(await stolen.sign(principal, now=time.time()))


def test_a_missing_scope_is_forbidden() -> None:
    require(Principal("o", "k", frozenset({"*"})), "sessions:write")
    require(Principal("o", "k", frozenset({"sessions:write"})), "sessions:write")
    with pytest.raises(
        Forbidden, match=r"lacks the scope sessions:write; use .*/v1/keys"
    ) as raised:
        require(Principal("o", "k", frozenset({"sessions:read"})), "sessions:write")
    assert raised.value.details == {"scope": "sessions:write"}


KEY = KeyRecord("key_1", "org_1", "k", CredentialHasher(b"s" * 32).hash("secret"), frozenset(), 0.0)


class HeldKeys:
    """One key in records that answer when `go` is set; `reads` counts the questions."""

    def __init__(self) -> None:
        self.reads = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self.fails = False
        self.key = KEY

    async def find_by_hash(self, hash: str) -> KeyRecord | None:
        return await self._answer(self.key if hash == self.key.hash else None)

    async def find(self, key_id: str) -> KeyRecord | None:
        return await self._answer(self.key if key_id == self.key.id else None)

    async def _answer(self, key: KeyRecord | None) -> KeyRecord | None:
        self.reads += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails:
            raise StoreUnusable("the disk is away")
        return key


class HeldStore:
    """An authenticator over such records. Requests come with the key, or with a token of it."""

    def __init__(self) -> None:
        self.keys = HeldKeys()
        self.now = 100.0
        hasher = CredentialHasher(b"s" * 32)

        class KeptSecrets:
            async def versions(self, name: str) -> list[SecretVersion]:
                return [SecretVersion(b"k" * 32, 0.0)]

        self.authenticator = CredentialAuthenticator(
            self.keys,  # type: ignore[arg-type]
            hasher,
            SigningKeys(KeptSecrets(), hasher),  # type: ignore[arg-type]
            monotonic=lambda: self.now,
        )

    async def credential(self, kind: str) -> str:
        if kind == "key":
            return "secret"
        holder = Principal("org_1", "key_1", frozenset({"*"}), expires_at=time.time() + 60)
        return await self.authenticator.sign(holder, now=time.time())

    async def ask(self, credential: str, count: int = 1) -> list[asyncio.Task[Principal]]:
        """So many requests, all of which wait for the records."""
        tasks = [asyncio.create_task(self.authenticator.verify(credential)) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        return tasks


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_requests_that_wait_for_one_key_share_one_read(kind: str) -> None:
    store = HeldStore()
    credential = await store.credential(kind)
    first, *others = await store.ask(credential, 50)
    assert store.keys.reads == 1
    # The request that began the read leaves, and the others do not notice.
    first.cancel()
    await asyncio.wait({first})
    others += await store.ask(credential, 3)
    store.keys.go.set()
    assert {principal.key_id for principal in await asyncio.gather(*others)} == {"key_1"}
    assert first.cancelled()
    await store.authenticator.verify(credential)  # from memory
    assert (store.keys.reads, store.keys.cancelled) == (1, 0)


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_a_read_that_fails_fails_its_own_requests_alone(kind: str) -> None:
    store = HeldStore()
    credential = await store.credential(kind)
    waiting = await store.ask(credential, 3)
    store.keys.fails = True
    store.keys.go.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [StoreUnusable] * 3
    store.keys.fails = False
    assert (await store.authenticator.verify(credential)).key_id == "key_1"
    assert store.keys.reads == 2


async def test_a_read_that_nobody_waits_for_is_cancelled() -> None:
    store = HeldStore()
    for task in (left := await store.ask("secret", 2)):
        task.cancel()
    await asyncio.wait(left)
    waiting = await store.ask("secret")  # not for the one that is cancelled
    assert (store.keys.reads, store.keys.cancelled) == (2, 1)
    store.keys.go.set()
    assert (await waiting[0]).key_id == "key_1"


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_a_read_from_before_a_revocation_is_neither_shared_nor_kept(kind: str) -> None:
    store = HeldStore()
    credential = await store.credential(kind)
    before = await store.ask(credential)
    store.authenticator.forget()
    after = await store.ask(credential)
    assert store.keys.reads == 2
    store.keys.go.set()
    await asyncio.gather(*before, *after)
    store.authenticator.forget()
    store.keys.go.clear()
    before = await store.ask(credential)
    store.authenticator.forget()
    store.keys.go.set()
    await asyncio.gather(*before)
    store.keys.key = replace(KEY, revoked_at=1.0)
    with pytest.raises(Unauthenticated):
        await store.authenticator.verify(credential)


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_a_slow_read_makes_no_revoked_key_live_longer(kind: str) -> None:
    """A read tells how the key was when the read began."""
    store = HeldStore()
    credential = await store.credential(kind)
    slow = await store.ask(credential)
    store.now += 0.9
    slow += await store.ask(credential)
    assert store.keys.reads == 1
    store.now += 0.2  # more than a second: a new request must not wait for that read
    late = await store.ask(credential)
    assert store.keys.reads == 2
    store.keys.go.set()
    await asyncio.gather(*slow, *late)
    store.now += 0.9
    await store.authenticator.verify(credential)
    store.now += 0.2
    store.keys.key = replace(KEY, revoked_at=1.0)
    with pytest.raises(Unauthenticated):
        await store.authenticator.verify(credential)
