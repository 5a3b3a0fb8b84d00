"""A server of sockets for the building blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ..support.fake_socket import FakeSocketServer


@pytest.fixture
async def server() -> AsyncIterator[FakeSocketServer]:
    fake = FakeSocketServer()
    await fake.start()
    yield fake
    await fake.stop()
