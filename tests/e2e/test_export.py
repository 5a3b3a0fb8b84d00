"""All that an organization has, in a folder; what is there already is not fetched again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.cli.app import main
from support.server import KEY, ServerProcess, bearer

pytestmark = pytest.mark.anyio


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_tenant_is_exported_twice(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANTGENESIS_BASE_URL", server.url)
    folder = tmp_path / "export"
    async with server.client(timeout=60) as admin:
        made = (await admin.post("/v1/organizations", json={"name": "Acme"})).json()
        key = bearer(made["key"]["key"])
        body = {"agent_id": "guide", "goal": "count to 2"}
        ran = (await admin.post("/v1/sessions/execute", json=body, headers=key)).json()
        session = ran["session_id"]
        file = (await admin.post("/v1/files?name=a", content=b"abc", headers=key)).json()
        words = ["organizations", "export", str(folder), "--organization", made["id"]]
        monkeypatch.setenv("RESONANTGENESIS_API_KEY", KEY)
        assert await asyncio.to_thread(main, words) == 0
        chunks = lines(folder / "sessions" / f"{session}.jsonl")
        assert [line["type"] for line in chunks[:2]] == ["session", "turn"]
        assert chunks[1]["goal"] == "count to 2" and chunks[-1]["output"] == "1 2"
        assert (folder / "files" / file["id"]).read_bytes() == b"abc"
        assert [each["id"] for each in lines(folder / "files.jsonl")] == [file["id"]]
        types = {event["type"] for event in lines(folder / "events.jsonl")}
        assert "session.completed" in types
        assert len(lines(folder / "usage.jsonl")) == 1
        assert (folder / "audit.jsonl").exists()
        assert not list(folder.rglob("*.part"))
        path = folder / "sessions" / f"{session}.jsonl"
        before = path.stat().st_ino
        monkeypatch.setenv("RESONANTGENESIS_API_KEY", made["key"]["key"])
        assert await asyncio.to_thread(main, words[:3]) == 0
        assert path.stat().st_ino == before
        for damaged in (b"", b"[1]\n", b"{\xff"):
            path.write_bytes(damaged)
            assert await asyncio.to_thread(main, words[:3]) == 0
            assert lines(path) == chunks
        audit = [event["type"] for event in lines(folder / "audit.jsonl")]
        assert audit == ["system.audit.key.revoked"]
        body["session_id"] = session
        await admin.post("/v1/sessions/execute", json=body, headers=key)
        assert await asyncio.to_thread(main, words[:3]) == 0
        assert len([line for line in lines(path) if line["type"] == "turn"]) == 2
        keys = (await admin.get("/v1/keys", headers=key)).json()["data"]
        assert [each["name"] for each in keys if each["revoked_at"] is None] == ["first"]
