"""Client tokens: signed claims that need no row in the records."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...model.errors import Conflict
from ...model.ids import new_id
from ...model.imports import imported
from ...model.principal import SCOPES, Principal
from ...records.credentials import CredentialHasher, ServerSecret
from ...records.secrets import SecretRepository

#: The library, which few servers need: keys of the API are no tokens.
_JWT = "jwt"
_ALGORITHM = "HS256"
_REQUIRED = ["org", "key", "scopes", "exp", "jti"]


def _jwt() -> Any:
    return importlib.import_module(_JWT)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A signing key. `id` is the `kid` of its tokens."""

    id: str
    value: bytes

    @classmethod
    def of(cls, value: bytes) -> SigningKey:
        """The key, with an id that is derived from it and does not reveal it."""
        return cls(hashlib.sha256(b"kid\0" + value).hexdigest()[:12], value)


class TokenSigner:
    """Signs tokens with the current key; verifies tokens of the current and the former keys."""

    def __init__(self, current: SigningKey, *former: SigningKey) -> None:
        self._current = current
        self._keys = {key.id: key.value for key in (current, *former)}

    def sign(self, principal: Principal, *, now: float) -> str:
        """A token for `principal`, whose `expires_at` must be set."""
        if principal.expires_at is None:
            raise ValueError("a client token must expire")
        claims: dict[str, Any] = {
            "org": principal.organization_id,
            "key": principal.key_id,
            "scopes": sorted(principal.scopes),
            "iat": int(now),
            "exp": principal.expires_at,
            "jti": new_id("tok"),
        }
        for name, value in (
            ("sub", principal.subject),
            ("sid", principal.session_id),
            ("aid", principal.agent_id),
            ("renew", principal.renewable_until),
        ):
            if value is not None:
                claims[name] = value
        headers = {"kid": self._current.id}
        token: str = _jwt().encode(
            claims, self._current.value, algorithm=_ALGORITHM, headers=headers
        )
        return token

    @property
    def current_id(self) -> str:
        """The `kid` of new tokens."""
        return self._current.id

    def has(self, key_id: str) -> bool:
        """Whether it verifies tokens of the signing key with this id."""
        return key_id in self._keys

    def is_ours(self, credential: str) -> bool:
        """Whether the credential names one of our signing keys, so that it must be a token.

        An API key that an operator chose may have the form of a token.
        """
        return self._key_of(credential) is not None

    def read(self, token: str, *, now: float) -> Principal | None:
        """The principal of a token; None if it is forged, malformed or expired at `now`."""
        key_id = self._key_of(token)
        if key_id is None:
            return None
        try:
            claims = _jwt().decode(
                token,
                self._keys[key_id],
                algorithms=[_ALGORITHM],
                # The expiry is compared below, with the caller's clock.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
        except _jwt().InvalidTokenError:
            return None
        if now >= claims["exp"]:
            return None
        return Principal(
            organization_id=claims["org"],
            key_id=claims["key"],
            scopes=frozenset(claims["scopes"]) & SCOPES,
            subject=claims.get("sub"),
            session_id=claims.get("sid"),
            agent_id=claims.get("aid"),
            expires_at=float(claims["exp"]),
            signed_by=key_id,
            renewable_until=claims.get("renew"),
        )

    def _key_of(self, credential: str) -> str | None:
        if not may_be_token(credential):
            return None
        try:
            header = _jwt().get_unverified_header(credential)
        except _jwt().InvalidTokenError:
            return None
        kid = header.get("kid")
        return kid if isinstance(kid, str) and kid in self._keys else None


def may_be_token(credential: str) -> bool:
    """Whether the credential has the form of a signed token."""
    return credential.count(".") == 2


#: The longest life of a token, in seconds.
MAX_TOKEN_LIFE = 86_400
#: Most former keys. Each is kept until the last token that it can have signed has expired.
MAX_FORMER = 16
#: Seconds that a former key is kept longer, since the clocks of nodes differ.
_MARGIN = 300
#: Seconds that the keys are valid without a look into the records.
_TTL = 1.0
_SECRET, _PURPOSE = "token-signing", "client-tokens"


@dataclass(frozen=True, slots=True)
class Rotated:
    """The new key's id and time, and the number of former keys that still verify tokens."""

    id: str
    created_at: float
    former: int


class SigningKeys:
    """The signing keys in the records.

    A key is derived from a random value, which the nodes share through the records, and from a
    secret of `hasher`. A copy of one of them alone forges nothing. The current secret signs; all
    that are readable verify. Every method may raise
    `StoreUnusable`.
    """

    def __init__(
        self,
        secrets: SecretRepository,
        hasher: CredentialHasher,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = secrets
        self._hasher = hasher
        self._monotonic = monotonic
        self._signer: TokenSigner | None = None
        self._until = 0.0
        #: The secret that signs, as it was when the keys were read.
        self._secret: ServerSecret | None = None
        self._loading = asyncio.Lock()

    def remembered(self, seconds: float = 0.0) -> TokenSigner | None:
        """The keys as they were within the last second, if that will be known for so many more."""
        is_known = self._monotonic() + seconds < self._until
        return self._signer if is_known and self._secret is self._hasher.current else None

    async def signer(self, seconds: float = 0.0) -> TokenSigner:
        """The keys, at most a second old, which stay in memory for `seconds` more."""
        known = self.remembered(seconds)
        if known is not None:
            return known
        async with self._loading:  # one read for all that wait
            return self.remembered(seconds) or await self._load()

    async def signer_for(self, token: str) -> TokenSigner:
        """Like `signer`; reads anew for a token that another node may have signed."""
        await imported(_JWT)
        signer = await self.signer()
        return signer if signer.is_ours(token) else await self._reload()

    async def rotate(self, *, end_tokens: bool) -> Rotated:
        """Sign with a new key from now on.

        Existing tokens stay valid until they expire. With `end_tokens` all of them end, on every
        node within a second. Raises `Conflict` while MAX_FORMER former keys are still needed.
        """
        keep = 0 if end_tokens else MAX_TOKEN_LIFE + _MARGIN
        try:
            made = await self._secrets.renew(_SECRET, keep=keep, most=MAX_FORMER)
        except Conflict:
            raise Conflict(
                f"tokens of {MAX_FORMER} former signing keys may still be in use; wait until the"
                " oldest have expired, or end them all with end_tokens"
            ) from None
        await self._reload()
        versions = await self._secrets.versions(_SECRET)
        key = _key(self._hasher.current, made.value)
        return Rotated(key.id, made.created_at, len(versions) - 1)

    async def _reload(self) -> TokenSigner:
        async with self._loading:
            return await self._load()

    async def _load(self) -> TokenSigner:
        asked, secret = self._monotonic(), self._hasher.current
        versions = await self._secrets.versions(_SECRET)
        keys = [
            _key(secret, version.value) for secret in self._hasher.readable for version in versions
        ]
        signer = TokenSigner(*keys)
        self._signer, self._until, self._secret = signer, asked + _TTL, secret
        return signer


def _key(secret: ServerSecret, value: bytes) -> SigningKey:
    return SigningKey.of(secret.derive(_PURPOSE, value))
