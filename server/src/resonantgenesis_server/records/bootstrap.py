"""The organization and the API key of a new store."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from ..datadir.private_file import read_private, write_private
from ..model.errors import Conflict
from .access import KeyRepository
from .base import KeyRecord, StoreUnusable
from .credentials import KEY_PREFIX, CredentialHasher, new_api_key
from .store import Records

_ALL = frozenset({"*"})
_PAGE = 200
#: Later than every session, in seconds since 1970.
_FOR_EVER = 1e12
_KEY = re.compile(rf"{KEY_PREFIX}[\w-]{{16,}}", re.ASCII)
#: Names of the two kinds in lists of keys.
_CONFIGURED, _GENERATED = "bootstrap (configured)", "bootstrap"


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """`generated`: the new key, to be shown once; None if it was configured or existed before.
    `former`: the number of other bootstrap keys that stay valid."""

    organization_id: str
    generated: str | None
    former: int = 0


async def bootstrap(
    records: Records,
    hasher: CredentialHasher,
    configured: str | None,
    file: Path,
    *,
    is_shared: bool = False,
) -> Bootstrap:
    """Make sure there is an organization, and a bootstrap key for it.

    A `configured` key replaces every earlier bootstrap key: those are revoked, e.g. after a leak.
    Without it the key in `file` counts, and a new one is generated if that key opens nothing.
    In a store that nodes share (`is_shared`) the key that any of them made counts for all.

    Raises StoreUnusable, and Conflict for a configured key that cannot be the bootstrap key.
    """
    async with records.exclusive():
        return await _bootstrap(records, hasher, configured, file, is_shared=is_shared)


async def _bootstrap(
    records: Records,
    hasher: CredentialHasher,
    configured: str | None,
    file: Path,
    *,
    is_shared: bool,
) -> Bootstrap:
    organization = await records.organizations.first()
    if organization is None:
        organization = await records.organizations.create("default")
    if configured is None:
        return await _in_file(records, hasher, organization.id, file, is_shared=is_shared)
    known = await _find(records.keys, hasher, configured)
    if known is None:
        known = await _make(records.keys, organization.id, hasher, configured, _CONFIGURED)
    elif known.revoked_at is not None:
        raise Conflict("the configured bootstrap key was revoked; choose another one")
    elif not known.is_bootstrap:
        raise Conflict("the configured bootstrap key is another key already; choose a new one")
    for key in await _live_ones(records.keys, organization.id):
        if key.id != known.id:
            await records.keys.revoke(organization.id, key.id)
    return Bootstrap(organization.id, None)


async def _in_file(
    records: Records, hasher: CredentialHasher, organization_id: str, file: Path, *, is_shared: bool
) -> Bootstrap:
    """The bootstrap key of `file`.

    A new key is durable in the file before the records know it. A crash then leaves a key that
    opens the server, or one in the file that the next start makes known. No valid key is left that
    nobody has seen.
    """
    try:
        key = read_private(file)
    except OSError as error:
        raise StoreUnusable(f"{file}: {error.strerror or error}") from error
    if key is not None and _KEY.fullmatch(key) is None:
        key = None  # half a key of a version that did not sync it, or anything else
    known = None if key is None else await _find(records.keys, hasher, key)
    if known is not None and known.is_live(time.time()):
        return Bootstrap(organization_id, None)
    former = await _live_ones(records.keys, organization_id)
    if any(is_shared or each.name == _CONFIGURED for each in former):
        # The operator who configured it has it, or the node that made it.
        return Bootstrap(organization_id, None)
    if key is None or known is not None:
        key = new_api_key()
        try:
            write_private(file, f"{key}\n")
        except OSError as error:
            raise StoreUnusable(f"{file}: {error.strerror or error}") from error
    await _make(records.keys, organization_id, hasher, key, _GENERATED)
    if former and not await _was_used(records, organization_id):
        # Nobody has ever seen the former keys: they are of starts that did not finish.
        for each in former:
            await records.keys.revoke(organization_id, each.id)
        former = []
    return Bootstrap(organization_id, key, len(former))


async def _was_used(records: Records, organization_id: str) -> bool:
    """Whether the organization has a session, or a key that is no bootstrap key."""
    if await records.sessions.last_used_before(_FOR_EVER, limit=1):
        return True
    keys = await records.keys.list(organization_id, limit=_PAGE)
    return any(not key.is_bootstrap for key in keys.items)


async def _find(keys: KeyRepository, hasher: CredentialHasher, credential: str) -> KeyRecord | None:
    """The key of this credential, hashed under any secret that is readable."""
    for secret in hasher.readable:
        if (found := await keys.find_by_hash(secret.hash(credential))) is not None:
            return found
    return None


async def _make(
    keys: KeyRepository, organization_id: str, hasher: CredentialHasher, key: str, name: str
) -> KeyRecord:
    hashed = hasher.current.hashed(key)
    return await keys.create(organization_id, name=name, scopes=_ALL, is_bootstrap=True, **hashed)


async def _live_ones(keys: KeyRepository, organization_id: str) -> list[KeyRecord]:
    found: list[KeyRecord] = []
    cursor: str | None = None
    while True:
        page = await keys.list(organization_id, limit=_PAGE, cursor=cursor)
        found += [key for key in page.items if key.is_bootstrap and key.revoked_at is None]
        cursor = page.next_cursor
        if cursor is None:
            return found
