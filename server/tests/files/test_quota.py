"""What the files of an organization may take together, while several are recorded at once."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.files.service import Quota, ignore_reached
from resonantgenesis_server.model.errors import PayloadTooLarge

pytestmark = pytest.mark.anyio


async def test_a_file_that_is_recorded_while_the_records_are_asked_counts() -> None:
    recorded, asked, may_answer = 6, asyncio.Event(), asyncio.Event()

    async def used(_organization: str) -> int:
        told = recorded  # as of now; the answer takes its time
        asked.set()
        await may_answer.wait()
        return told

    quota = Quota(10, used, ignore_reached)
    may_answer.set()
    first = quota.recording("org", 3)
    await first.__aenter__()
    may_answer.clear()
    asked.clear()
    second = asyncio.create_task(quota.recording("org", 3).__aenter__())
    await asked.wait()
    recorded += 3
    await first.__aexit__(None, None, None)
    may_answer.set()
    with pytest.raises(PayloadTooLarge):
        await second


async def test_what_other_nodes_recorded_counts_after_a_while() -> None:
    recorded, asked = 3, 0

    async def used(_organization: str) -> int:
        nonlocal asked
        asked += 1
        return recorded

    patient = Quota(10, used, ignore_reached, recount=3600)
    impatient = Quota(10, used, ignore_reached, recount=0)
    for quota in (patient, impatient):
        await quota.check("org", 5)
    recorded = 8
    await patient.check("org", 5)
    assert asked == 2
    with pytest.raises(PayloadTooLarge):
        await impatient.check("org", 5)
