"""The server's answers as objects: known fields are typed, all fields are in `.raw`.

A field the answer lacks reads as None (`content` as ""), so that a loop over chunks of several
types never raises AttributeError, and a field of a newer server is readable before this SDK
knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
M_co = TypeVar("M_co", bound="Model", covariant=True)


class Field(Generic[T]):
    """A typed view of one key of `raw`; `default` where the key is missing or null."""

    def __init__(self, default: T, *keys: str) -> None:
        self._default = default
        self._keys = keys

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._keys = self._keys or (name,)

    @overload
    def __get__(self, obj: None, owner: type[object]) -> Field[T]: ...
    @overload
    def __get__(self, obj: Model, owner: type[object]) -> T: ...
    def __get__(self, obj: Model | None, owner: type[object]) -> T | Field[T]:
        if obj is None:
            return self
        for key in self._keys:
            value: T | None = obj.raw.get(key)
            if value is not None:
                return value
        return self._default


class Model:
    """A JSON object of the server; `raw` is the object as received."""

    #: Fields that `repr` hides.
    _secret: frozenset[str] = frozenset()

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw: dict[str, Any] = dict(raw)

    def __getattr__(self, name: str) -> Any:
        # Underscored names stay errors, or copying and pickling would find methods of None.
        if name.startswith("_") or name == "raw":
            raise AttributeError(name)
        return self.raw.get(name)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Model) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = {key: "…" if key in self._secret else value for key, value in self.raw.items()}
        return f"{type(self).__name__}({shown!r})"


class Usage(Model):
    """The tokens, steps and time of a turn."""

    input_tokens = Field(0)
    output_tokens = Field(0)
    steps = Field(0)
    duration_ms = Field(0)


class Chunk(Model):
    """One entry of a session's log.

    `type` is text, reasoning, tool_call, tool_result, step, source, file, data, input_required,
    waiting, input, error or done; a newer server may send others. `position` is its place in the
    session; a compact chunk covers `from_position` to `position`. `agent_id` names the sub-agent
    that made the chunk, `parent` the `call_id` of the tool call that started that agent. A chunk of
    type data that is `transient` is not in the log: it has the position of the chunk before it.
    """

    type = Field("")
    position = Field(0)
    from_position = Field[int | None](None, "from")
    content = Field("")
    tool = Field[str | None](None)
    args = Field[dict[str, Any] | None](None)
    call_id = Field[str | None](None)
    result = Field[Any](None)
    is_error = Field[bool | None](None)
    step = Field[int | None](None)
    name = Field[str | None](None)
    status = Field[str | None](None)
    duration_ms = Field[float | None](None)
    session_id = Field[str | None](None)
    turn = Field[int | None](None)
    agent_id = Field[str | None](None)
    parent = Field[str | None](None)
    url = Field[str | None](None)
    title = Field[str | None](None)
    file_id = Field[str | None](None)
    content_type = Field[str | None](None)
    size = Field[int | None](None)
    data = Field[Any](None)
    transient = Field(False)
    id = Field[str | None](None)
    output = Field[str | None](None)
    code = Field[str | None](None)
    message = Field[str | None](None)
    retryable = Field[bool | None](None)
    retry_after = Field[float | None](None)
    kind = Field[str | None](None)
    schema = Field[dict[str, Any] | None](None)
    expires_at = Field[str | None](None)
    calls = Field[list[str] | None](None)
    approved = Field[bool | None](None)
    payload = Field[Any](None)
    reason = Field[str | None](None)

    @property
    def usage(self) -> Usage | None:
        """The tokens, steps and time of the turn; on `done` only."""
        usage = self.raw.get("usage")
        return Usage(usage) if isinstance(usage, dict) else None


class Ask(Model):
    """What a turn waits for: `kind` approval, input or tool. A list of sessions shows no `args`,
    `message` and `schema`."""

    call_id = Field("")
    kind = Field("")
    tool = Field[str | None](None)
    args = Field[dict[str, Any] | None](None)
    message = Field[str | None](None)
    schema = Field[dict[str, Any] | None](None)
    expires_at = Field("")


def _asks(raw: object) -> list[Ask]:
    return [Ask(ask) for ask in raw if isinstance(ask, dict)] if isinstance(raw, list) else []


class InputResult(Model):
    """An answer that stands: `status` is that of the session, `waiting` while others are open."""

    session_id = Field("")
    turn = Field(0)
    call_id = Field("")
    status = Field("")


class TurnResult(Model):
    """How a turn ended: `status` is success, failed, cancelled or timeout (running: not yet).

    A turn with status waiting asks; `waiting` says what, and it goes on once all have an answer.
    """

    session_id = Field("")
    turn = Field(0)
    status = Field("")
    output = Field("")
    steps = Field[Any](None)
    position = Field[int | None](None)
    error = Field[dict[str, Any] | None](None)

    @property
    def waiting(self) -> list[Ask]:
        """What the turn waits for."""
        return _asks(self.raw.get("waiting"))

    @property
    def usage(self) -> Usage:
        """The tokens, steps and time of the turn."""
        usage = self.raw.get("usage")
        return Usage(usage if isinstance(usage, dict) else {})


class SessionData(Model):
    """A session as the server last showed it; the base class of the clients' session objects."""

    session_id = Field("", "session_id", "id")
    agent_id = Field[str | None](None)
    status = Field[str | None](None)
    output = Field[str | None](None)
    position = Field[int | None](None)
    turn = Field[int | None](None)
    turns = Field[int | None](None)
    first_goal = Field[str | None](None)
    context = Field[dict[str, Any] | None](None)
    metadata = Field[dict[str, Any] | None](None)
    subject = Field[str | None](None)
    forked_from = Field[dict[str, Any] | None](None)
    created_at = Field[str | None](None)
    updated_at = Field[str | None](None)

    @property
    def id(self) -> str:
        """An alias of `session_id`."""
        return self.session_id

    @property
    def waiting(self) -> list[Ask]:
        """What its turn waits for; none: it does not wait."""
        return _asks(self.raw.get("waiting"))


