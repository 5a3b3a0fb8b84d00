"""Pages of large sessions cost the loop's time: of one organization one is made at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from resonantgenesis_server.feed import shares
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.records.base import ListPage, SessionRecord

from .rig import ME, Rig

pytestmark = pytest.mark.anyio
OTHER = replace(ME, organization_id="another")


async def test_a_page_of_sessions_waits_for_that_before_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonantgenesis_server.sessions.service.SHARED", shares.Shares())
    await rig.session_list.settle()  # which lists as well, at its start
    reached, go_on = asyncio.Queue[str](), asyncio.Event()

    async def held(organization_id: str, **_asked: Any) -> ListPage[SessionRecord]:
        reached.put_nowait(organization_id)
        await go_on.wait()
        return ListPage([])

    monkeypatch.setattr(rig.rows, "list", held)

    async def listed(who: Principal) -> None:
        await rig.service.list_sessions(who, agent_id=None, status=None, limit=5, cursor=None)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for who in (ME, ME, ME, OTHER):
            tasks.create_task(listed(who))
        seen = {await reached.get(), await reached.get()}
        for _ in range(10):
            await asyncio.sleep(0)
        assert seen == {"org", "another"}  # nobody waits for another organization
        assert reached.empty()
        go_on.set()
    assert reached.qsize() == 2
