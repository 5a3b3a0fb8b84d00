"""The same Idempotency-Key names the same turn."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from resonantgenesis_server.model.errors import (
    AgentNotFound,
    Conflict,
    InvalidRequest,
    SessionBusy,
    SessionNotFound,
    Unavailable,
)
from resonantgenesis_server.sessions.idempotency import Claim, key_digest

from .agents import Gate
from .rig import ME, Rig, assert_sound

pytestmark = pytest.mark.anyio


async def test_fifty_at_once_are_one_turn(rig: Rig) -> None:
    refs = await asyncio.gather(*(rig.execute("go", key="k") for _ in range(50)))
    assert len({(ref.session_id, ref.turn) for ref in refs}) == 1
    assert sum(not ref.joined for ref in refs) == 1
    assert (await rig.result(refs[0]))["status"] == "success"
    assert_sound(await rig.chunks(refs[0].session_id))
    assert rig.keys._locks == {}
    assert len(rig.rows.rows) <= 1


async def test_also_within_a_session_and_after_the_end_and_after_a_restart(rig: Rig) -> None:
    session = await rig.create()
    refs = await asyncio.gather(*(rig.execute("go", session=session, key="k") for _ in range(50)))
    assert {(ref.session_id, ref.turn) for ref in refs} == {(session, 1)}
    await rig.result(refs[0])
    again = await rig.execute("go", session=session, key="k", resume_from=2)
    assert (again.turn, again.joined, again.resume_from) == (1, True, 2)
    await rig.crash()
    await rig.open()
    assert (await rig.execute("go", session=session, key="k")).turn == 1
    assert (await rig.execute("go", session=session, key="other")).turn == 2


async def test_another_body_is_a_conflict(rig: Rig) -> None:
    ref = await rig.execute("go", key="k", context={"a": 1})
    for other in ({"context": {"a": 2}}, {"if_busy": "interrupt"}, {"max_steps": 3}):
        with pytest.raises(Conflict):
            await rig.execute("go", key="k", **{"context": {"a": 1}, **other})
    with pytest.raises(Conflict):
        await rig.execute("stop", key="k", context={"a": 1})
    # What does not count as the body.
    same = await rig.execute("go", key="k", context={"a": 1}, on_disconnect="cancel", resume_from=1)
    assert same.session_id == ref.session_id


async def test_a_refusal_does_not_use_the_key_up(rig: Rig, gate: Gate) -> None:
    with pytest.raises(AgentNotFound):
        await rig.execute("go", agent="nobody", key="k")
    with pytest.raises(InvalidRequest):
        await rig.execute("go", key="k", resume_from=5)
    first = await rig.execute(agent="gate")
    with pytest.raises(SessionBusy):
        await rig.execute("go", session=first.session_id, agent="gate", key="k")
    rig.supervisor.draining = True
    with pytest.raises(Unavailable):
        await rig.execute("go", key="k")
    rig.supervisor.draining = False
    ref = await rig.execute("something else", key="k")
    assert not ref.joined


async def test_a_crash_between_claim_and_record_leaves_the_key_free(rig: Rig) -> None:
    session = await rig.create()
    await rig.keys.claim(ME, "new", Claim("sess_that_never_came", 1, "x"))
    await rig.keys.claim(ME, "next", Claim(session, 1, "x"))
    assert await rig.service._starter.find_by_key(ME, "new") is None
    assert not (await rig.execute("go", key="new")).joined
    assert not (await rig.execute("go", key="next", session=session)).joined


async def test_a_number_taken_by_somebody_else_does_not_name_their_turn(rig: Rig) -> None:
    """The claim names a turn that exists, but which was started without this key."""
    session = await rig.create()
    await rig.keys.claim(ME, "k", Claim(session, 1, "x"))
    await rig.run("mine", session=session)
    ref = await rig.execute("go", key="k", session=session)
    assert (ref.turn, ref.joined) == (2, False)
    assert (await rig.state(session)).turns[1].key == key_digest("k")


async def test_keys_of_others_are_others(rig: Rig) -> None:
    who = [
        ME,
        replace(ME, organization_id="org2"),
        replace(ME, subject="anna"),
        replace(ME, subject="ben"),
    ]
    refs = [await rig.execute("go", key="k", who=one) for one in who]
    assert len({ref.session_id for ref in refs}) == 4
    for one, ref in zip(who, refs, strict=True):
        again = await rig.execute("go", key="k", who=one)
        assert (again.session_id, again.joined) == (ref.session_id, True)
    with pytest.raises(SessionNotFound):
        await rig.execute("go", session=refs[1].session_id)


async def test_the_key_of_a_deleted_session_is_free(rig: Rig) -> None:
    ref = await rig.execute("go", key="k")
    await rig.result(ref)
    await rig.service.delete(ME, ref.session_id)
    again = await rig.execute("go", key="k")
    assert not again.joined
    assert again.session_id != ref.session_id


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9", "a\nb"])
async def test_what_is_no_key(rig: Rig, key: str) -> None:
    with pytest.raises(InvalidRequest):
        await rig.execute("go", key=key)
    with pytest.raises(InvalidRequest):
        await rig.service.cancel_by_key(ME, key)


async def test_a_caller_that_is_cancelled_leaves_one_turn_that_runs(rig: Rig) -> None:
    """Wherever the caller is cut off, the turn is recorded and runs, or it is not there; and
    the repeat of the request finds it."""
    for steps in range(60):
        key = f"k{steps}"
        call = asyncio.create_task(rig.execute("go", key=key))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        refs = await asyncio.gather(*(rig.execute("go", key=key) for _ in range(2)))
        assert refs[0].session_id == refs[1].session_id
        assert (await rig.result(refs[0], 5))["status"] == "success"
    await asyncio.gather(*rig.supervisor._requests)
    await rig.session_list.settle()
    assert len(rig.rows.rows) == 60


async def test_the_same_without_a_key_in_one_session(rig: Rig) -> None:
    session = await rig.create()
    for steps in range(60):
        call = asyncio.create_task(rig.execute("go", session=session, if_busy="enqueue"))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        state = await rig.state(session)
        await asyncio.gather(*rig.supervisor._requests, return_exceptions=True)
        async with asyncio.timeout(20):
            while state.open_turns:
                await asyncio.sleep(0.001)
    assert_sound(await rig.chunks(session))


def test_every_binding_is_a_scope_of_its_own() -> None:
    """A subject can be called anything; without session or agent it is its own scope, as before."""
    names = [None, "ann", "sess_1", '["ann", null, null]', '[null, "sess_1", null]', "[", "null"]
    ids = [None, "sess_1", "null"]
    scopes = [
        replace(ME, subject=subject, session_id=session, agent_id=agent).idempotency_scope
        for subject in names
        for session in ids
        for agent in ids
    ]
    assert len(set(scopes)) == len(scopes)
    assert (ME.idempotency_scope, replace(ME, subject="ann").idempotency_scope) == ("", "ann")
