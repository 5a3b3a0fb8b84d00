"""The message machine of a socket: a client's texts become actions. No I/O.

The shell hands over one message at a time. It hands over the next one when the actions of the
first are done; only an `Execute` may go on. So messages that follow an `auth` at once wait in the
connection, where the client's own flow control bounds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ...codec.strict_json import parse_json
from ...codec.websocket import control
from ...model.errors import (
    ApiError,
    InvalidJson,
    InvalidRequest,
    PayloadTooLarge,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from ...model.events import CHANNELS
from ...model.limits import KIB
from ..api.session_models import validated
from ..errors import DEFAULT_RETRY_AFTER
from ..limits import Allowance, SocketLimits
from .messages import (
    CLIENT_MESSAGES,
    SESSION_PREFIX,
    Action,
    Authenticate,
    AuthMessage,
    Cancel,
    CancelMessage,
    ClientMessage,
    Close,
    Execute,
    ExecuteMessage,
    GiveInput,
    InputMessage,
    MessageId,
    PingMessage,
    Post,
    PostMessage,
    Reply,
    SubscribeEvents,
    SubscribeMessage,
    SubscribeSession,
    Unsubscribe,
    UnsubscribeMessage,
    message_id,
    session_in,
)

#: Close codes of section 6.
TOO_MANY_ERRORS, REFUSED, NO_AUTH, TOO_FAST = 4400, 4401, 4408, 4429
#: Bytes of a message before authentication. A token has at most 8 KiB.
FIRST_MESSAGE = 16 * KIB
#: Statuses of a client's mistakes. Others (busy, gone, expired) are no bad messages.
_MISTAKES = frozenset({400, 401, 403, 413, 422})


State = Literal["new", "checking", "authenticated", "closed"]


class SocketMachine:
    """One connection. Times are seconds of a monotonic clock. Raises nothing."""

    def __init__(
        self, limits: SocketLimits, now: float, *, authenticated: bool, lenient: bool = False
    ) -> None:
        """`lenient`: unknown fields pass."""
        self._limits = limits
        self._lenient = lenient
        self._state: State = "authenticated" if authenticated else "new"
        self._overdue = False
        #: Shared with the connection, which counts frames that are not whole messages.
        self.allowance = Allowance(limits.messages_per_second, now)
        #: When the newest were made, as many as end the connection.
        self._mistakes: list[float] = []

    @property
    def state(self) -> State:
        return self._state

    def text(self, data: str, now: float) -> list[Action]:
        """Take a text message."""
        if self._state == "closed":
            return []
        if not self.allowance.take(now):
            return [self._close(TOO_FAST, "too many messages")]
        reply_to: MessageId | None = None
        try:
            value = self._parsed(data)
            reply_to = message_id(value)
            return [self._action_of(value)]
        except ApiError as error:
            return self.failed(error, reply_to, now)

    def binary(self, now: float) -> list[Action]:
        """Take a binary message, which is a mistake."""
        if self._state == "closed":
            return []
        if not self.allowance.take(now):
            return [self._close(TOO_FAST, "too many messages")]
        return self.failed(InvalidRequest("messages are JSON texts, not binary"), None, now)

    def authenticated(self) -> None:
        """The credential is valid; it may be the socket's second one."""
        if self._state != "closed":
            self._state = "authenticated"

    def refused(self, error: ApiError, reply_to: MessageId | None) -> list[Action]:
        """The credential is not valid, or has ended."""
        if self._state == "closed":
            return []
        return [error_reply(error, reply_to), self._close(REFUSED, error.message)]

    def auth_overdue(self) -> list[Action]:
        """The time for the first message is over."""
        self._overdue = True
        if self._state != "new":
            return []  # an auth message that came in time may still be under check
        return [self._close(NO_AUTH, "no auth message came in time")]

    def displaced(self) -> list[Action]:
        """Too many sockets wait to be authenticated: this one must go."""
        if self._state != "new":
            return []
        return [self._close(NO_AUTH, "no auth message yet, and others wait")]

    def failed(self, error: ApiError, reply_to: MessageId | None, now: float) -> list[Action]:
        """A request failed, in the machine or in the shell."""
        if self._state == "closed":
            return []
        actions: list[Action] = [error_reply(error, reply_to)]
        if self._state == "checking":
            self._state = "new"
            if self._overdue:
                return [*actions, self._close(NO_AUTH, "no auth message came in time")]
        if error.status in _MISTAKES:
            self._mistakes = [*self._mistakes, now][-self._limits.errors :]
            full = len(self._mistakes) == self._limits.errors
            if full and now - self._mistakes[0] < self._limits.errors_window:
                actions.append(self._close(TOO_MANY_ERRORS, "too many bad messages"))
        return actions

    # -- inside ----------------------------------------------------------------------------

    def _close(self, code: int, reason: str) -> Close:
        self._state = "closed"
        return Close(code, reason)

    def _parsed(self, data: str) -> object:
        raw = data.encode("utf-8", "surrogatepass")
        known = self._state == "authenticated"
        limit = self._limits.message if known else min(self._limits.message, FIRST_MESSAGE)
        if len(raw) > limit:
            raise PayloadTooLarge(f"the message is over {limit} bytes", details={"limit": limit})
        if not raw:
            raise InvalidJson("the message is empty; send a JSON object")
        value: object = parse_json(
            raw, self._limits.json_depth, self._limits.json_values, "message"
        )
        return value

    def _action_of(self, value: object) -> Action:
        if not isinstance(value, dict):
            raise InvalidRequest('a message is a JSON object like {"type":"ping"}')
        kind = value.get("type")
        if self._state == "new":
            return self._credential(value, kind)
        known = CLIENT_MESSAGES.get(kind) if isinstance(kind, str) else None
        if known is None:
            raise InvalidRequest.field("type", f"is one of {', '.join(CLIENT_MESSAGES)}")
        # Clients put times and padding into their pings, and a ping has nothing to misread.
        lenient = self._lenient or known is PingMessage
        return _action(validated(known, value, lenient=lenient))

    def _credential(self, value: dict[str, object], kind: object) -> Authenticate:
        """The credential of a first message. Other fields are ignored."""
        if kind != "auth":
            raise Unauthenticated('the first message must be {"type":"auth","token":…}')
        fields = {name: value[name] for name in ("type", "token", "id") if name in value}
        message = validated(AuthMessage, fields)
        self._state = "checking"
        return Authenticate(message.token, message.id)


