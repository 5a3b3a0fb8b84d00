"""Requests on a socket: each has an id and one answer, and is repeated on the next socket."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._core.messages import error_from_chunk
from .._core.retry import RetryBudget
from ..errors import ConnectionLost, InvalidRequest, StreamError

#: The server's limit for one message, in bytes (PROTOCOL.md, section 9).
MAX_MESSAGE = 256 * 1024

Message = dict[str, Any]


@dataclass(slots=True)
class SocketRequest:
    """`message` is made anew each time, since places move on.

    `lasting`: asked again on the next socket. `due`: when to ask again; None: asked, or not yet.
    """

    message: Callable[[], Message]
    answered: Callable[[Mapping[str, Any]], None]
    failed: Callable[[StreamError], None]
    retries: RetryBudget
    lasting: bool = True
    id: str = ""
    due: float | None = None


@dataclass(slots=True)
class PendingRequests:
    """The requests without an answer; `outbox` has the texts to send, oldest first."""

    outbox: deque[str] = field(default_factory=deque)
    connected: bool = False
    _open: dict[str, SocketRequest] = field(default_factory=dict)
    _count: int = 0

    def put(self, request: SocketRequest) -> SocketRequest:
        """Send a request now, when it is due, or once there is a socket."""
        self._count += 1
        request.id = f"q{self._count}"
        self._open[request.id] = request
        if self.connected and request.due is None:
            self._send(request)
        return request

    def say(self, message: Message) -> None:
        """Send a message that needs no answer."""
        if self.connected:
            self.outbox.append(_text(message))

    def withdraw(self, request: SocketRequest) -> None:
        """Forget a request: its answer does not matter any more."""
        self._open.pop(request.id, None)

    def answer(self, message: Mapping[str, Any], now: float) -> bool:
        """Hand an answer or error to its request; False if there is no such request."""
        request = self._open.get(str(message.get("id") or ""))
        if request is None:
            return False
        if message.get("type") != "error":
            del self._open[request.id]
            request.answered(message)
            return True
        error = error_from_chunk(message, session_id=None, position=None)
        wait = request.retries.after(error) if error.retryable and _passes(error) else None
        if wait is None:
            del self._open[request.id]
            request.failed(error)
        else:
            request.due = now + wait.seconds
        return True

    def tick(self, now: float) -> float | None:
        """Repeat the requests that are due; returns the next time to call this, or None."""
        waiting = [request for request in self._open.values() if request.due is not None]
        for request in [
            request for request in waiting if request.due is not None and request.due <= now
        ]:
            request.due = None
            self._send(request)
        return min((request.due for request in waiting if request.due is not None), default=None)

    def socket_opened(self) -> None:
        """Send all lasting requests on a new socket."""
        self.connected = True
        for request in list(self._open.values()):
            request.due = None
            self._send(request)

    def socket_lost(self) -> None:
        """Note that the socket is gone; requests that do not last fail."""
        self.connected = False
        self.outbox.clear()
        passing = [request for request in self._open.values() if not request.lasting]
        self._open = {key: request for key, request in self._open.items() if request.lasting}
        for request in passing:
            request.failed(ConnectionLost("the socket was lost before it answered"))

    def fail(self, error: StreamError) -> None:
        """Fail all requests."""
        requests, self._open = list(self._open.values()), {}
        for request in requests:
            request.failed(error)

    def _send(self, request: SocketRequest) -> None:
        text = _text({**request.message(), "id": request.id})
        if len(text) <= MAX_MESSAGE:
            self.outbox.append(text)
            return
        # Sent, it would end the socket, for all who share it.
        self._open.pop(request.id, None)
        request.failed(
            InvalidRequest(f"the message is over {MAX_MESSAGE} bytes", code="PAYLOAD_TOO_LARGE")
        )


class PendingReply:
    """The answer that a caller waits for; `wake` is called when it is there."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.answer: Mapping[str, Any] | None = None
        self.error: StreamError | None = None

    @property
    def there(self) -> bool:
        """Whether an answer or an error has come."""
        return self.answer is not None or self.error is not None

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Set the answer."""
        self.answer = answer
        self.wake()

    def failed(self, error: StreamError) -> None:
        """Set the error."""
        self.error = error
        self.wake()


def _passes(error: StreamError) -> bool:
    """Whether time alone may help; a busy session is the caller's to wait for."""
    return error.code in ("RATE_LIMITED", "UNAVAILABLE", "INTERNAL")


def _text(message: Message) -> str:
    # ASCII, so that characters are bytes.
    return json.dumps(message, allow_nan=False, separators=(",", ":"))
