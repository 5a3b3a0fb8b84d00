"""Authentication by API keys, client tokens, and the cookie that carries a token to a stream."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from ...model.errors import Forbidden, Unauthenticated
from ...model.principal import Principal
from ...records.access import KeyRepository
from ...records.base import KeyRecord, StoreUnusable
from ...records.credentials import CredentialHasher, HashedKey
from ...records.secrets import SecretRepository
from ..cors import Cors, is_same_host
from ..params import header
from .signing import Rotated, SigningKeys, TokenSigner, may_be_token

#: Seconds that an API key is valid without a look into the records. So a revocation takes effect
#: within two seconds.
KEY_TTL = 1.0
#: `refresh` reads the keys that expire from memory within this time, before its next call.
_SOON = 0.75
#: Most API keys in memory.
KEY_CACHE = 4_096
#: Longest credential that is checked. A token of ours has well under 2 KiB.
MAX_CREDENTIAL = 8_192
COOKIE = "rg_token"

_COOKIE_PATHS = re.compile(r"/v1/(sessions/[^/]+/stream|events/subscribe|ws)")
#: Clients of these paths send their key in a header of its own.
_KEY_PATHS = "/langgraph/"
_INVALID = "the credential is not valid"

V = TypeVar("V")
#: A key, and the principal that all who use it share.
_Known = tuple[KeyRecord, Principal]


class _Remembered(Generic[V]):
    """The newest values, each until KEY_TTL seconds after it was asked for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, name: str, seconds: float = 0.0) -> V | None:
        """The value, if it stays in memory for `seconds` more."""
        entry = self._entries.get(name)
        if entry is None or entry[0] <= self._clock() + seconds:
            return None
        self._entries.move_to_end(name)
        return entry[1]

    def put(self, name: str, value: V, asked: float) -> None:
        self._entries[name] = (asked + KEY_TTL, value)
        self._entries.move_to_end(name)
        if len(self._entries) > KEY_CACHE:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()


@dataclass(slots=True)
class _SharedRead(Generic[V]):
    """A read under way, when it began, and how many wait for it."""

    task: asyncio.Task[V]
    began: float
    waiters: int = 0


class _SharedReads(Generic[V]):
    """Reads of the records: all that ask for one name at a time wait for one read.

    A read that began KEY_TTL seconds ago is too old for a new caller. A read that nobody waits for
    any more is cancelled. An error of the read is raised in each waiter.
    """

    def __init__(
        self, read: Callable[[str], Coroutine[Any, Any, V]], clock: Callable[[], float]
    ) -> None:
        self._read = read
        self._clock = clock
        self._under_way: dict[str, _SharedRead[V]] = {}

    async def get(self, name: str) -> V:
        shared = self._under_way.get(name)
        now = self._clock()
        if shared is None or shared.began + KEY_TTL <= now:
            task = asyncio.create_task(self._read(name), name="credential")
            shared = self._under_way[name] = _SharedRead(task, now)
        shared.waiters += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiters -= 1
            if not shared.waiters:
                shared.task.cancel()  # does nothing to a read that has ended
            if self._under_way.get(name) is shared and (shared.task.done() or not shared.waiters):
                del self._under_way[name]

    def forget(self) -> None:
        """Let nobody else wait for the reads that are under way."""
        self._under_way.clear()


