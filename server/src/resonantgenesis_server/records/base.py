"""What the records hold, and what they promise on whatever database.

The records are the data that has no log of its own: organizations, API keys, agents, files, usage,
the list of sessions, idempotency keys. An event about a change waits in the outbox, written in the
transaction of the change, until the log has it. Every repository promises:

- A call that returns has been committed durably; one that raises has changed nothing. Only where
  the connection to PostgreSQL breaks during a commit, or the caller is cancelled then, nobody knows
  whether the change was made, as a whole.
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

T = TypeVar("T")


class StoreError(Exception):
    """The records cannot be used; the message is one line, written for the operator."""


class RecordsTooNew(StoreError):
    """A newer version of this program wrote the records."""


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
    """`disabled_at`: since when its credentials open nothing; None: it is not disabled."""

    id: str
    name: str
    created_at: float
    disabled_at: float | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key; of its credential only the `hash` is kept.

    `is_suspended`: its organization is disabled. Look-ups of a key set it, lists do not.
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
    """An agent as its organization configured it; `tools` None: the engine's own.

    `description` and `input_schema` are what the code of a configured agent declares. `endpoint` is
    of the engine `http`, with sealed secrets. `team` is that of an agent whose turns others do:
    `description`, `strategy`, `members`, `lead`, `on_failure`.
    """

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
    description: str | None = None
    input_schema: Mapping[str, Any] | None = None
    endpoint: Mapping[str, Any] | None = field(default=None, repr=False)
    team: Mapping[str, Any] | None = None

    @property
    def url(self) -> str | None:
        """The address of its endpoint."""
        return None if self.endpoint is None else self.endpoint["url"]


@dataclass(frozen=True, slots=True)
class AgentChanges:
    """A partial update; `UNSET` leaves a field as it is."""

    name: str | Unset = UNSET
    engine: str | Unset = UNSET
    instructions: str | Unset | None = UNSET
    model: str | Unset | None = UNSET
    tools: tuple[str, ...] | Unset | None = UNSET
    defaults: Mapping[str, Any] | Unset = UNSET
    endpoint: Mapping[str, Any] | Unset | None = UNSET
    team: Mapping[str, Any] | Unset = UNSET


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller that asked for a change, for the events of the change."""

    key_id: str
    request_id: str
    subject: str | None = None
    organization_id: str = ""
    #: The network address of the client.
    address: str | None = None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session in the list of sessions. The session's log is the truth; the list follows it.

    `first_goal` is the beginning of its first turn's goal. `waiting` are its open asks: `call_id`,
    `kind`, `tool`, and `expires_at` in seconds.
    """

    id: str
    organization_id: str
    subject: str | None
    agent_id: str
    status: str
    turns: int
    created_at: float
    updated_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    first_goal: str = ""
    waiting: Sequence[Mapping[str, Any]] = ()

    @property
    def wakes_at(self) -> float | None:
        """When the first of its asks expires."""
        return min((ask["expires_at"] for ask in self.waiting), default=None)


@dataclass(frozen=True, slots=True)
class ListPlace:
    """How far the list of an organization's sessions follows its events: up to `position` of the
    log's `epoch`."""

    organization_id: str
    epoch: str
    position: int


@dataclass(frozen=True, slots=True)
class RequestName:
    """What makes an idempotency key unique; `subject` is "" for an API key."""

    organization_id: str
    subject: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an idempotency key stands for.

    With a `status`: an answer, and `thing` is the id of the resource that was made. Without: a
    reservation of the id `thing`. Whether that resource exists, its own store knows.
    """

    fingerprint: str
    status: int | None
    body: bytes | None
    created_at: float
    thing: str | None = None


@dataclass(frozen=True, slots=True)
class Once(Generic[T]):
    """An idempotency key that the transaction uses up which makes the resource.

    `thing` gives the id of the resource, `render` the answer to remember. `render` is None for an
    answer that shows a secret. A repository that takes one raises `KeyUsed`, and makes nothing,
    where the key was used less than `window` seconds ago.
    """

    name: RequestName
    fingerprint: str
    window: float
    thing: Callable[[T], str] | None = None
    render: Callable[[T], bytes] | None = None


class KeyUsed(Exception):
    """An idempotency key stands for something already."""


@dataclass(frozen=True, slots=True)
class SecretVersion:
    value: bytes
    created_at: float
