"""A WebSocket client of bare bytes: a frame encoder and decoder of the tests' own."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import zlib
from dataclasses import dataclass

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TAIL = b"\x00\x00\xff\xff"


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def encode(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    head = (0x80 if fin else 0) | rsv | opcode
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        out = struct.pack("!BB", head, bit | size)
    elif size < 65_536:
        out = struct.pack("!BBH", head, bit | 126, size)
    else:
        out = struct.pack("!BBQ", head, bit | 127, size)
    if not masked:
        return out + payload
    key = os.urandom(4)
    wide = (key * (size // 4 + 1))[:size]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(wide, "big")
    return out + key + body.to_bytes(size, "big")


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


class Raw:
    """One connection. `response` and `headers` are the handshake's answer."""

    def __init__(
        self,
        port: int,
        *,
        path: str = "/",
        extensions: str | None = None,
        headers: dict[str, str | None] | None = None,
        method: str = "GET",
        version: str = "HTTP/1.1",
        timeout: float = 10.0,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        sent: dict[str, str | None] = {
            "Host": f"127.0.0.1:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Extensions": extensions,
            **(headers or {}),
        }
        lines = [f"{method} {path} {version}"]
        lines += [f"{name}: {value}" for name, value in sent.items() if value is not None]
        self.send("\r\n".join([*lines, "", ""]).encode())
        head = self._read_head()
        self.response = head[0]
        self.headers = dict(head[1:])  # type: ignore[arg-type]
        if self.status == 101:
            expected = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
            assert self.headers["sec-websocket-accept"] == expected

    @property
    def status(self) -> int:
        return int(str(self.response).split(" ")[1])

    def _read_head(self) -> list[object]:
        while b"\r\n\r\n" not in self._buffer:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError(self._buffer)
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in rest]
        return [first, *[(name.lower(), value) for name, _, value in pairs]]

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def dribble(self, data: bytes) -> None:
        """Byte by byte."""
        for byte in data:
            self.socket.sendall(bytes([byte]))

    def frame(self, opcode: int, payload: bytes = b"", **options: int) -> None:
        self.send(encode(opcode, payload, **options))  # type: ignore[arg-type]

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError
            self._buffer += data
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def read(self) -> Frame:
        """The next frame; EOFError at the end."""
        first, second = self._exactly(2)
        assert not second & 0x80, "a server masks nothing"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        payload = self._exactly(size)
        return Frame(first & 0x0F, payload, bool(first & 0x80), first & 0x70)

    def read_close(self) -> int:
        """The code of the close that comes, whatever comes before; then the end."""
        while (frame := self.read()).opcode != CLOSE:
            pass
        code = 1005 if not frame.payload else int(struct.unpack("!H", frame.payload[:2])[0])
        assert self.at_end()
        return code

    def at_end(self) -> bool:
        """Whether the server closes the connection now, without another byte."""
        if self._buffer:
            return False
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class Deflate:
    """A client's compressor, with or without context from one message to the next."""

    def __init__(self, *, keep: bool = True, bits: int = 12) -> None:
        self._keep = keep
        self._bits = bits
        self._compress = zlib.compressobj(wbits=-bits)

    def __call__(self, data: bytes) -> bytes:
        if not self._keep:
            self._compress = zlib.compressobj(wbits=-self._bits)
        out = self._compress.compress(data) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(_TAIL)
        return out[:-4]


def inflate_alone(payload: bytes, bits: int = 15) -> bytes:
    """What a message says to somebody who has seen none before it."""
    inflate = zlib.decompressobj(wbits=-bits)
    data = inflate.decompress(payload + _TAIL)
    assert not inflate.unconsumed_tail
    return data