_UNCHANGED: dict[type[ClientMessage], Callable[[Any], Action]] = {
    ExecuteMessage: Execute,
    CancelMessage: Cancel,
    PostMessage: Post,
    InputMessage: GiveInput,
}


def _action(message: ClientMessage) -> Action:
    match message:
        case AuthMessage():
            return Authenticate(message.token, message.id)
        case SubscribeMessage():
            return _subscribe(message)
        case UnsubscribeMessage():
            return Unsubscribe(_known_channels(message.channels), message)
        case ExecuteMessage() | CancelMessage() | PostMessage() | InputMessage():
            return _UNCHANGED[type(message)](message)
        case PingMessage():
            return Reply(control("pong", id=message.id))
        case _:
            raise InvalidRequest.field("type", "is not known")


def _subscribe(message: SubscribeMessage) -> SubscribeEvents | SubscribeSession:
    channels = _known_channels(message.channels)
    sessions = [channel for channel in channels if channel.startswith(SESSION_PREFIX)]
    if not sessions:
        return SubscribeEvents(channels, message)
    if len(channels) > 1:
        raise InvalidRequest.field("channels", "a session's is subscribed to by itself")
    return SubscribeSession(sessions[0].removeprefix(SESSION_PREFIX), message)


def _known_channels(channels: list[str]) -> tuple[str, ...]:
    """The channels, each once, in order. Raises InvalidRequest for unknown ones."""
    for channel in channels:
        if channel not in CHANNELS and session_in(channel) is None:
            known = ", ".join([*CHANNELS, SESSION_PREFIX + "ID"])
            raise InvalidRequest.field("channels", f"{channel[:80]!r} is not one of {known}")
    return tuple(dict.fromkeys(channels))


def error_reply(error: ApiError, reply_to: MessageId | None) -> Reply:
    """An error message, with the id that the client gave."""
    retry_after = error.retry_after
    if retry_after is None and isinstance(error, RateLimited | Unavailable):
        retry_after = DEFAULT_RETRY_AFTER  # PROTOCOL.md promises a number for these errors
    return Reply(
        control(
            "error",
            code=error.code,
            message=error.message,
            details=error.details or None,
            retry_after=retry_after,
            id=reply_to,
        )
    )
