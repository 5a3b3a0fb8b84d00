"""The keys that sign tokens change while the server runs."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from http_harness import Service, bearer, status
from resonantgenesis_server.http.auth.authenticator import open_authenticator
from resonantgenesis_server.http.auth.signing import MAX_FORMER, MAX_TOKEN_LIFE
from resonantgenesis_server.model.errors import Unauthenticated

pytestmark = pytest.mark.anyio


async def rotate(service: Service, **body: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/tokens/rotate", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_old_tokens_stay_valid_and_new_ones_have_the_new_key(service: Service) -> None:
    tokens = [await service.make_token()]
    for former in (1, 2, 3):
        made = await rotate(service)
        assert made["former"] == former
        tokens.append(await service.make_token())
        assert kid(tokens[-1]) == made["id"]
    assert len({kid(token) for token in tokens}) == 4
    assert [await status(service, bearer(token)) for token in tokens] == [200] * 4
    # Each under its own key only.
    mixed = ".".join([*tokens[0].split(".")[:2], tokens[1].split(".")[2]])
    assert await status(service, bearer(mixed)) == 401


async def test_a_key_goes_when_no_token_of_it_can_be_left(service: Service) -> None:
    first = await service.make_token(ttl_seconds=MAX_TOKEN_LIFE)
    await rotate(service)
    service.clock.ahead += MAX_TOKEN_LIFE - 60
    assert (await rotate(service))["former"] == 2
    assert await status(service, bearer(first)) == 200
    service.clock.ahead += 3_600
    # The first was replaced a day ago; the second only an hour ago.
    assert (await rotate(service))["former"] == 2
    assert await status(service, bearer(first)) == 401


async def test_former_keys_are_bounded_and_none_is_given_up_for_it(service: Service) -> None:
    first = await service.make_token()
    for former in range(1, MAX_FORMER + 1):
        assert (await rotate(service))["former"] == former
    answer = await service.client.post("/v1/tokens/rotate", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")
    assert "end_tokens" in answer.json()["error"]["message"]
    assert await status(service, bearer(first)) == 200
    assert (await rotate(service, end_tokens=True))["former"] == 0


async def test_all_tokens_can_be_ended_at_once(service: Service) -> None:
    token = await service.make_token()
    principal = await service.authenticator.verify(token)
    key = await service.authenticator.verify(service.key)
    await service.authenticator.recheck(principal)
    await rotate(service, end_tokens=True)
    assert await status(service, bearer(token)) == 401
    with pytest.raises(Unauthenticated):  # what ends the streams that are open
        await service.authenticator.recheck(principal)
    await service.authenticator.recheck(key)
    assert await status(service, bearer(await service.make_token())) == 200
    assert await status(service, bearer(service.key)) == 200


async def test_other_processes_follow(service: Service) -> None:
    other = open_authenticator(service.records.keys, service.records.secrets, service.hasher)
    old = await service.make_token()
    assert (await other.verify(old)).key_id == service.key_id
    await rotate(service)
    # At once for a token that names a key it does not know yet.
    fresh = await service.make_token()
    principal = await other.verify(fresh)
    assert principal.signed_by == kid(fresh)
    assert kid(await other.sign(principal, now=time.time())) == kid(fresh)
    await rotate(service, end_tokens=True)
    late = open_authenticator(service.records.keys, service.records.secrets, service.hasher)
    for token in (old, fresh):
        with pytest.raises(Unauthenticated):
            await late.verify(token)


async def test_another_process_ends_tokens_within_a_second(service: Service) -> None:
    other = open_authenticator(service.records.keys, service.records.secrets, service.hasher)
    token = await service.make_token()
    assert await status(service, bearer(token)) == 200
    await other.rotate(end_tokens=True)
    service.clock.ahead += 1.001
    assert await status(service, bearer(token)) == 401


async def test_the_signing_keys_are_not_in_the_records(service: Service) -> None:
    """What is there is only a half of each; the other is the server's secret."""
    await rotate(service)
    kept = [version.value for version in await service.records.secrets.versions("token-signing")]
    signer = await service.signing.signer()
    assert len(kept) == 2 and not set(kept) & set(signer._keys.values())
