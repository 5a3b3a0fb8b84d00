"""What a socket waits on in the place of asyncio's Event and Queue."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.http.serving.websocket_protocol import Arrivals, Gate


async def test_a_gate_lets_all_go_and_one_may_leave_before() -> None:
    gate = Gate()
    await gate.wait()
    gate.clear()
    stays, leaves = (asyncio.ensure_future(gate.wait()) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait({leaves})
    assert leaves.cancelled()
    assert not stays.done()
    gate.set()
    await stays


async def test_a_gate_that_shuts_at_once_keeps_those_who_wait() -> None:
    gate = Gate()
    gate.clear()
    waits = asyncio.ensure_future(gate.wait())
    await asyncio.sleep(0)
    gate.set()
    gate.clear()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waits.done()
    gate.set()
    await waits


async def test_messages_come_in_order_and_none_is_lost_with_a_reader() -> None:
    arrivals = Arrivals()
    reader = asyncio.ensure_future(arrivals.get())
    await asyncio.sleep(0)
    arrivals.put_nowait(1)
    reader.cancel()  # after the message, before the reader goes on
    with pytest.raises(asyncio.CancelledError):
        await reader
    arrivals.put_nowait(2)
    assert [await arrivals.get(), await arrivals.get()] == [1, 2]
    assert arrivals.empty()