class CredentialAuthenticator:
    """Checks credentials against the records and the signing keys.

    A revoked or expired API key, a key of a disabled organization, and every token of such a key
    are refused at the latest KEY_TTL seconds after the change of the records; in the same process
    at once, by `forget`.
    """

    def __init__(
        self,
        keys: KeyRepository,
        hasher: CredentialHasher,
        signing: SigningKeys,
        *,
        cors: Cors | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._hasher = hasher
        self._signing = signing
        self._cors = cors or Cors()
        self._clock = clock
        #: With the principal, since that takes 3 µs and 200 bytes.
        self._by_hash: _Remembered[_Known] = _Remembered(monotonic)
        self._by_id: _Remembered[KeyRecord] = _Remembered(monotonic)
        self._reads_by_hash = _SharedReads(self._read_by_hash, monotonic)
        self._reads_by_id = _SharedReads(self._read_by_id, monotonic)
        self._monotonic = monotonic
        #: How often `forget` was called: what was asked for before is not kept.
        self._forgotten = 0

    async def authenticate(self, scope: Scope) -> Principal | None:
        """The principal of a request; None without a credential. Raises `Unauthenticated`."""
        value = header(scope, b"authorization")
        if value is not None:
            return await self.verify(bearer(value))
        key = header(scope, b"x-api-key") if scope["path"].startswith(_KEY_PATHS) else None
        if key is not None:
            return await self.verify(key.decode("latin-1"))
        token = self._cookie(scope)
        return None if token is None else await self._verify_token(token)

    async def verify(self, credential: str) -> Principal:
        """The principal of an API key or client token. Raises `Unauthenticated`."""
        if not 0 < len(credential) <= MAX_CREDENTIAL:
            raise Unauthenticated(_INVALID)
        if may_be_token(credential):
            signer = await self._signing.signer_for(credential)
            if signer.is_ours(credential):
                return await self._verified(signer, credential)
        hashed = self._hasher.hash(credential)
        known = self._by_hash.get(hashed) or await self._reads_by_hash.get(hashed)
        known = known or await self._made_with_another(credential)
        if known is None:
            raise Unauthenticated(_INVALID)
        self._check_live(known[0])
        return known[1]

    async def _made_with_another(self, credential: str) -> _Known | None:
        """The key whose hash is under another secret than the current one; under a former one no
        longer, from now on."""
        current, *others = self._hasher.readable
        for secret in others:
            known = await self._reads_by_hash.get(secret.hash(credential))
            if known is None:
                continue
            key, principal = known
            if secret in self._hasher.former and key.is_live(self._clock()):
                # A store that is full or busy still lets the key in.
                with contextlib.suppress(StoreUnusable):
                    key = await self._keys.rehash(key, **current.hashed(credential))
            return key, principal
        return None

    async def recheck(self, principal: Principal) -> None:
        """Check the credential of an open stream.

        Raises `Unauthenticated` if it has expired, its API key was revoked, or its signing key was
        withdrawn. Cheap enough for a call each second for each distinct key.
        """
        if principal.expires_at is not None and principal.expires_at <= self._clock():
            raise Unauthenticated("the credential has expired")
        if principal.signed_by is not None:
            signer = await self._signing.signer()
            if not signer.has(principal.signed_by):
                raise Unauthenticated("the tokens that were out have been ended")
        self._check_live(await self._key(principal.key_id))

    async def refresh(self, key_ids: Collection[str]) -> None:
        """Read all these API keys in one query, so that they are in memory until the next call.

        Call this again within a second.
        """
        asked = [key_id for key_id in key_ids if self._by_id.get(key_id, _SOON) is None]
        if not asked:
            return
        await self._signing.signer(_SOON)
        began, forgotten = self._monotonic(), self._forgotten
        for key in await self._keys.find_all(asked[:KEY_CACHE]):
            self._remember(key, began, forgotten)

    def hashed(self, credential: str) -> HashedKey:
        """What the records keep of a new key."""
        return self._hasher.current.hashed(credential)

    async def sign(self, principal: Principal, *, now: float) -> str:
        """A client token for `principal`, valid until its `expires_at`."""
        signer = await self._signing.signer()
        return signer.sign(principal, now=now)

    async def owner(self, token: Principal) -> Principal:
        """The principal of the API key that made a token. Raises `Unauthenticated`."""
        return _holder(await self._key(token.key_id))

    async def rotate(self, *, end_tokens: bool) -> Rotated:
        """Change the signing key; see `SigningKeys.rotate`."""
        return await self._signing.rotate(end_tokens=end_tokens)

    def forget(self) -> None:
        """Read the records anew: this process has revoked a key or disabled an organization."""
        self._forgotten += 1
        self._reads_by_hash.forget()
        self._reads_by_id.forget()
        self._by_hash.clear()
        self._by_id.clear()

    async def _verify_token(self, token: str) -> Principal:
        return await self._verified(await self._signing.signer_for(token), token)

    async def _verified(self, signer: TokenSigner, token: str) -> Principal:
        principal = signer.read(token, now=self._clock())
        if principal is None:
            raise Unauthenticated(_INVALID)
        return self._live(await self._key(principal.key_id), principal)

    async def _key(self, key_id: str) -> KeyRecord:
        key = self._by_id.get(key_id) or await self._reads_by_id.get(key_id)
        if key is None:
            raise Unauthenticated(_INVALID)
        return key

    async def _read_by_hash(self, hashed: str) -> _Known | None:
        began, forgotten = self._monotonic(), self._forgotten
        key = await self._keys.find_by_hash(hashed)
        return None if key is None else self._remember(key, began, forgotten)

    async def _read_by_id(self, key_id: str) -> KeyRecord | None:
        began, forgotten = self._monotonic(), self._forgotten
        key = await self._keys.find(key_id)
        return None if key is None else self._remember(key, began, forgotten)[0]

    def _remember(self, key: KeyRecord, began: float, forgotten: int) -> _Known:
        """Keep a key whose read began then, unless `forget` was called since."""
        known = (key, _holder(key))
        if forgotten == self._forgotten:
            self._by_hash.put(key.hash, known, began)
            self._by_id.put(key.id, key, began)
        return known

    def _live(self, key: KeyRecord, principal: Principal) -> Principal:
        """The principal, if its API key is valid now. Raises `Unauthenticated`."""
        if key.organization_id != principal.organization_id:
            raise Unauthenticated(_INVALID)
        self._check_live(key)
        return principal

    def _check_live(self, key: KeyRecord) -> None:
        if not key.is_live(self._clock()):
            raise Unauthenticated("the key was revoked or has expired")

    def _cookie(self, scope: Scope) -> str | None:
        """The token in the cookie, for GET streams and sockets.

        The request must come from a page of our own or from a listed origin.
        """
        is_socket = scope["type"] == "websocket"
        if not _COOKIE_PATHS.fullmatch(scope["path"]):
            return None
        if not is_socket and scope["method"] != "GET":
            return None
        token = _cookie_value(header(scope, b"cookie") or b"")
        if token is None:
            return None
        origin = (header(scope, b"origin") or b"").decode("latin-1")
        host = (header(scope, b"host") or b"").decode("latin-1")
        if not origin and is_socket:
            # Only browsers keep cookies, and browsers always send the origin of a socket.
            raise Unauthenticated("a cookie needs an Origin here")
        if origin and not (self._cors.lists(origin) or is_same_host(origin, host)):
            raise Unauthenticated("the cookie is not taken from this origin")
        return token


def open_authenticator(
    keys: KeyRepository,
    secrets: SecretRepository,
    hasher: CredentialHasher,
    cors_origins: Collection[str] = (),
) -> CredentialAuthenticator:
    """The authenticator over these records."""
    signing = SigningKeys(secrets, hasher)
    return CredentialAuthenticator(keys, hasher, signing, cors=Cors(cors_origins))


def _holder(key: KeyRecord) -> Principal:
    return Principal(
        organization_id=key.organization_id,
        key_id=key.id,
        scopes=key.scopes,
        expires_at=key.expires_at,
        is_bootstrap=key.is_bootstrap,
    )


def bearer(value: bytes) -> str:
    """The credential in the header Authorization. Raises `Unauthenticated`."""
    scheme, _, credential = value.decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("the scheme of Authorization must be Bearer")
    return credential.strip()


def _cookie_value(value: bytes) -> str | None:
    """The value of our cookie. The standard parser would stop at the first malformed cookie."""
    for pair in value.decode("latin-1").split(";"):
        name, _, content = pair.strip().partition("=")
        if name == COOKIE:
            return content
    return None


def require(principal: Principal, scope: str) -> None:
    """Raise `Forbidden` unless `scope`, e.g. `sessions:write`, is granted."""
    if not principal.allows(scope):
        raise Forbidden(
            f"the credential lacks the scope {scope}; use a key or token that has it"
            ' (POST /v1/keys and /v1/tokens make them, with "scopes")',
            details={"scope": scope},
        )


def require_administrator(principal: Principal) -> None:
    """Raise `Forbidden` unless the credential is the bootstrap key. No scope grants this."""
    if not principal.is_bootstrap:
        raise Forbidden("only the server's bootstrap key can do this, and no token it makes")


_scheme = HTTPBearer(auto_error=False, description="An API key or a client token.")


def scoped(scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency of routes: the caller, who must have `scope`. It documents the scheme."""

    async def caller(
        request: Request,
        _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)],
    ) -> Principal:
        principal: Principal = request.state.principal
        require(principal, scope)
        return principal

    return caller


async def any_caller(
    request: Request,
    _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)],
) -> Principal:
    """A dependency of routes that need a credential and no scope."""
    principal: Principal = request.state.principal
    return principal


async def administrator(
    request: Request,
    _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)],
) -> Principal:
    """A dependency of routes: the caller, who must have the server's bootstrap key."""
    principal: Principal = request.state.principal
    require_administrator(principal)
    return principal