class Message(Model):
    """A goal of the user, or the agent's answer to it.

    `parts` are JSON objects with `type`: text, reasoning, tool_call, step, source, file, data,
    user_message, input_required, error (PROTOCOL.md, section 4). `replaced_by` is the turn that
    has regenerated it.
    """

    id = Field("")
    role = Field("")
    session_id = Field("")
    turn = Field(0)
    status = Field("")
    metadata = Field[dict[str, Any] | None](None)
    truncated = Field(False)
    replaced_by = Field[int | None](None)
    created_at = Field[str | None](None)
    position = Field[int | None](None)

    @property
    def parts(self) -> list[dict[str, Any]]:
        """What it consists of, in order."""
        parts = self.raw.get("parts")
        return parts if isinstance(parts, list) else []

    @property
    def text(self) -> str:
        """Its text parts, without those of sub-agents."""
        parts = (part for part in self.parts if part.get("type") == "text")
        return "".join(part.get("content", "") for part in parts if "agent_id" not in part)

    @property
    def usage(self) -> Usage | None:
        """The tokens, steps and time of the turn; on an answer that has ended."""
        usage = self.raw.get("usage")
        return Usage(usage) if isinstance(usage, dict) else None


class PostedMessage(Model):
    """A message to an open turn: `turn` is the turn that it is for."""

    session_id = Field("")
    turn = Field(0)
    message_id = Field("")


class QueuedTurn(Model):
    """A turn that waits for others."""

    turn = Field(0)
    goal = Field("")
    model = Field[str | None](None)
    tools = Field[list[str] | None](None)
    metadata = Field[dict[str, Any] | None](None)
    max_steps = Field[int | None](None)
    timeout_seconds = Field[float | None](None)
    queued_at = Field[str | None](None)


