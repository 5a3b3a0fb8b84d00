"""What the records promise, whatever database holds them.

The records are what has no log of its own: organizations, API keys, agents, the mirror of the
sessions, remembered requests. What the log is to be told of their changes is kept in the same
transaction as the change, in the outbox. Every repository promises:

- A call that returns has been committed durably; one that raises has changed nothing.
- Nothing crosses organizations: each call names one, and answers as if no other existed.
- Times are seconds since 1970 (UTC), kept to the microsecond.
- Pages hold at most `limit` items; `next_cursor` is opaque, and None on the last page. A cursor
  that this repository did not make raises `InvalidRequest` on the field `cursor`.
- A store that cannot be used right now (locked, full, damaged, closed) raises `StoreUnusable`; no
  exception of a driver leaves the package.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from ..model.events import NewEvent

T = TypeVar("T")


class StoreError(Exception):
    """The records cannot be used; the message is one line, written for the operator."""


class StoreIsNewer(StoreError):
    """The store was written by a newer version of this program."""


class StoreUnusable(StoreError):
    """The store is locked, full, damaged, not writable, unreachable or closed."""


class Unset:
    """The type of `UNSET`: a field that an update leaves as it is, where None is a value."""


UNSET: Final = Unset()


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; `next_cursor` asks for the next one."""

    items: Sequence[T]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Organization:
    """`disabled_at`: since when none of its credentials opens anything; None: they do."""

    id: str
    name: str
    created_at: float
    disabled_at: float | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key, without its credential, of which only `hash` is known.

    `is_suspended`: its organization is disabled; told by what finds a key, not by lists.
    """

    id: str
    organization_id: str
    name: str
    hash: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    is_bootstrap: bool = False
    is_suspended: bool = False

    def is_live(self, now: float) -> bool:
        """Whether the key opens anything at `now`."""
        if self.revoked_at is not None or self.is_suspended:
            return False
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent as its organization configured it; `tools` None: the engine's own."""

    id: str
    organization_id: str
    name: str
    engine: str
    instructions: str | None = None
    model: str | None = None
    tools: tuple[str, ...] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentChanges:
    """A partial update; `UNSET` leaves a field as it is."""

    name: str | Unset = UNSET
    engine: str | Unset = UNSET
    instructions: str | Unset | None = UNSET
    model: str | Unset | None = UNSET
    tools: tuple[str, ...] | Unset | None = UNSET
    defaults: Mapping[str, Any] | Unset = UNSET


@dataclass(frozen=True, slots=True)
class Told:
    """Who asked for a change, for the metadata of the event that tells of it."""

    key_id: str
    request_id: str
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event that the log has not been given yet; rows are in the order of their ids."""

    id: int
    organization_id: str
    event: NewEvent


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as its log last had it: a mirror for lists, never the truth."""

    id: str
    organization_id: str
    subject: str | None
    agent_id: str
    status: str
    turns: int
    created_at: float
    updated_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListPlace:
    """The list of an organization's sessions shows what its events tell up to `position` of the
    log's `epoch`."""

    organization_id: str
    epoch: str
    position: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an Idempotency-Key stands for. `thing` is the id of what it has made; with `status`
    None, of what it is to make: whether it has, is to be seen where such things are."""

    fingerprint: str
    status: int | None
    body: bytes | None
    created_at: float
    thing: str | None = None


@dataclass(frozen=True, slots=True)
class RequestName:
    """What makes an Idempotency-Key unique; `subject` is "" for an API key."""

    organization_id: str
    subject: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class Once(Generic[T]):
    """An Idempotency-Key that is used up by what is made, in the transaction that makes it.

    `thing` gives its id, `render` the answer that is to be remembered; None: there is none, or it
    must not be kept since it shows a secret. Whoever is given one raises `KeyUsed`, and has made
    nothing, where the key was used less than `window` seconds ago.
    """

    name: RequestName
    fingerprint: str
    window: float
    thing: Callable[[T], str] | None = None
    render: Callable[[T], bytes] | None = None


class KeyUsed(Exception):
    """An Idempotency-Key stands for something already."""


class Organizations(Protocol):
    async def create(self, name: str) -> Organization: ...

    async def create_with_key(
        self,
        name: str,
        *,
        key_name: str,
        hash: str,
        scopes: frozenset[str],
        once: Once[Organization] | None = None,
    ) -> tuple[Organization, KeyRecord]:
        """Both or neither. Raises `Conflict` when a key with this hash exists."""

    async def get(self, organization_id: str) -> Organization | None: ...

    async def update(
        self, organization_id: str, *, name: str | Unset = UNSET, disabled: bool | Unset = UNSET
    ) -> Organization | None:
        """The organization with the changes made; None if there is none. One that is disabled
        already keeps its `disabled_at`."""

    async def first(self) -> Organization | None:
        """The oldest one: who the bootstrap key belongs to."""

    async def all(self, *, limit: int = 200, cursor: str | None = None) -> Page[Organization]:
        """Every one, oldest first."""


class Keys(Protocol):
    async def create(
        self,
        organization_id: str,
        *,
        name: str,
        hash: str,
        scopes: frozenset[str],
        expires_at: float | None = None,
        is_bootstrap: bool = False,
        once: Once[KeyRecord] | None = None,
    ) -> KeyRecord:
        """A new key. Raises `Conflict` when a key with this hash exists."""

    async def find_by_hash(self, hash: str) -> KeyRecord | None:
        """The key of this hash in any organization, revoked and expired ones included."""

    async def find(self, key_id: str) -> KeyRecord | None:
        """The key of this id in any organization: who made a client token."""

    async def find_all(self, key_ids: Collection[str]) -> Sequence[KeyRecord]:
        """The keys of these ids, as `find` finds them, in any order."""

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[KeyRecord]:
        """Newest first, revoked and expired ones included."""

    async def count_live(self, organization_id: str) -> int:
        """How many of its keys are neither revoked nor expired."""

    async def revoke(self, organization_id: str, key_id: str) -> KeyRecord | None:
        """The key, revoked now or before; None if the organization has no such key."""


class Agents(Protocol):
    """Each change that is `told` leaves its event (agent.created, agent.updated, agent.deleted) in
    the outbox, in the same transaction."""

    async def create(
        self,
        agent: AgentRecord,
        *,
        told: Told | None = None,
        once: Once[AgentRecord] | None = None,
    ) -> AgentRecord:
        """Keep a new agent. Raises `Conflict` when its id is taken in its organization."""

    async def get(self, organization_id: str, agent_id: str) -> AgentRecord | None: ...

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[AgentRecord]:
        """By id, ascending in ASCII order. The cursor stands after the last id of a page."""

    async def update(
        self,
        organization_id: str,
        agent_id: str,
        changes: AgentChanges,
        *,
        told: Told | None = None,
    ) -> AgentRecord | None:
        """The agent with the changes made; None if there is none. What leaves every field as it
        was is no event."""

    async def delete(
        self, organization_id: str, agent_id: str, *, told: Told | None = None
    ) -> bool:
        """Whether there was one."""


class Outbox(Protocol):
    """Events on their way from a transaction of the records to the log. They get there exactly
    once: a row stays until the log has it, and the log drops what it has, by the event's id."""

    async def pending(self, limit: int = 32) -> Sequence[OutboxRow]:
        """The oldest rows, in order; those of one agent are in the order of its changes."""

    async def done(self, ids: Sequence[int]) -> None:
        """The log has these: remove them."""


