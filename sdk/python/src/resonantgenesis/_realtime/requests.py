"""Questions on a socket: each has an id, one answer, and is asked again on the next socket."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._core.messages import error_from_chunk
from .._core.retry import Retries
from ..errors import ConnectionLost, InvalidRequest, StreamError

#: What a server takes in one message, in bytes (PROTOCOL.md, section 9).
MAX_MESSAGE = 256 * 1024

Message = dict[str, Any]


@dataclass(slots=True)
class Ask:
    """`message` is made anew each time, since places move on.

    `lasting`: asked again on the next socket. `due`: when to ask again; None: asked, or not yet.
    """

    message: Callable[[], Message]
    answered: Callable[[Mapping[str, Any]], None]
    failed: Callable[[StreamError], None]
    retries: Retries
    lasting: bool = True
    id: str = ""
    due: float | None = None


@dataclass(slots=True)
class Asks:
    """What was asked and not yet answered; `outbox`: what is to be sent, oldest first."""

    outbox: deque[str] = field(default_factory=deque)
    linked: bool = False
    _open: dict[str, Ask] = field(default_factory=dict)
    _count: int = 0

    def ask(self, ask: Ask) -> Ask:
        """Asks: now, when it is due, or once there is a socket."""
        self._count += 1
        ask.id = f"q{self._count}"
        self._open[ask.id] = ask
        if self.linked and ask.due is None:
            self._send(ask)
        return ask

    def say(self, message: Message) -> None:
        """Says something whose answer does not matter."""
        if self.linked:
            self.outbox.append(_text(message))

    def withdraw(self, ask: Ask) -> None:
        """The answer does not matter any more."""
        self._open.pop(ask.id, None)

    def answer(self, message: Mapping[str, Any], now: float) -> bool:
        """Hands an answer, or an error, to the question it belongs to; False if there is none."""
        ask = self._open.get(str(message.get("id") or ""))
        if ask is None:
            return False
        if message.get("type") != "error":
            del self._open[ask.id]
            ask.answered(message)
            return True
        error = error_from_chunk(message, session_id=None, position=None)
        wait = ask.retries.after(error) if error.retryable and _passes(error) else None
        if wait is None:
            del self._open[ask.id]
            ask.failed(error)
        else:
            ask.due = now + wait.seconds
        return True

    def tick(self, now: float) -> float | None:
        """Asks again what is due; when to call this next, None: no need to."""
        waiting = [ask for ask in self._open.values() if ask.due is not None]
        for ask in [ask for ask in waiting if ask.due is not None and ask.due <= now]:
            ask.due = None
            self._send(ask)
        return min((ask.due for ask in waiting if ask.due is not None), default=None)

    def link_up(self) -> None:
        """There is a socket: everything that lasts is asked on it."""
        self.linked = True
        for ask in list(self._open.values()):
            ask.due = None
            self._send(ask)

    def link_down(self) -> None:
        """The socket is gone, and what was on its way with it."""
        self.linked = False
        self.outbox.clear()
        passing = [ask for ask in self._open.values() if not ask.lasting]
        self._open = {key: ask for key, ask in self._open.items() if ask.lasting}
        for ask in passing:
            ask.failed(ConnectionLost("the socket was lost before it answered"))

    def fail(self, error: StreamError) -> None:
        """There will be no answers."""
        asks, self._open = list(self._open.values()), {}
        for ask in asks:
            ask.failed(error)

    def _send(self, ask: Ask) -> None:
        text = _text({**ask.message(), "id": ask.id})
        if len(text) <= MAX_MESSAGE:
            self.outbox.append(text)
            return
        # Sent, it would end the socket, for all who share it.
        self._open.pop(ask.id, None)
        ask.failed(
            InvalidRequest(f"the message is over {MAX_MESSAGE} bytes", code="PAYLOAD_TOO_LARGE")
        )


def _passes(error: StreamError) -> bool:
    """Whether time alone may help; a busy session is the caller's to wait for."""
    return error.code in ("RATE_LIMITED", "UNAVAILABLE", "INTERNAL")


def _text(message: Message) -> str:
    # ASCII, so that characters are bytes.
    return json.dumps(message, allow_nan=False, separators=(",", ":"))
