"""What a stream is given of its connection, where the event loop's transport has traps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from resonantgenesis_server.http.serving.stream_connection import StreamConnection, chunked

pytestmark = pytest.mark.anyio


class Transport:
    """One that takes all, or was reset a moment ago, before `connection_lost`."""

    def __init__(self, *, reset: bool = False) -> None:
        self.reset = reset
        self.written: list[bytes] = []
        self.protocol: Any = None
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        if self.reset:  # as uvloop does
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.written.append(data)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        """Noted by nobody."""

    resume_reading = pause_reading


class Home:
    def __init__(self) -> None:
        self.connections: set[asyncio.Protocol] = set()
        self.taken_back: list[bytes] = []
        self.closed: list[Any] = []

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        self.taken_back.append(data)

    def closing(self, transport: asyncio.Transport) -> None:
        self.closed.append(transport)


class Holder:
    def __init__(self) -> None:
        self.told: list[str] = []

    def filled(self) -> None:
        self.told.append("filled")

    def left(self) -> None:
        self.told.append("left")


def connection(
    transport: Any, home: Home | None = None, keep_alive: bool = True
) -> StreamConnection:
    each = StreamConnection(home or Home(), transport, keep_alive=keep_alive, full=False)
    each.take_over()
    return each


def test_a_connection_that_was_just_reset_refuses_and_raises_nothing() -> None:
    """One viewer's reset must not keep a chunk from all who are served after it."""
    each = connection(Transport(reset=True))
    assert each.send(b"chunk") is False
    each.write(b"chunk")


def test_a_full_or_lost_connection_is_not_ready() -> None:
    home = Home()
    each = connection(Transport(), home)
    each.listener = holder = Holder()
    assert each.ready
    assert home.connections == {each}
    each.pause_writing()
    assert not each.ready
    each.resume_writing()
    assert each.ready
    each.connection_lost(None)
    each.resume_writing()
    assert not each.ready
    assert holder.told == ["filled", "left"]
    assert not home.connections


async def test_a_writer_that_waits_for_space_learns_of_it_and_of_the_end() -> None:
    each = connection(Transport())
    each.pause_writing()
    waiting = [asyncio.create_task(each.drain()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # who gives up does not take the others along
    await asyncio.sleep(0)
    assert not waiting[1].done()
    each.resume_writing()
    async with asyncio.timeout(5):
        await waiting[1]
        await each.drain()
    each.pause_writing()
    late = asyncio.create_task(each.drain())
    await asyncio.sleep(0)
    each.connection_lost(None)
    async with asyncio.timeout(5):
        await late


def test_a_request_that_comes_too_early_is_served_after_the_stream() -> None:
    home, transport = Home(), Transport()
    each = connection(transport, home)
    each.data_received(b"GET ")
    each.data_received(b"/ HTTP/1.1")
    assert home.taken_back == []
    each.finish(b"")
    assert transport.written == [b"0\r\n\r\n"]
    assert home.taken_back == [b"GET / HTTP/1.1"]
    assert not home.connections
    each.drop()
    each.finish(b"again")
    assert len(transport.written) == 1
    assert not transport.aborted


def test_a_stream_that_was_not_completed_is_cut_off() -> None:
    each = connection(transport := Transport())
    each.drop()
    assert transport.aborted


def test_the_connection_is_closed_after_its_stream_when_the_client_or_the_server_want_it() -> None:
    for keep_alive in (False, True):
        home, transport = Home(), Transport()
        each = connection(transport, home, keep_alive)
        if keep_alive:
            each.shutdown()
        each.finish(b"x")
        assert transport.closed
        assert home.closed == [transport]
        assert home.taken_back == []


def test_chunked_encoding() -> None:
    assert chunked(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
