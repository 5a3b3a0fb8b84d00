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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from ..model.events import NewEvent

T = TypeVar("T")


class StoreError(Exception):
    """The records cannot be used; the message is one line, written for the operator."""


class RecordsTooNew(StoreError):
    """The store was written by a newer version of this program."""


class StoreUnusable(StoreError):
    """The store is locked, full, damaged, not writable, unreachable or closed."""


class Unset:
    """The type of `UNSET`: a field that an update leaves as it is, where None is a value."""


UNSET: Final = Unset()


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
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
class Actor:
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


@dataclass(frozen=True, slots=True)
class SecretVersion:
    value: bytes
    created_at: float
