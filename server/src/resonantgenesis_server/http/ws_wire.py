"""The socket's way out: plain ASGI under any server, the connection itself under ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from starlette.types import Send

from ..feed.hub import Batch
from ..log.base import Entry
from .ws_frames import SHARED
from .ws_protocol import SocketConnection

Encode = Callable[[Iterable[Entry]], Iterable[bytes]]
#: Bytes handed to the transport between two looks at whether the client takes them.
_SLICE = 64 * 1024
_MAX_REASON = 120


class SocketLost(Exception):
    """The client is gone, or the connection is no longer open for messages."""


class AsgiWire:
    """`send` of the server, which waits while the client takes nothing."""

    def __init__(self, send: Send) -> None:
        self._send = send

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken, as far as that can be seen."""
        return 0

    #: Whether `push` ever takes anything.
    pours = False

    def push(self, batch: Batch, form: str, encode: Callable[[Batch], Iterable[bytes]]) -> bool:
        """Write live entries now; `form` names what `encode` makes of them. False: it cannot, or
        nothing was made."""
        del batch, form, encode
        return False

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

    pours = True

    def __init__(self, send: Send, connection: SocketConnection) -> None:
        super().__init__(send)
        self._connection = connection
        bits = connection.window_bits
        self._suffix = "" if bits is None else f" deflate {bits}"

    @property
    def unsent(self) -> int:
        return self._connection.transport.get_write_buffer_size()

    def push(self, batch: Batch, form: str, encode: Callable[[Batch], Iterable[bytes]]) -> bool:
        connection = self._connection
        if connection.full or not connection.speaks:
            return False
        name = form + self._suffix if self._suffix else form
        data = batch.encoded.get(name)
        if data is None:
            bits = connection.window_bits
            data = b"".join([SHARED.frame(message, bits) for message in encode(batch)])
            batch.encoded[name] = data
        return bool(data) and connection.send(data)

    async def write(self, messages: Sequence[bytes]) -> None:
        connection = self._connection
        bits = connection.window_bits
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
