"""Messages, steering, forks and the queue by the SDK, against the real server."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis import Conflict, NotFound, ResonantGenesis, SyncResonantGenesis
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio
SLOW = {"words_per_second": 1}


async def test_a_conversation(server: ServerProcess) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        result = await client.sessions.execute("guide", "count to 3")
        session = await client.sessions.get(result.session_id)
        await session.execute("count to 2")
        page = await session.messages()
        assert [(m.role, m.text) for m in page] == [
            ("user", "count to 3"),
            ("assistant", "1 2 3"),
            ("user", "count to 2"),
            ("assistant", "1 2"),
        ]
        assert page.data[1].usage is not None
        older = await session.messages(limit=2)
        assert older.next_cursor is not None
        assert [m.turn for m in await session.messages(cursor=older.next_cursor)] == [1, 1]
        assert page.position is not None
        assert [chunk async for chunk in session.join(resume_from=page.position)] == []

        made = await session.fork(turn=1)
        assert made.forked_from == {"session_id": session.id, "turn": 1}
        assert (await made.execute("count to 1")).turn == 1
        texts = [m.text for m in await made.messages()]
        assert texts == ["count to 3", "1 2 3", "count to 1", "1"]

        again = await session.execute("", replace_turn=2)
        assert again.output == "1 2"
        assert [m.replaced_by for m in await session.messages()] == [None, None, 3, 3, None, None]
        await session.delete()
        assert [m.text for m in await made.messages()] == texts
        with pytest.raises(NotFound):
            await client.sessions.messages(session.id)


async def test_a_running_turn_and_its_queue(server: ServerProcess) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        session = await client.sessions.create("guide", context=SLOW)
        stream = session.execute_stream("count to 500")
        async for _ in stream:
            break
        posted = await session.send("shorter", message_id="m1")
        assert (posted.turn, posted.message_id) == (1, "m1")
        assert await session.send("shorter", message_id="m1") == posted
        with pytest.raises(Conflict):
            await session.send("longer", message_id="m1")
        made_key = await session.send("and nicer")
        assert made_key.message_id.startswith("msg_")

        waiting = asyncio.create_task(session.execute("count to 4", if_busy="enqueue"))
        async with asyncio.timeout(20):
            while not (queued := (await client.sessions.queue(session.id)).data):
                await asyncio.sleep(0.01)
        assert [(turn.turn, turn.goal) for turn in queued] == [(2, "count to 4")]
        await client.sessions.edit_queued(session.id, 2, goal="count to 5", metadata={"a": 1})
        (edited,) = await client.sessions.queue(session.id)
        assert (edited.goal, edited.metadata) == ("count to 5", {"a": 1})
        await client.sessions.remove_queued(session.id, 2)
        assert list(await client.sessions.queue(session.id)) == []
        with pytest.raises(Conflict):
            await client.sessions.remove_queued(session.id, 1)
        await session.cancel()
        assert (await waiting).status == "cancelled"
        chunks = [c async for c in session.join(resume_from=0)]
        told = [(c.message_id, c.taken) for c in chunks if c.type == "user_message"]
        assert told == [("m1", False), (made_key.message_id, False)]
        await stream.aclose()


def test_the_synchronous_client(server: ServerProcess) -> None:
    with SyncResonantGenesis(api_key=KEY, base_url=server.url) as client:
        result = client.sessions.execute("guide", "count to 2")
        page = client.sessions.messages(result.session_id)
        assert [m.text for m in page] == ["count to 2", "1 2"]
        made = client.sessions.fork(result.session_id)
        assert [m.text for m in made.messages()] == ["count to 2", "1 2"]
        with pytest.raises(Conflict):
            made.send("nobody listens")
