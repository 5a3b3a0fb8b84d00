"""API keys: the calls, and what their answers become. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from ..models import Field, Model, Page
from .calls import Call, make, query, without_none
from .messages import Request, segment

_PATH = "/v1/keys"


class ApiKey(Model):
    """An API key; `key` is the credential, there only when it was just made, and does not show in
    `repr`. Times are RFC 3339; `expires_at` None: no end."""

    _secret = frozenset({"key"})

    id = Field("")
    name = Field("")
    scopes = Field[list[str] | None](None)
    created_at = Field("")
    expires_at = Field[str | None](None)
    revoked_at = Field[str | None](None)
    key = Field[str | None](None)


def create_key(name: str, scopes: Sequence[str], expires_in: int | None) -> Call[ApiKey]:
    body = without_none(name=name, scopes=list(scopes), expires_in=expires_in)
    return Call(make(_PATH, body), ApiKey)


def get_key(key_id: str) -> Call[ApiKey]:
    return Call(Request("GET", _path(key_id)), ApiKey)


def list_keys(limit: int | None, cursor: str | None) -> Call[Page[ApiKey]]:
    request = Request("GET", _PATH, query(limit=limit, cursor=cursor))
    return Call(request, lambda raw: Page(raw, ApiKey))


def revoke_key(key_id: str) -> Call[None]:
    return Call(Request("DELETE", _path(key_id)), lambda raw: None)


def _path(key_id: str) -> str:
    return f"{_PATH}/{segment(key_id)}"
