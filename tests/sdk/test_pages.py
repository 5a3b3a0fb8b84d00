"""What takes more than one page is whole all the same, however short a page is."""

from __future__ import annotations

import asyncio

from resonantgenesis import ResonantGenesis, SyncResonantGenesis
from support.server import KEY, Serve


async def test_steps_and_events_over_several_pages(serve: Serve) -> None:
    server = serve(agents={"stepping": "support.agents:stepping"})
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        session = client.sessions.create("stepping")
        result = await session.execute("600", max_steps=600)
        assert (result.status, result.steps) == ("success", 600)
        steps = await session.steps()
        assert [step.step for step in steps] == [n for n in range(1, 601) for _ in range(2)]
        for number in range(15):
            await client.events.publish("app.large", {"n": number, "text": "x" * 200_000})
        events = await client.events.replay(since="2020-01-01T00:00:00Z", events=["app.large"])
        assert [event.data["n"] for event in events] == list(range(15))

    def blocking() -> int:
        with SyncResonantGenesis(api_key=KEY, base_url=server.url) as same:
            return len(same.sessions.get(session.id).steps())

    assert await asyncio.to_thread(blocking) == 1_200
