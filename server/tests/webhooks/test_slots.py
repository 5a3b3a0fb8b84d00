"""Attempts at once."""

from __future__ import annotations

import pytest
from resonantgenesis_server.webhooks.poster import Slots

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_wait_for_a_place_ends_and_takes_none() -> None:
    """Four places: one for receivers that fail, of the organization or of all."""
    for slots in (Slots(4, 400), Slots(400, 4)):
        async with slots.taken("a", is_failing=True):
            with pytest.raises(TimeoutError):
                async with slots.taken("a", is_failing=True, wait=0.01):
                    pass
            async with slots.taken("a", is_failing=False, wait=0.01):
                pass
        async with slots.taken("a", is_failing=True, wait=0.01):
            pass
