"""What a stream is given of its connection, where the event loop's transport has traps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from resonantgenesis_server.http.protocol import Connection, chunked


class Closed:
    """uvloop's transport after a reset, before `connection_lost`."""

    def write(self, _data: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")


def connection(transport: Any) -> Connection:
    protocol: Any = SimpleNamespace(transport=transport, flow=SimpleNamespace(write_paused=False))
    return Connection(protocol, SimpleNamespace(disconnected=False, response_complete=False))  # type: ignore[arg-type]


def test_a_connection_that_was_just_reset_refuses_and_raises_nothing() -> None:
    """One viewer's reset must not keep a chunk from all who are served after it."""
    reset = connection(Closed())
    assert reset.send(b"chunk") is False
    reset.write(b"chunk")


def test_a_full_or_lost_connection_is_not_ready() -> None:
    each = connection(SimpleNamespace(write=lambda data: None))
    assert each.ready
    each.set_full(True)
    assert not each.ready
    each.set_full(False)
    assert each.ready
    told: list[str] = []
    each.holder = SimpleNamespace(
        filled=lambda: told.append("full"), left=lambda: told.append("left")
    )
    each.set_full(True)
    each.set_lost()
    each.set_full(False)
    assert not each.ready
    assert told == ["full", "left"]


def test_chunked_encoding() -> None:
    assert chunked(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
