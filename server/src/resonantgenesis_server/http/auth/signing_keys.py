"""The keys that sign client tokens: in the records, for all nodes, and changed while they run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...model.errors import Conflict
from ...records.base import Secrets
from ...records.credentials import CredentialHasher
from .signing import SigningKey, TokenSigner

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
        secrets: Secrets,
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
