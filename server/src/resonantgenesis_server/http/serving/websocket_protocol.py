"""The WebSocket protocol class of our own `serve`, and the settings it runs with.

The shell works without it, under any ASGI server. With it, a live message costs one `write` of a
frame that all its sockets share, compression keeps no context on the server's side, a ping is not
held against a client that still has bytes to take, and every close ends within a bound.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, TypedDict

from starlette.types import Scope
from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from ...model.errors import ApiError, InvalidRequest, NotFound, UpgradeRequired
from ...model.ids import new_id
from ..cors import HeaderList
from ..errors import error_body, error_headers, method_not_allowed
from ..limits import Allowance, SocketLimits
from ..params import announces_body

EXTENSION = "resonantgenesis.socket"
#: Large enough for messages of our size; the server's compressor is made anew for each.
WINDOW_BITS = 12
#: Unsent bytes beyond which pings are not answered before the client has taken some.
_PONGS_BEHIND = 64 * 1024
#: Bytes handed to the parser at once: a frame may have 6, and parsing one takes 10 µs.
_PIECE = 2_048
#: Of one message.
_MAX_FRAGMENTS = 1_024
_DEFAULTS = SocketLimits()

_COMPRESSION = [
    ServerPerMessageDeflateFactory(
        server_no_context_takeover=True,
        server_max_window_bits=WINDOW_BITS,
        client_max_window_bits=WINDOW_BITS,
        compress_settings={"memLevel": 5},
    )
]

#: What a client does wrong is told to the client; here it would only fill the log.
_library_log = logging.getLogger("resonantgenesis.http.websockets")
_library_log.setLevel(logging.ERROR)


class Gate:
    """An asyncio.Event without a deque for its waiters, which takes 700 bytes: hardly ever does
    anybody wait."""

    __slots__ = ("_is_open", "_opened")

    def __init__(self) -> None:
        self._is_open = True
        self._opened: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._is_open

    def clear(self) -> None:
        self._is_open = False

    def set(self) -> None:
        self._is_open = True
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.set_result(None)

    async def wait(self) -> None:
        """Wait until it is open."""
        while not self._is_open:
            if self._opened is None:
                self._opened = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._opened)


class Arrivals:
    """The messages for the application, its only reader: an asyncio.Queue without its three deques
    and its event."""

    __slots__ = ("_messages", "_reader")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._reader: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        return not self._messages

    def put_nowait(self, message: Any) -> None:
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def get_nowait(self) -> Any:
        return self._messages.pop(0)

    async def get(self) -> Any:
        """Wait for the next message."""
        while not self._messages:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.get_nowait()


class SocketConnection:
    """The connection of a socket, for the application."""

    __slots__ = ("_protocol", "full", "on_full", "transport", "window_bits")

    def __init__(self, protocol: SocketProtocol) -> None:
        self._protocol = protocol
        self.transport: asyncio.Transport = protocol.transport
        #: More is unsent than the transport's bound: nothing may be written now.
        self.full = not protocol.writable.is_set()
        #: Of the compression that was agreed on; None: none was.
        self.window_bits = _window_bits(protocol.conn)
        #: Called when nothing may be written until the connection is open and not full.
        self.on_full: Callable[[], None] | None = None

    def hold(self) -> None:
        """Nothing may be written now: the connection is full, or was closed from either side."""
        if self.on_full is not None:
            self.on_full()

    def allow(self, allowance: Allowance) -> None:
        """Count frames that are no whole messages against this one from now on."""
        self._protocol.allowance = allowance

    @property
    def open(self) -> bool:
        """Whether messages may still be sent."""
        protocol = self._protocol
        return protocol.conn.state is State.OPEN and not protocol.transport.is_closing()

    def send(self, data: bytes) -> bool:
        """Write frames. False: the connection is closed."""
        try:
            self.transport.write(data)
        except RuntimeError:  # uvloop's, between a reset and `connection_lost`
            return False
        return True

    async def drain(self) -> None:
        """Wait until the client has taken enough, or has left."""
        await self._protocol.writable.wait()


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with the connection in `scope["extensions"]`."""

    # Those of the base as well: a dict for so many takes 1,600 bytes, and there is one per socket.
    __slots__ = (
        "_abort_timer", "_is_reading", "_parsed", "_pings_wait", "_slowed", "_unread", "allowance",
        "app", "app_state", "asgi_version", "client", "close_sent", "close_timeout", "close_timer",
        "config", "conn", "connection", "connections", "curr_msg_data_type", "default_headers",
        "disconnected", "frames", "handshake_complete", "handshake_initiated", "initial_response",
        "last_ping_rtt", "logger", "loop", "pending_ping_payload", "ping_interval", "ping_sent_at",
        "ping_timeout", "ping_timer", "pong_timer", "queue", "read_paused", "request", "response",
        "root_path", "scheme", "scope", "server", "tasks", "transport", "writable",
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.queue = Arrivals()  # type: ignore[assignment]  # what is asked of it is here
        self.writable = Gate()  # type: ignore[assignment]
        self.conn = Handshaking(
            self._headers_of_app,
            extensions=_COMPRESSION if config.ws_per_message_deflate else [],
            max_size=config.ws_max_size,
            logger=_library_log,
        )
        self.logger = _library_log
        self.connection: SocketConnection | None = None
        self.allowance = Allowance(_DEFAULTS.messages_per_second, self.loop.time())
        #: What has come and was not parsed yet.
        self._unread = bytearray()
        #: What was parsed and not handled yet, the newest first.
        self._parsed: list[Event] = []
        self._pings_wait = False
        #: Too many frames have come: none is read until this fires.
        self._slowed: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._abort_timer: asyncio.TimerHandle | None = None

    def _headers_of_app(self, headers: HeaderList) -> tuple[str, HeaderList]:
        """The id of a refused handshake, and what the app adds to each of its answers."""
        headers_for = getattr(self.app, "headers_for", None)
        if headers_for is None:
            return new_id("req"), []
        request_id, more = headers_for({"headers": headers})
        return request_id, [*self.default_headers, *more]

    # -- the application -------------------------------------------------------------------

    async def run_asgi(self) -> None:
        self.connection = SocketConnection(self)
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[EXTENSION] = self.connection
        await super().run_asgi()
        self._abort_later()

    async def send(self, message: ASGISendEvent) -> None:
        await self.writable.wait()
        # After a close that the connection itself began, uvicorn would call this a misuse.
        if self.conn.parser_exc is not None or self.conn.state is State.CLOSED:
            raise ClientDisconnected
        if self.handshake_complete and self.close_sent:
            raise ClientDisconnected
        closes = message["type"] == "websocket.close"
        if closes:
            self.read_paused = False  # nothing that comes now is for the application
        await super().send(message)
        if message["type"] == "websocket.accept" and self.handshake_complete:
            # Some 4 KB that nobody asks for again. The library's parser keeps the request.
            self.request.headers.clear()
            del self.request, self.response, self.scope
        if closes:
            self._take_in()
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # else uvicorn calls a refusal a defect of the app

    # -- the connection --------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
        if self._slowed is not None:
            self._slowed.cancel()
            self._slowed = None
            self._unread.clear()
            self._parsed.clear()
        self._pings_wait = False
        self._hold()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.connection is not None:
            self.connection.full = True
            self._hold()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.connection is not None:
            self.connection.full = False
        if self._pings_wait:
            self._pings_wait = False
            self._take_in()

    # -- what comes in ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._take_in()

    def _take_in(self) -> None:
        """Do with what has come all that may be done now, and read on when nothing of it is left.

        A packet may hold ten thousand frames. So they are parsed a few at a time, and before each
        is handled it is asked again whether the application has taken the message before, and
        whether frames came too fast.
        """
        while self._may_take_in and self._take_one():
            pass
        if self.transport.is_closing():
            return
        reads = self._may_take_in
        if reads != self._is_reading:
            self._is_reading = reads
            (self.transport.resume_reading if reads else self.transport.pause_reading)()

    def _take_one(self) -> bool:
        """Handle a frame, or parse some more. False: there is nothing left."""
        if self._parsed:
            self._handle(self._parsed.pop())
        elif self.conn.parser_exc is not None:
            self._unread.clear()
            self._fail()  # what came before a broken frame is still a message
            return False
        elif self._unread:
            piece = bytes(self._unread[:_PIECE])
            del self._unread[:_PIECE]
            self.conn.receive_data(piece)
            self._parsed = self.conn.events_received()[::-1]
            if self.conn.handshake_exc is not None and not self.handshake_complete:
                self._refuse_handshake()
        else:
            return False
        return True

    @property
    def _may_take_in(self) -> bool:
        """Whether another frame may be looked at now."""
        if self.transport.is_closing() and not self.disconnected:
            return False
        return not (self.read_paused or self._pings_wait or self._slowed is not None)

    def _handle(self, event: Event) -> None:
        self.conn.events.append(event)
        self.handle_events()
        if not isinstance(event, Frame) or event.opcode is Opcode.CLOSE:
            return
        is_message = event.fin and event.opcode not in {Opcode.PING, Opcode.PONG}
        if is_message and not self.close_sent:
            return  # or the last of its frames: who takes it counts it
        wait = self.allowance.charge(self.loop.time(), 1)
        if wait and self.disconnected:
            self._unread.clear()  # of a client that is gone no more is waited for
            self._parsed.clear()
        elif wait and self._slowed is None:
            self._slowed = self.loop.call_later(wait, self._go_on)

    def _go_on(self) -> None:
        self._slowed = None
        self._take_in()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _MAX_FRAGMENTS:
            self._fail(1009, f"a message has at most {_MAX_FRAGMENTS} fragments")
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        data = b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        message: Any = {"type": "websocket.receive", "bytes": data}
        if self.curr_msg_data_type == "text":
            try:
                message = {"type": "websocket.receive", "text": data.decode()}
            except UnicodeDecodeError:
                self._fail(1007, "not UTF-8")
                return
        self.queue.put_nowait(message)
        self.read_paused = True

    def handle_ping(self) -> None:
        if self.disconnected:
            return
        super().handle_ping()
        if self.transport.get_write_buffer_size() > _PONGS_BEHIND:
            self._pings_wait = True

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.queue.empty():
            self.read_paused = False
            self._take_in()
            if message["type"] == "websocket.disconnect" and not self.queue.empty():
                # What had come whole before the connection was lost comes first.
                self.queue.put_nowait(message)
                return self.queue.get_nowait()
        return message

    def handle_close(self, event: Frame) -> None:
        self._hold()
        super().handle_close(event)
        self._abort_later()

    def keepalive_timeout(self) -> None:
        if self.transport.get_write_buffer_size() > 0 or not self._is_reading:
            # The ping itself may not have reached the client, or its answer is among what we do
            # not read now; whether it moves at all is for the watch over stalled clients to say.
            self.pong_timer = self.loop.call_later(self.ping_timeout or 0, self.keepalive_timeout)
            return
        self._hold()
        super().keepalive_timeout()
        self._abort_later()

    def shutdown(self) -> None:
        self._hold()
        super().shutdown()
        self._abort_later()

    # -- endings ---------------------------------------------------------------------------

    def _fail(self, code: int = 1002, reason: str = "") -> None:
        """The client broke the protocol: a close frame, if none was sent, and the end."""
        self._hold()
        if self.conn.parser_exc is None:
            self.conn.fail(code, reason)
        sent = self.conn.close_sent
        self.queue.put_nowait(
            {
                "type": "websocket.disconnect",
                "code": code if sent is None else sent.code,
                "reason": reason if sent is None else sent.reason,
            }
        )
        self._finish()

    def _refuse_handshake(self) -> None:
        self.handshake_complete = True
        self._finish()

    def _finish(self) -> None:
        self.close_sent = True
        output = b"".join(self.conn.data_to_send())
        if output and not self.transport.is_closing():
            self.transport.write(output)
        self.transport.close()
        self._abort_later()

    def _hold(self) -> None:
        """Behind a close frame, and to who takes nothing, no message is sent."""
        if self.connection is not None:
            self.connection.hold()

    def _abort_later(self) -> None:
        """A client that takes no more bytes must not keep its connection for ever."""
        if self._abort_timer is None and not self.disconnected:
            self._abort_timer = self.loop.call_later(self.close_timeout, self.transport.abort)


class SocketSettings(TypedDict):
    """Those of uvicorn's settings that are about sockets."""

    ws: type[SocketProtocol]
    ws_max_size: int
    ws_ping_interval: float
    ws_ping_timeout: float
    ws_per_message_deflate: bool


#: For `uvicorn.Config`: pings every 25 s, 10 s for the answer; PROTOCOL.md, section 6.
SOCKET_SETTINGS: SocketSettings = {
    "ws": SocketProtocol,
    "ws_max_size": _DEFAULTS.message,
    "ws_ping_interval": 25.0,
    "ws_ping_timeout": 10.0,
    "ws_per_message_deflate": True,
}


def socket_of(scope: Scope) -> SocketConnection | None:
    """The socket's connection, if the server gives it."""
    connection = scope.get("extensions", {}).get(EXTENSION)
    return connection if isinstance(connection, SocketConnection) else None


def _window_bits(conn: ServerProtocol) -> int | None:
    for extension in conn.extensions:
        if isinstance(extension, PerMessageDeflate):
            return extension.local_max_window_bits
    return None


#: From a request's headers to its id, and to what every answer to it says.
HeadersFor = Callable[[HeaderList], tuple[str, HeaderList]]

VERSION = "13"
#: What a request must say; proxies that are not told otherwise leave both out.
_ASKING = (("Upgrade", "websocket"), ("Connection", "Upgrade"))


def handshake_error(headers: Iterable[tuple[bytes, bytes]]) -> ApiError | None:
    """Why a GET with these headers opens no socket; None if it does."""
    fields: dict[str, list[str]] = {}
    for name, value in headers:
        fields.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    missing = [
        name for name, wanted in _ASKING if wanted.lower() not in _words(fields.get(name.lower()))
    ]
    if missing:
        return _no_upgrade(missing)
    key = fields.get("sec-websocket-key", [])
    if len(key) != 1 or not _is_key(key[0]):
        return _Malformed.field("Sec-WebSocket-Key", "is 16 bytes in base64, once")
    if fields.get("sec-websocket-version") != [VERSION]:
        return UpgradeRequired.field("Sec-WebSocket-Version", f"is {VERSION}, once")
    return None


def not_taken(scope: Scope) -> ApiError:
    """Why a request whose headers are those of a handshake opens no socket all the same."""
    if scope["http_version"] != "1.1":
        return UpgradeRequired(
            "this path is a WebSocket, and the request came in HTTP/1.0, which cannot become one;"
            " let the proxy in between speak HTTP/1.1 (nginx: proxy_http_version 1.1)"
        )
    if announces_body(scope):
        return _Malformed("a WebSocket handshake has no body")
    if any(n == b"upgrade" and v.lower() != b"websocket" for n, v in scope["headers"]):
        return UpgradeRequired.field("Upgrade", "is websocket and nothing else, once")
    return NotFound("this server takes no sockets")


class _Malformed(InvalidRequest):
    """A handshake that is none."""

    status = 400


def _no_upgrade(missing: list[str]) -> UpgradeRequired:
    named = " and ".join(f"{name}: {value}" for name, value in _ASKING if name in missing)
    return UpgradeRequired(
        f"this path is a WebSocket, and the request came without {named};"
        " connect with a WebSocket client, and let proxies in between pass both headers on",
        details={"missing": missing},
    )


def _words(values: list[str] | None) -> set[str]:
    return {word.strip().lower() for value in values or () for word in value.split(",")}


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == 16
    except ValueError:
        return False


class Handshaking(ServerProtocol):
    """The library's protocol, which refuses handshakes in the form of all our errors."""

    def __init__(self, headers_for: HeadersFor, **options: Any) -> None:
        """`headers_for`: an id for the request, and the headers that go with any answer to it."""
        super().__init__(**options)
        self._headers_for = headers_for

    def accept(self, request: Request) -> Response:
        headers = [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "surrogateescape"))
            for name, value in request.headers.raw_items()
        ]
        error = handshake_error(headers) if request.method == "GET" else _only_get()
        if error is None:
            response = super().accept(request)
            if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                return response
            error = _Malformed("the request is no WebSocket handshake; see RFC 6455, section 4.1")
        request_id, more = self._headers_for(headers)
        return _answer(error, request_id, more)


def _only_get() -> ApiError:
    return method_not_allowed({"GET"})


def _answer(error: ApiError, request_id: str, more: HeaderList) -> Response:
    body = error_body(error, request_id)
    own = error_headers(error)
    also = own.pop("Connection", None)
    found = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in more])
    found.update(own)
    found["Connection"] = "close" if also is None else f"{also}, close"
    found["Content-Type"] = "application/json"
    found["Content-Length"] = str(len(body))
    status = HTTPStatus(error.status)
    return Response(status.value, status.phrase, found, body)
