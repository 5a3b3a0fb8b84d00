"""`client.keys`, synchronous."""

from __future__ import annotations

from collections.abc import Sequence

from .._core import key_calls as _key_calls
from .._core.key_calls import ApiKey
from ..models import Page
from .transport import SyncIO


class SyncKeys:
    """API keys of the organization. Needs the scopes `keys:read` and `keys:write`; all methods
    raise StreamError."""

    def __init__(self, io: SyncIO) -> None:
        self._io = io

    def create(self, name: str, scopes: Sequence[str], *, expires_in: int | None = None) -> ApiKey:
        """A key with `scopes`, none of which the client's own may lack; `expires_in` in seconds,
        None: no end. Its `.key` is shown this once: when the answer was lost on the way, this
        raises Conflict, and a new one is to be made."""
        return self._io.call(_key_calls.create_key(name, scopes, expires_in))

    def get(self, key_id: str) -> ApiKey:
        """A key without its credential."""
        return self._io.call(_key_calls.get_key(key_id))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[ApiKey]:
        """One page of keys, newest first, also those that are revoked or have expired."""
        return self._io.call(_key_calls.list_keys(limit, cursor))

    def revoke(self, key_id: str) -> None:
        """Ends a key, its tokens, and what they hold open, for good."""
        self._io.call(_key_calls.revoke_key(key_id))