class Step(Model):
    """A step of a turn."""

    step = Field[int | None](None)
    turn = Field[int | None](None)
    name = Field[str | None](None)
    status = Field[str | None](None)
    duration_ms = Field[float | None](None)


class Agent(Model):
    """An agent's settings. `secret` is there only in the answer that made it."""

    _secret = frozenset({"secret"})

    agent_id = Field("", "agent_id", "id")
    name = Field[str | None](None)
    engine = Field[str | None](None)
    instructions = Field[str | None](None)
    model = Field[str | None](None)
    tools = Field[list[Any] | None](None)
    defaults = Field[dict[str, Any] | None](None)
    description = Field[str | None](None)
    input_schema = Field[dict[str, Any] | None](None)
    source = Field[str | None](None)
    url = Field[str | None](None)
    secret = Field[str | None](None)
    created_at = Field[str | None](None)
    updated_at = Field[str | None](None)

    @property
    def id(self) -> str:
        """An alias of `agent_id`."""
        return self.agent_id


class Team(Model):
    """Agents that do a turn together; its id is the `agent_id` of an execute."""

    id = Field("")
    name = Field[str | None](None)
    description = Field[str | None](None)
    strategy = Field[str | None](None)
    members = Field[list[Any] | None](None)
    lead = Field[str | None](None)
    on_failure = Field[str | None](None)
    defaults = Field[dict[str, Any] | None](None)
    created_at = Field[str | None](None)
    updated_at = Field[str | None](None)


class File(Model):
    """A file: `size` in bytes, `sha256` of its content in hexadecimal."""

    id = Field("")
    name = Field("")
    size = Field(0)
    sha256 = Field("")
    content_type = Field("")
    subject = Field[str | None](None)
    session_id = Field[str | None](None)
    created_at = Field[str | None](None)


class Token(Model):
    """A client token; `token` is the credential and does not show in `repr`."""

    _secret = frozenset({"token"})

    token = Field("")
    expires_at = Field[str | None](None)
    scopes = Field[list[str] | None](None)
    subject = Field[str | None](None)


class SignInLink(Model):
    """A link that signs in to the server's console, once and within ten minutes: `path` behind the
    server's address. `code` and `path` do not show in `repr`."""

    _secret = frozenset({"code", "path"})

    code = Field("")
    path = Field("")
    expires_at = Field("")


class SigningKey(Model):
    """The key that signs new tokens; `former` keys still verify those that are out."""

    id = Field("")
    created_at = Field("")
    former = Field(0)


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


class Event(Model):
    """A platform event; `cursor` is its place in the organization's log.

    `created_at` is RFC 3339, UTC, as the server wrote it; `time` the same as a datetime. Where a
    subscription had to start later than asked (`on_expired="earliest"`), one of type `gap` stands
    first, with nothing but `cursor`: the place from which events are still kept.
    """

    id = Field("")
    type = Field("")
    channel = Field("")
    created_at = Field("")
    cursor = Field("")

    @property
    def data(self) -> dict[str, Any]:
        """The event's payload; its fields depend on `type`."""
        return _object(self.raw.get("data"))

    @property
    def metadata(self) -> dict[str, Any]:
        """organization_id, key_id, request_id, and what else the server knows about its origin."""
        return _object(self.raw.get("metadata"))

    @property
    def time(self) -> datetime | None:
        """`created_at` as a datetime in UTC; None where there is none."""
        try:
            return datetime.fromisoformat(self.created_at)
        except ValueError:
            return None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class Page(Generic[M_co]):
    """One page of a list; iterates over its items. `next_cursor` asks for the next one."""

    def __init__(self, raw: Mapping[str, Any], make: Callable[[Mapping[str, Any]], M_co]) -> None:
        items = raw.get("data")
        self.data: list[M_co] = [make(item) for item in items] if isinstance(items, list) else []
        cursor = raw.get("next_cursor")
        self.next_cursor: str | None = cursor if isinstance(cursor, str) else None
        self.has_more: bool = bool(raw.get("has_more"))

    def __iter__(self) -> Iterator[M_co]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Page({len(self.data)} items, has_more={self.has_more})"