class Sessions(Protocol):
    async def upsert_many(
        self,
        rows: Sequence[SessionRecord],
        places: Sequence[ListPlace] = (),
        *,
        anew: bool = False,
    ) -> None:
        """Mirror these sessions, and keep the places that are reached with them, in one
        transaction. A row whose `updated_at` is older than what is kept is ignored, so that rows
        may arrive in any order and more than once; but not with `anew`: the log has another
        history than that of which the rows tell."""

    async def places(self) -> Sequence[ListPlace]:
        """Those of every organization that has one."""

    async def get(self, organization_id: str, session_id: str) -> SessionRecord | None: ...

    async def list(
        self,
        organization_id: str,
        *,
        subject: str | None = None,
        agent_id: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[SessionRecord]:
        """Newest first by creation; a filter that is None lets everything through."""

    async def delete(self, session_ids: Sequence[str]) -> None:
        """Forget these sessions, and the files that were made in them."""

    async def last_used_before(self, time: float, limit: int = 100) -> Sequence[SessionRecord]:
        """Sessions of all organizations whose `updated_at` is before `time`, oldest first."""


@dataclass(frozen=True, slots=True)
class SecretVersion:
    value: bytes
    created_at: float


class Secrets(Protocol):
    async def get_or_create(self, name: str, nbytes: int = 32) -> bytes:
        """The secret of this name, made at random when first asked for; every process that
        shares the store gets the same one."""

    async def versions(self, name: str) -> Sequence[SecretVersion]:
        """Every version that is kept, newest first; the first is made when first asked for."""

    async def renew(self, name: str, *, keep: float, most: int) -> SecretVersion:
        """A new version, at random. Those that were replaced `keep` seconds ago or earlier are
        forgotten; 0: all. Raises `Conflict` when more than `most` would have to be kept beside
        it."""


class Idempotency(Protocol):
    async def get(self, name: RequestName, *, window: float) -> Remembered | None:
        """What the key stands for, if it was used less than `window` seconds ago."""

    async def remember(self, once: Once[T], made: T) -> None:
        """Use the key up for what no repository makes. Raises `KeyUsed`."""

    async def reserve(
        self, name: RequestName, fingerprint: str, thing: str, *, window: float
    ) -> Remembered:
        """What the key stands for now: with `thing`, unless it was used or reserved before. For
        what is made elsewhere than here: whoever repeats the request makes it with the same id,
        or finds it made."""

    async def finish(self, name: RequestName, status: int, body: bytes) -> None:
        """Remember the answer of what was reserved."""

    async def release(self, name: RequestName) -> None:
        """Forget what was reserved: the request was refused and does not use the key up."""

    async def purge(self, before: float, limit: int = 1_000) -> int:
        """Delete up to `limit` entries older than `before`; how many there were."""
