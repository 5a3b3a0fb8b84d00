"""Who may do what with files: scopes, organizations, subjects, sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from files_harness import World, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path / "data") as made:
        yield made


async def test_every_path_asks_for_its_scope(world: World) -> None:
    made = await world.upload()
    one = f"/v1/files/{made['id']}"
    readers = await world.key("files:read")
    writers = await world.key("files:write")
    neither = await world.key("sessions:read", "sessions:write", "agents:read")
    for method, path, allowed, refused in (
        ("GET", "/v1/files", readers, writers),
        ("GET", one, readers, writers),
        ("GET", f"{one}/content", readers, writers),
        ("HEAD", f"{one}/content", readers, writers),
        ("POST", "/v1/files?name=a", writers, readers),
        ("DELETE", one, writers, readers),
    ):
        for headers in (refused, neither):
            answer = await world.client.request(method, path, headers=headers)
            assert answer.status_code == 403, (method, path)
        answer = await world.client.request(method, path, headers={"Authorization": "Bearer no"})
        assert answer.status_code == 401
        answer = await world.client.request(method, path, headers=allowed)
        assert answer.is_success, (method, path)


async def test_others_see_nothing_of_it(world: World) -> None:
    """The same body as for an id that never was."""
    anns = await world.upload(b"content", "a.txt", headers=await world.token(subject="ann"))
    nobodys = await world.upload(b"content", "b.txt")
    assert anns["subject"] == "ann" and nobodys["subject"] is None
    bob = await world.token(subject="bob")
    ann = await world.token(subject="ann")
    stranger = await world.stranger()
    other_session = await world.token(subject="ann", session_id="sess_2")
    for headers, hidden, own in (
        (bob, anns, None),
        (bob, nobodys, None),
        (stranger, anns, None),
        (stranger, nobodys, None),
        (ann, nobodys, anns),
        (other_session, anns, None),
    ):
        for method, suffix in (
            ("GET", ""),
            ("GET", "/content"),
            ("HEAD", "/content"),
            ("DELETE", ""),
        ):
            path = f"/v1/files/{hidden['id']}{suffix}"
            answer = await world.client.request(method, path, headers=headers)
            never = await world.client.request(
                method, f"/v1/files/file_never{suffix}", headers=headers
            )
            assert answer.status_code == never.status_code == 404
            if method != "HEAD":
                texts = [one.json()["error"] for one in (answer, never)]
                for text in texts:
                    del text["request_id"]
                assert texts[0] == texts[1]
        listed = (await world.client.get("/v1/files", headers=headers)).json()["data"]
        assert listed == ([] if own is None else [own])
    assert len(world.kept()) == 1  # both hold the same, and still do


async def test_a_key_may_name_the_subject_a_token_only_its_own(world: World) -> None:
    made = await world.upload(b"x", "a&subject=ann")
    ann = await world.token(subject="ann")
    assert (await world.client.get(f"/v1/files/{made['id']}", headers=ann)).json() == made
    own = await world.upload(b"x", "a&subject=ann", headers=ann)
    assert own["subject"] == "ann"
    refused = await world.client.post("/v1/files?name=a&subject=bob", content=b"x", headers=ann)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "FORBIDDEN")
