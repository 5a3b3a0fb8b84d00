"""Client tokens: signed claims that need no row in the records."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from ...model.errors import Conflict
from ...model.ids import new_id
from ...model.principal import SCOPES, Principal
from ...records.credentials import CredentialHasher
from ...records.secrets import SecretRepository

_ALGORITHM = "HS256"
_REQUIRED = ["org", "key", "scopes", "exp", "jti"]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One signing key; `id` goes into the tokens' `kid`."""

    id: str
    value: bytes

    @classmethod
    def of(cls, value: bytes) -> SigningKey:
        """The key with an id that follows from it and does not give it away."""
        return cls(hashlib.sha256(b"kid\0" + value).hexdigest()[:12], value)


class TokenSigner:
    """Makes tokens with the current key and reads those of the current and the former ones."""

    def __init__(self, current: SigningKey, *former: SigningKey) -> None:
        self._current = current
        self._keys = {key.id: key.value for key in (current, *former)}

    def sign(self, principal: Principal, *, now: float) -> str:
        """A token that stands for `principal`, whose `expires_at` must be set."""
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
        ):
            if value is not None:
                claims[name] = value
        headers = {"kid": self._current.id}
        return jwt.encode(claims, self._current.value, algorithm=_ALGORITHM, headers=headers)

    @property
    def current_id(self) -> str:
        """The `kid` of the tokens it makes."""
        return self._current.id

    def has(self, key_id: str) -> bool:
        """Whether it reads tokens of the signing key with this id."""
        return key_id in self._keys

    def is_ours(self, credential: str) -> bool:
        """Whether it names one of our keys, so that it can only be a token (a key that an
        operator chose may have dots in it too)."""
        return self._key_of(credential) is not None

    def read(self, token: str, *, now: float) -> Principal | None:
        """Who the token stands for; None if it is forged, malformed or expired at `now`."""
        key_id = self._key_of(token)
        if key_id is None:
            return None
        try:
            claims = jwt.decode(
                token,
                self._keys[key_id],
                algorithms=[_ALGORITHM],
                # The expiry is compared below, with the caller's clock.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
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
        )

    def _key_of(self, credential: str) -> str | None:
        if not may_be_token(credential):
            return None
        try:
            header = jwt.get_unverified_header(credential)
        except jwt.InvalidTokenError:
            return None
        kid = header.get("kid")
        return kid if isinstance(kid, str) and kid in self._keys else None


def may_be_token(credential: str) -> bool:
    """Whether it has the outer form of a signed token."""
    return credential.count(".") == 2


#: The longest life of a token, in seconds.
MAX_TOKEN_LIFE = 86_400
#: Former keys kept at most, each until the last token it can have signed has ended.
MAX_FORMER = 16
#: Seconds that a key is kept beyond that, for clocks of nodes that differ.
_MARGIN = 300
#: Seconds that the keys are believed without asking the records.
_TTL = 1.0
_SECRET, _PURPOSE = "token-signing", "client-tokens"


@dataclass(frozen=True, slots=True)
class Rotated:
    """The new key's id and moment, and how many former keys still verify tokens."""

    id: str
    created_at: float
    former: int


class SigningKeys:
    """Each follows from a random value, which the nodes share through the records, and from the
    secret behind `hasher`: a copy of either alone forges nothing. All raise `StoreUnusable`."""

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
        self._loading = asyncio.Lock()

    def remembered(self, seconds: float = 0.0) -> TokenSigner | None:
        """The keys as they were within the last second, if that will be known for so many more."""
        return self._signer if self._monotonic() + seconds < self._until else None

    async def signer(self, seconds: float = 0.0) -> TokenSigner:
        """The keys as they were at most a second ago, remembered for so many seconds more."""
        known = self.remembered(seconds)
        if known is not None:
            return known
        async with self._loading:  # once for all that wait
            return self.remembered(seconds) or await self._load()

    async def signer_for(self, token: str) -> TokenSigner:
        """The same, read anew for a token that another node may have signed with a newer key."""
        signer = await self.signer()
        return signer if signer.is_ours(token) else await self._reload()

    async def rotate(self, *, end_tokens: bool) -> Rotated:
        """Sign with a new key from now on. Tokens that are out stay valid until they expire;
        with `end_tokens` they all end, on every node within a second.

        Raises `Conflict` while MAX_FORMER former keys are still needed.
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
        return Rotated(self._key(made.value).id, made.created_at, len(versions) - 1)

    async def _reload(self) -> TokenSigner:
        async with self._loading:
            return await self._load()

    async def _load(self) -> TokenSigner:
        asked = self._monotonic()
        versions = await self._secrets.versions(_SECRET)
        signer = TokenSigner(*(self._key(version.value) for version in versions))
        self._signer, self._until = signer, asked + _TTL
        return signer

    def _key(self, value: bytes) -> SigningKey:
        return SigningKey.of(self._hasher.derive(_PURPOSE, value))
