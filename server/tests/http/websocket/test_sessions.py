"""Sessions over a socket: following, resuming, executing, cancelling."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from resonantgenesis_server.sessions.state import SessionState, control_stream
from ws_agents import gates
from ws_harness import Client, Message, Server, is_chunk

pytestmark = pytest.mark.anyio


def goal() -> str:
    """Of the agent `gated`: one that no other test opens the gate of."""
    return secrets.token_hex(4)


def positions(chunks: list[Message]) -> list[int]:
    return [chunk["position"] for chunk in chunks]


def texts(chunks: list[Message]) -> list[str]:
    return [chunk["content"] for chunk in chunks if chunk["type"] == "text"]


async def over_http(server: Server, session_id: str) -> list[Message]:
    answer = await server.http.get(f"/v1/sessions/{session_id}/events?after=0&limit=5000")
    events: list[Message] = answer.json()["events"]
    return events


async def test_a_session_is_followed_from_its_turn_and_into_later_ones(server: Server) -> None:
    first = await server.execute("many", "3")
    session = first["session_id"]
    await server.finished(session)
    async with server.connect() as client:
        channel = f"session:{session}"
        answer = await client.ask("subscribed", "subscribe", channels=[channel])
        assert (answer["channels"], answer["position"]) == ([channel], 0)
        assert answer["epoch"] == server.parts.log.epoch
        one = await client.done()
        await server.execute("many", "2", session_id=session)
        two = await client.done()
    assert positions(one + two) == list(range(1, len(one + two) + 1))
    assert {chunk["session_id"] for chunk in one + two} == {session}
    stored = await over_http(server, session)
    assert [{**chunk, "session_id": session} for chunk in stored] == one + two


async def test_resume_from_a_position_starts_behind_it(server: Server) -> None:
    session = (await server.execute("many", "20"))["session_id"]
    await server.finished(session)
    async with server.connect() as client:
        answer = await client.ask(
            "subscribed", "subscribe", channels=[f"session:{session}"], resume_from=7
        )
        assert answer["position"] == 7
        chunks = await client.done()
        assert positions(chunks) == list(range(8, 8 + len(chunks)))
        error = await client.ask(
            "error", "subscribe", channels=[f"session:{session}"], resume_from=1_000
        )
        assert error["code"] == "INVALID_REQUEST"


async def test_compact_merges_what_is_there(server: Server) -> None:
    session = (await server.execute("many", "300"))["session_id"]
    await server.finished(session)
    async with server.connect() as client:
        await client.ask(
            "subscribed", "subscribe", channels=[f"session:{session}"], resume_from=0, compact=True
        )
        chunks = await client.done()
    (text,) = [chunk for chunk in chunks if chunk["type"] == "text"]
    assert text["content"] == "".join(f"{n:05d}" for n in range(300))
    assert (text["from"], text["position"]) == (2, 301)


async def test_subscribing_again_goes_on_where_it_was(server: Server) -> None:
    name = goal()
    session = (await server.execute("gated", name))["session_id"]
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=[f"session:{session}"])
        before = await client.until(lambda m: m.get("content") == name)
        answer = await client.ask("subscribed", "subscribe", channels=[f"session:{session}"])
        assert answer["position"] == before[-1]["position"]
        gates[name].set()
        after = await client.done()
        chunks = [m for m in before if is_chunk(m)] + after
        assert positions(chunks) == list(range(1, len(chunks) + 1))


async def test_execute_starts_a_turn_and_its_chunks_follow(server: Server) -> None:
    async with server.connect() as client:
        await client.send("execute", agent_id="many", goal="4", id="x")
        started = await client.receive()
        assert started.keys() == {"type", "session_id", "turn", "id"}
        assert (started["type"], started["turn"], started["id"]) == ("started", 1, "x")
        chunks = await client.done()
        assert texts(chunks) == ["00000", "00001", "00002", "00003"]
        assert positions(chunks) == list(range(1, len(chunks) + 1))
        # The subscription ended with the turn: what others start is not told.
        other = await server.execute("many", "1", session_id=started["session_id"])
        await server.finished(other["session_id"])
        assert await client.quiet() == []
    assert server.parts.service.supervisor.hub.readers(started["session_id"]) == 0


async def test_execute_on_a_followed_session_doubles_nothing(server: Server) -> None:
    session = (await server.execute("many", "1"))["session_id"]
    await server.finished(session)
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=[f"session:{session}"], resume_from=4)
        for turn in range(2, 12):
            await client.send("execute", agent_id="many", goal="5", session_id=session)
            started = await client.receive()
            assert (started["type"], started["turn"]) == ("started", turn)
            assert len(await client.done()) == 8
        chunks = [m for m in client.seen if is_chunk(m)]
        assert positions(chunks) == list(range(5, 5 + len(chunks)))
        assert await client.quiet() == []


async def test_a_queued_turn_brings_its_own_chunks_only(server: Server) -> None:
    name = goal()
    first = await server.execute("gated", name)
    session = first["session_id"]
    gates["second " + name].set()
    async with server.connect() as client:
        await client.send(
            "execute", agent_id="gated", goal="second " + name, session_id=session,
            if_busy="enqueue",
        )  # fmt: skip
        assert (await client.receive())["turn"] == 2
        gates[name].set()
        chunks = await client.done()
    assert texts(chunks) == ["second " + name, "end"]
    assert chunks[-1]["turn"] == 2


async def test_turns_queued_behind_each_other_share_one_subscription(server: Server) -> None:
    name = goal()
    async with server.connect() as client:
        started = await client.ask("started", "execute", agent_id="gated", goal=name)
        session = started["session_id"]
        again = await client.ask(
            "started", "execute", agent_id="gated", goal=name, session_id=session,
            if_busy="enqueue",
        )  # fmt: skip
        assert again["turn"] == 2
        gates[name].set()
        await client.until(lambda m: m["type"] == "done" and m["turn"] == 2)
        chunks = [m for m in client.seen if is_chunk(m)]
        assert positions(chunks) == list(range(1, len(chunks) + 1))
        assert texts(chunks) == [name, "end", name, "end"]


async def test_the_same_key_names_the_same_turn(server: Server) -> None:
    fields: dict[str, Any] = {"agent_id": "many", "goal": "3", "idempotency_key": goal()}
    async with server.connect() as one, server.connect() as two:
        first = await one.ask("started", "execute", **fields)
        chunks = await one.done()
        second = await two.ask("started", "execute", **fields)
        assert (first["session_id"], first["turn"]) == (second["session_id"], second["turn"])
        assert await two.done() == chunks
        third = await two.ask("started", "execute", **fields, resume_from=chunks[2]["position"])
        assert third["session_id"] == first["session_id"]
        assert await two.done() == chunks[3:]
        error = await two.ask("error", "execute", **(fields | {"goal": "4"}))
        assert error["code"] == "CONFLICT"
        # All of it is known already: started, and nothing follows.
        await two.ask("started", "execute", **fields, resume_from=chunks[-1]["position"])
        assert await two.quiet() == []


async def test_execute_joins_a_running_turn_from_a_position(server: Server) -> None:
    name = goal()
    session = (await server.execute("gated", name))["session_id"]
    await server.http.get(f"/v1/sessions/{session}/events?after=0&wait=10")
    async with server.connect() as client:
        started = await client.ask(
            "started", "execute", agent_id="gated", goal=name, session_id=session, resume_from=1
        )
        assert (started["session_id"], started["turn"]) == (session, 1)
        gates[name].set()
        assert positions(await client.done())[0] == 2
        error = await client.ask(
            "error", "execute", agent_id="gated", goal=name, session_id=session, resume_from=999
        )
        assert error["code"] == "INVALID_REQUEST"


async def test_errors_of_execute_have_its_id(server: Server) -> None:
    name = goal()
    session = (await server.execute("gated", name))["session_id"]
    cases: list[tuple[str, dict[str, Any]]] = [
        ("AGENT_NOT_FOUND", {"agent_id": "nobody", "goal": "x"}),
        ("SESSION_NOT_FOUND", {"agent_id": "many", "goal": "1", "session_id": "sess_none"}),
        ("SESSION_NOT_FOUND", {"agent_id": "many", "goal": "1", "session_id": "no such"}),
        ("SESSION_BUSY", {"agent_id": "gated", "goal": "x", "session_id": session}),
        ("INVALID_REQUEST", {"agent_id": "many", "goal": "1", "resume_from": 3}),
        ("INVALID_REQUEST", {"agent_id": "many", "goal": "1", "session_id": session}),
        ("PAYLOAD_TOO_LARGE", {"agent_id": "many", "goal": "x" * 70_000}),
    ]
    async with server.connect() as client:
        for code, fields in cases:
            error = await client.ask("error", "execute", **fields)
            assert error["code"] == code, fields
        gates[name].set()


async def test_a_failed_turn_tells_its_error_chunk_and_done(server: Server) -> None:
    async with server.connect() as client:
        await client.ask("started", "execute", agent_id="failing", goal="x")
        chunks = await client.done()
    error, done = chunks[-2:]
    assert (error["type"], error["code"], done["status"]) == ("error", "AGENT_FAILED", "failed")
    assert error["position"] == done["position"] - 1


async def test_cancel_from_the_socket(server: Server) -> None:
    async with server.connect() as client:
        name = goal()
        started = await client.ask("started", "execute", agent_id="gated", goal=name)
        session = started["session_id"]
        answer = await client.ask("cancelled", "cancel", session_id=session)
        assert (answer["session_id"], answer["turn"], answer["turns"]) == (session, 1, [1])
        chunks = [m for m in client.seen if m["type"] == "done"] or await client.done()
        assert chunks[-1]["status"] == "cancelled"
        idle = await client.ask("cancelled", "cancel", session_id=session)
        assert (idle["turns"], idle["status"]) == ([], "cancelled")
        over = await client.ask("cancelled", "cancel", session_id=session, turn=1)
        assert over["turns"] == [] and "turn" not in over
        for fields in ({"session_id": "sess_none"}, {"session_id": session, "turn": 9}):
            error = await client.ask("error", "cancel", **fields)
            assert error["code"].endswith("NOT_FOUND")


async def test_cancel_is_not_held_up_by_executes(server: Server) -> None:
    """Executes of one session wait for each other; a cancel between them is done."""
    name = goal()
    async with server.connect() as client:
        started = await client.ask("started", "execute", agent_id="gated", goal=name)
        session = started["session_id"]
        for n in range(8):
            await client.send(
                "execute", agent_id="gated", goal=name, session_id=session, if_busy="enqueue", id=n
            )
        await client.send("cancel", session_id=session, id="stop")
        answers = {"stop"} | set(range(8))
        while answers:
            answers.discard((await client.receive()).get("id", "stop-not"))
        gates[name].set()
        await server.finished(session)


async def test_two_sockets_on_one_session(server: Server) -> None:
    name = goal()
    async with server.connect() as one, server.connect() as two:
        started = await one.ask("started", "execute", agent_id="gated", goal=name)
        channel = f"session:{started['session_id']}"
        await two.ask("subscribed", "subscribe", channels=[channel])
        gates[name].set()
        assert await one.done() == await two.done()


async def test_a_deleted_session_ends_its_subscription(server: Server) -> None:
    session = (await server.execute("many", "1"))["session_id"]
    await server.finished(session)
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=[f"session:{session}"])
        await client.done()
        assert (await server.http.delete(f"/v1/sessions/{session}")).status_code == 204
        error = await client.answer("error")
        assert error["code"] == "SESSION_NOT_FOUND"
        assert error["details"] == {"channels": [f"session:{session}"]}
        error = await client.ask("error", "subscribe", channels=[f"session:{session}"])
        assert error["code"] == "SESSION_NOT_FOUND"


async def test_events_and_chunks_on_one_socket(server: Server) -> None:
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["sessions", "billing"])
        started = await client.ask("started", "execute", agent_id="many", goal="3")
        seen = list(client.seen)
        while not {"billing.usage.recorded", "done"} <= {m["type"] for m in seen}:
            seen.append(await client.receive())
    session = started["session_id"]
    events = [m["type"] for m in seen if "channel" in m]
    assert [kind for kind in events if kind != "billing.usage.recorded"] == [
        "session.created", "session.started", "session.step.completed", "session.completed",
    ]  # fmt: skip
    assert all(m["session_id"] == session for m in seen if "channel" in m)
    assert positions([m for m in seen if is_chunk(m)]) == list(range(1, 7))


async def test_done_is_never_followed_by_busy(server: Server) -> None:
    """Whoever has seen `done` may execute at once."""
    async with server.connect() as client:
        session = (await client.ask("started", "execute", agent_id="many", goal="1"))["session_id"]
        for _ in range(60):
            await client.done()
            await client.ask("started", "execute", agent_id="many", goal="1", session_id=session)


async def test_a_done_that_was_read_ahead_of_its_announcement(server: Server) -> None:
    """Chunks read from the log may be newer than the state in memory: it is brought up first."""
    session = (await server.execute("many", "1"))["session_id"]
    await server.finished(session)
    states = server.parts.supervisor.states
    stale = SessionState()
    page = await server.parts.log.read(control_stream(session), 0)
    stale.apply(page.entries[:-1])
    assert stale.busy
    states.keep(session, stale)
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=[f"session:{session}"], resume_from=0)
        await client.done()
        assert not stale.busy
        await client.ask("started", "execute", agent_id="many", goal="1", session_id=session)


async def start(client: Client, number: int) -> None:
    await client.send("execute", agent_id="many", goal="10", id=number)


async def test_many_executes_at_once(server: Server) -> None:
    async with server.connect() as client:
        await asyncio.gather(*[start(client, n) for n in range(40)])
        done: dict[str, list[int]] = {}
        started: dict[str, int] = {}
        ended = 0
        while ended < 40:
            message = await client.receive()
            if message["type"] == "started":
                started[message["session_id"]] = message["id"]
            elif is_chunk(message):
                assert message["session_id"] in started
                done.setdefault(message["session_id"], []).append(message["position"])
                ended += message["type"] == "done"
        assert sorted(started.values()) == list(range(40))
        assert all(found == list(range(1, 14)) for found in done.values())
