"""Client tokens: signed claims that need no row in the records."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import jwt

from ...model.ids import new_id
from ...model.principal import SCOPES, Principal

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
