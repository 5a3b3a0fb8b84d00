"""The first organization and the key that opens it."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.errors import Conflict
from .base import KeyRecord, Keys
from .credentials import CredentialHasher, new_api_key
from .store import Records

_ALL = frozenset({"*"})
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """`generated` is a key made just now, to be shown once; None if it was given or is known."""

    organization_id: str
    generated: str | None


async def bootstrap(
    records: Records, hasher: CredentialHasher, configured: str | None = None
) -> Bootstrap:
    """Make sure there is an organization, and a bootstrap key for it.

    A `configured` key takes the place of every earlier bootstrap key, which are revoked: that is
    how a leaked one is replaced. Without it, one is generated if none is live.
    """
    organization = await records.organizations.first()
    if organization is None:
        organization = await records.organizations.create("default")
    if configured is None:
        if await _live_ones(records.keys, organization.id):
            return Bootstrap(organization.id, None)
        generated = new_api_key()
        await _make(records.keys, organization.id, hasher.hash(generated))
        return Bootstrap(organization.id, generated)
    hashed = hasher.hash(configured)
    known = await records.keys.find_by_hash(hashed)
    if known is None:
        await _make(records.keys, organization.id, hashed)
    elif known.revoked_at is not None:
        raise Conflict("the configured bootstrap key was revoked; choose another one")
    elif not known.is_bootstrap:
        raise Conflict("the configured bootstrap key is another key already; choose a new one")
    for key in await _live_ones(records.keys, organization.id):
        if key.hash != hashed:
            await records.keys.revoke(organization.id, key.id)
    return Bootstrap(organization.id, None)


async def _make(keys: Keys, organization_id: str, hashed: str) -> None:
    await keys.create(
        organization_id, name="bootstrap", hash=hashed, scopes=_ALL, is_bootstrap=True
    )


async def _live_ones(keys: Keys, organization_id: str) -> list[KeyRecord]:
    found: list[KeyRecord] = []
    cursor: str | None = None
    while True:
        page = await keys.list(organization_id, limit=_PAGE, cursor=cursor)
        found += [key for key in page.items if key.is_bootstrap and key.revoked_at is None]
        cursor = page.next_cursor
        if cursor is None:
            return found
