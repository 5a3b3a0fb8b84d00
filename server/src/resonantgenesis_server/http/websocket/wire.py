"""The socket's way out: plain ASGI under any server, the connection itself under ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.types import Send

from ...feed.hub import Write
from ..serving.websocket_protocol import SocketConnection
from .frames import SHARED

#: Bytes handed to the transport between two looks at whether the client takes them.
_SLICE = 64 * 1024
_MAX_REASON = 120


class SocketLost(Exception):
    """The client is gone, or the connection is no longer open for messages."""


class WireListener(Protocol):
    """Whoever writes frames directly."""

    def filled(self) -> None:
        """No frame may be written directly until `ready` again."""
        ...


class AsgiWire:
    """`send` of the server, which waits while the client takes nothing."""

    def __init__(self, send: Send) -> None:
        self._send = send

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken, as far as that can be seen."""
        return 0

    #: The connection's own `write`, for frames; None: there is only `send`.
    direct: Write | None = None
    #: Of the compression that was agreed on, for frames; None: none was.
    window_bits: int | None = None

    @property
    def ready(self) -> bool:
        """Whether frames may be written directly now."""
        return False

    def send_now(self, message: bytes) -> bool:
        """Send a text without waiting. False: that cannot be done now."""
        del message
        return False

    def call(self, listener: WireListener) -> None:
        """Tell the listener when frames may no longer be written directly."""

    async def write(self, messages: Sequence[bytes]) -> None:
        """Send texts, waiting for the client where it is slow. Raises SocketLost."""
        for message in messages:
            await self._call({"type": "websocket.send", "text": message.decode()})

    async def close(self, code: int, reason: str) -> None:
        """Raises SocketLost."""
        cut = reason.encode()[:_MAX_REASON].decode("utf-8", "ignore")
        await self._call({"type": "websocket.close", "code": code, "reason": cut})

    def abort(self) -> None:
        """Drop the connection, where that is possible."""

    async def _call(self, message: dict[str, object]) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            # Servers differ in how they say that a connection has closed meanwhile.
            raise SocketLost(str(error)) from error


class DirectWire(AsgiWire):
    """Frames written straight to the transport, each made once for all sockets."""

    def __init__(self, send: Send, connection: SocketConnection) -> None:
        super().__init__(send)
        self._connection = connection
        self.direct = connection.transport.write
        self.window_bits = connection.window_bits

    @property
    def unsent(self) -> int:
        return self._connection.transport.get_write_buffer_size()

    @property
    def ready(self) -> bool:
        return not self._connection.full and self._connection.open

    def send_now(self, message: bytes) -> bool:
        frame = SHARED.frame(message, self.window_bits)
        return self.ready and self._connection.send(frame)

    def call(self, listener: WireListener) -> None:
        self._connection.holder = listener

    async def write(self, messages: Sequence[bytes]) -> None:
        bits = self.window_bits
        frames: list[bytes] = []
        size = 0
        for message in messages:
            frame = SHARED.frame(message, bits)
            frames.append(frame)
            size += len(frame)
            if size >= _SLICE:
                await self._flush(b"".join(frames))
                frames, size = [], 0
        if frames:
            await self._flush(b"".join(frames))

    async def _flush(self, data: bytes) -> None:
        connection = self._connection
        if connection.full:
            await connection.room()
        if not connection.open:
            raise SocketLost("closed")
        connection.transport.write(data)

    def abort(self) -> None:
        self._connection.transport.abort()