class MessagePage(Page[Message]):
    """Messages, the oldest first; `next_cursor` asks for older ones.

    `position`, on the page that was asked for without a cursor, is the last chunk that the messages
    show: `join(session_id, resume_from=page.position)` goes on from there.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw, Message)
        position = raw.get("position")
        self.position: int | None = position if isinstance(position, int) else None


class Organization(Model):
    """A tenant of one server. Times are RFC 3339; `disabled_at` None: it is not disabled."""

    _secret = frozenset({"key"})

    id = Field("")
    name = Field("")
    created_at = Field("")
    disabled_at = Field[str | None](None)

    @property
    def key(self) -> ApiKey | None:
        """Its first key, there only when the organization was just made."""
        key = self.raw.get("key")
        return ApiKey(key) if isinstance(key, dict) else None


class ServerNode(Model):
    """A process that serves the store. Its start, turns and streams are None if it did not answer.
    `last_seen_seconds` is the time since it was last seen alive."""

    id = Field("")
    name = Field("")
    version = Field("")
    started_at = Field[str | None](None)
    last_seen_seconds = Field(0.0)
    running_turns = Field[int | None](None)
    queued_turns = Field[int | None](None)
    open_streams = Field[int | None](None)


class AgentWorker(Model):
    """A worker that serves an agent: `running` of its `capacity` turns. `node` has its socket."""

    id = Field("")
    agent_id = Field("")
    name = Field("")
    node = Field("")
    capacity = Field(0)
    running = Field(0)
    draining = Field(False)
    connected_at = Field[str | None](None)


class Webhook(Model):
    """An address to which events are sent. `secret` is there only where it is new, and does not
    show in `repr`. `failing_since` is of the event that its receiver does not take."""

    _secret = frozenset({"secret"})

    id = Field("")
    url = Field("")
    description = Field("")
    events = Field[list[str] | None](None)
    filters = Field[dict[str, Any] | None](None)
    format = Field("event")
    headers = Field[list[str] | None](None)
    enabled = Field(False)
    disabled_reason = Field[str | None](None)
    created_at = Field("")
    updated_at = Field("")
    cursor = Field("")
    resending = Field(False)
    failing_since = Field[str | None](None)
    attempts = Field(0)
    next_try_at = Field[str | None](None)
    lost_before = Field[str | None](None)
    secret = Field[str | None](None)


class WebhookDelivery(Model):
    """One attempt to deliver an event. `error` None: the receiver has taken it."""

    id = Field("")
    event_id = Field("")
    event_type = Field("")
    attempt = Field(0)
    status = Field[int | None](None)
    error = Field[str | None](None)
    answer = Field[str | None](None)
    duration_ms = Field(0)
    created_at = Field("")
    next_try_at = Field[str | None](None)


class UsageRow(Model):
    """The tokens, steps and time of one group of turns; `group_by` decides which names it has."""

    turns = Field(0)
    input_tokens = Field(0)
    output_tokens = Field(0)
    total_tokens = Field(0)
    steps = Field(0)
    duration_ms = Field(0)
    day = Field[str | None](None)
    agent_id = Field[str | None](None)
    key_id = Field[str | None](None)
    subject = Field[str | None](None)
    session_id = Field[str | None](None)
    turn = Field[int | None](None)
    status = Field[str | None](None)
    ended_at = Field[str | None](None)


class UsageReport(Page[UsageRow]):
    """One page of groups; `totals` are over all of them. `budget` is the organization's of this
    month (`monthly_tokens`, `used_tokens`, `resets_at`), None without one."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw, UsageRow)
        totals, budget = raw.get("totals"), raw.get("budget")
        self.totals = UsageRow(totals if isinstance(totals, dict) else {})
        self.budget: dict[str, Any] | None = budget if isinstance(budget, dict) else None
