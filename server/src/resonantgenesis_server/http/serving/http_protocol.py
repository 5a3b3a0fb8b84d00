"""HTTP/1.1 of our own `serve`: requests read strictly, answers, and streams written directly.

The application works under any ASGI server. Here a live chunk costs one `write` of bytes that all
its viewers share, instead of a task's wake-up for each viewer. A stream hears of its client's
leaving without a task, sees whether the client takes bytes, and can drop a connection on which a
polite close would wait for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import structlog

from ...model.ids import new_id
from ..cors import HeaderList
from .connection_limit import HEALTH_PATHS, has_input
from .connection_owner import ConnectionOwner
from .http_connection import EXTENSION, HttpConnection, RequestConnection
from .request_head import (
    LARGE_HEADERS,
    LONG_URL,
    TOO_MANY,
    Refused,
    RequestHead,
    raw_answer,
)
from .request_reader import RequestReader
from .stream_connection import EARLY_BYTES

log_ = structlog.get_logger("resonantgenesis.http")

#: Seconds in which a client that is still sending may read its answer, when the server stops.
_LAST_WORDS = 1.0
#: What the library for sockets reads of a request: fields, and bytes of a line.
_SOCKET_FIELDS, _SOCKET_LINE = 128, 8_190
#: The scope of a request that could not be read.
_UNREAD: Any = {"type": "http", "method": "GET", "headers": []}
#: Bytes of a body that have come and that the application has not read; then reading stops.
_UNREAD_BODY = 64 * 1024


class HttpProtocol(HttpConnection):
    """The protocol of a connection with requests.

    It reads one request at a time; later requests wait as bytes. Each request finds its
    `RequestConnection` in `scope["extensions"]`.
    """

    __slots__ = (
        "_half_closed", "_has_left", "_is_in_read", "_reader", "_reads_on", "_scope", "connection",
    )  # fmt: skip

    def __init__(self, owner: ConnectionOwner) -> None:
        super().__init__(owner)
        self._reader = RequestReader()
        self._scope: Any = _UNREAD
        self.connection: RequestConnection | None = None
        #: The client has ended its side and waits for the answer.
        self._half_closed = False
        #: A stream has the connection.
        self._has_left = False
        #: More of a body has come than is read in one go.
        self._reads_on = False
        #: `_read` is running, and takes up whatever its callees leave to it.
        self._is_in_read = False

    # -- the connection --------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        connection = self.connection
        if connection is not None:
            if not connection.response_complete:
                connection.disconnected = True
            connection.notify()
        super().connection_lost(exc)
        if connection is not None:
            connection.set_lost()
        if self.stream is not None:
            self.stream.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """A client may end its side and wait for its answer.

        A client that does so within a request has left. A client that does so within a stream is
        taken to have left: nothing tells it from one that closed.
        """
        connection = self.connection
        if self.stream is None and connection is not None and not connection.is_endless:
            answered = connection.response_complete or connection.disconnected
            if not answered and (self._reads_on or not self._reader.in_body):
                self._half_closed = True
                connection.set_ended()
                return True
        self._sending.watch()
        return None

    @property
    def is_reading(self) -> bool:
        return self._reader.in_body or self._half_closed

    def leave(self) -> bytes:
        self._stop_waiting()
        self._sending.stop()
        self.owner.connections.discard(self)
        # Else they would refer to each other, and live until the next collection.
        self.connection = None
        self._has_left = True
        self.flow.release()
        return self._reader.rest()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.stream is not None:
            self.stream.pause_writing()
        else:
            self._sending.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stream is not None:
            self.stream.resume_writing()

    def shutdown(self) -> None:
        """From the server: it stops. A request that has come is still answered, and a client that
        has just connected has a moment to send one."""
        self._stops = True
        speaks = self._reader.waiting or has_input(self.transport)
        if self._is_idle and (speaks or (self.connection is None and self._is_new)):
            self._expect_last_request()
            return
        if self.connection is None or self.connection.response_complete:
            self.transport.close()
        else:
            self.connection.keep_alive = False
        self._sending.watch()
        if self.stream is not None:
            self.stream.shutdown()
        elif self.connection is not None and self.connection.unread:
            # Answered within its body, as all are by now, and read on for as long as it sends.
            self.loop.call_later(_LAST_WORDS, self.transport.abort)

    def _linger(self) -> None:
        self._reader.rest()
        super()._linger()

    @property
    def _is_idle(self) -> bool:
        """No request is being read or answered."""
        answered = self.connection is None or self.connection.response_complete
        is_free = self.stream is None and not self._has_left
        return answered and is_free and not self._reader.in_body

    # -- reading ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._lingers is not None:
            self._pass_over(len(data))
            return
        self._reader.feed(data)
        self._read()

    def _read(self) -> None:
        """Take from the reader everything that can be dealt with now. A request that is answered
        within this call leaves the bytes behind it to this call."""
        if self._is_in_read:
            return
        self._is_in_read = True
        try:
            while self._take_part():
                pass
        finally:
            self._is_in_read = False
        too_much = self._reader.waiting > EARLY_BYTES
        # Of a head, or of what stands between chunks, more has to come.
        self.flow.held = too_much and (
            self._reads_on or not (self._is_idle or self._reader.in_body)
        )
        if self.flow.held:
            self.flow.pause_reading()

    def _take_part(self) -> bool:
        """Take a request, or more of a body. False: nothing more is to be taken now."""
        if self._reads_on or self._lingers is not None:
            return False
        if self._reader.in_body:
            return self._read_body()
        return self._is_idle and self._read_request()

    def _read_on(self) -> None:
        self._reads_on = False
        self.flow.held = False
        if self.transport.is_closing():
            return
        self._read()
        waits = self.connection is not None and len(self.connection.body) > _UNREAD_BODY
        if not self.flow.held and not waits:
            self.flow.resume_reading()

    def _read_request(self) -> bool:
        """Begin with the next request. False: it has not come, or is not to be answered."""
        self._scope = _UNREAD
        try:
            head = self._reader.head() if self._reader.waiting else None
            if head is None:
                self._wait_for_request()
                return False
            self._scope = {"type": "http", "headers": head.headers}
            self._stop_waiting()
            return self._take(head)
        except Refused as refused:
            self._refuse(refused)
            return False

    def _take(self, head: RequestHead) -> bool:
        """False: nothing more is to be read here."""
        if self._is_surplus and head.target.partition(b"?")[0].decode() not in HEALTH_PATHS:
            raise Refused(TOO_MANY)
        if head.upgrade == b"websocket" and head.method == "GET" and not head.has_body:
            self._change_to_socket(head)
            return False
        self._speak()
        last = self._is_surplus or self._stops or self.owner.draining
        has_body = head.has_body
        connection = self.connection = RequestConnection(
            self, head, has_body=has_body, keep_alive=head.keep_alive and not last
        )
        if has_body:
            self._read_body()
        if not connection.disconnected:  # else the body was refused
            self._start(connection, head)
        return not self._has_left

    def _wait_for_request(self) -> None:
        """Wait for the next request, or the rest of it."""
        if self._half_closed:
            self.close()
        elif self._reader.waiting or self._is_surplus:
            self._stop_keep_alive()
            self._expect_headers()
        elif self._keep_alive_timer is None:
            self._stop_waiting()
            self._expect_request()
            if self.connection is None:  # nothing but an empty line has come
                self.silence()

    def _read_body(self) -> bool:
        """Hand on what has come of the body. False: more is to come."""
        connection, reader = self.connection, self._reader
        if connection is None:
            return False
        try:
            piece, more = reader.body()
        except Refused as refused:
            self._refuse_body(connection, refused)
            return False
        if piece:
            connection.waits = False
        if piece and not (connection.response_complete or self.stream is not None):
            connection.body += piece
            if len(connection.body) > _UNREAD_BODY:
                self.flow.pause_reading()
        if not reader.in_body:
            connection.more_body = connection.waits = False
        if piece or not reader.in_body:
            connection.notify()
        if more:
            self._reads_on = True
            self.owner.bodies.wait(self._read_on)
        elif reader.in_body and self._half_closed:
            self.close()
        return not reader.in_body

    # -- answering -------------------------------------------------------------------------

    def _start(self, connection: RequestConnection, head: RequestHead) -> None:
        """Run the application up to its first wait; a task does the rest."""
        owner = self.owner
        raw_path, _, query = head.target.partition(b"?")
        path = raw_path.decode()
        scope = {
            "type": "http",
            "asgi": {"version": owner.config.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            "server": None,
            "client": self.client,
            "scheme": "https" if owner.config.is_ssl else "http",
            "root_path": owner.config.root_path,
            "headers": head.headers,
            "state": owner.app_state.copy(),
            "method": head.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "extensions": {EXTENSION: connection},
        }
        app: Any = owner.config.loaded_app
        task = owner.requests.start(connection.run(app, scope))
        connection.flush()
        if task is None:
            self._answered()
        else:
            task.add_done_callback(self._answered)
            owner.server_state.tasks.add(task)

    def _answered(self, task: asyncio.Task[None] | None = None) -> None:
        if task is not None:
            self.owner.server_state.tasks.discard(task)
        if self.transport.is_closing():  # an answer that failed was cut off
            self._sending.watch()

    def on_response_complete(self) -> None:
        self._sending.watch()
        self.silence()
        if self.transport.is_closing() or self._lingers is not None:
            return
        self.flow.release()
        if self._reader.in_body:
            self._expect_request()  # after the rest of the body, which nobody wants
        self._read()

    def _change_to_socket(self, head: RequestHead) -> None:
        """RFC 9110, 7.8: everything behind the head is in the other protocol."""
        lines = [b"%b: %b" % field for field in head.headers]
        if len(lines) > _SOCKET_FIELDS or max(map(len, lines)) > _SOCKET_LINE:
            raise Refused(LARGE_HEADERS)
        first = b"GET %b HTTP/1.1" % head.target
        if len(first) > _SOCKET_LINE:
            raise Refused(LONG_URL)
        self._speak()
        self._sending.stop()
        self.flow.release()
        owner = self.owner
        owner.connections.discard(self)
        protocol: Any = owner.config.ws_protocol_class(  # type: ignore[call-arg, misc]
            config=owner.config, server_state=owner.server_state, app_state=owner.app_state
        )
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(b"\r\n".join([first, *lines, b"", b""]))
        behind = self._reader.rest()
        if behind and not self.transport.is_closing():
            protocol.data_received(behind)

    # -- refusals --------------------------------------------------------------------------

    def _refuse_body(self, connection: RequestConnection, refused: Refused) -> None:
        """Tell the application that the client has left, and the client what is wrong."""
        if connection.response_complete:
            self.close()
            return
        connection.disconnected = True
        connection.notify()
        if connection.response_started:  # nothing can be put into the middle of an answer
            self.transport.abort()
        else:
            self._refuse(refused)

    def _refuse(self, refused: Refused) -> None:
        """Answer, read on for a while, and close."""
        self.silence()
        request_id, headers = self._headers_of_app()
        answer = raw_answer(refused, request_id, self.default_headers, headers)
        self.transport.write(answer)
        self._linger()
        log_.info(
            "request refused",
            request_id=request_id,
            status=int(refused.status),
            code=refused.error.code,
            client=None if self.client is None else self.client[0],
        )

    def _headers_of_app(self) -> tuple[str, HeaderList]:
        """The id of the request, and what the application adds to each of its answers."""
        headers_for = getattr(self.owner.config.loaded_app, "headers_for", None)
        if headers_for is not None:
            request_id, headers = headers_for(self._scope)
            return request_id, headers
        request_id = new_id("req")
        return request_id, [(b"x-request-id", request_id.encode())]
