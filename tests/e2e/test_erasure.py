"""A person's data, and a whole tenant's, deleted while the server runs, also over a kill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from resonantgenesis_server.codec.times import rfc3339
from support.server import ServerProcess, bearer
from support.wire import execute, reached

pytestmark = pytest.mark.anyio
ENDLESS = {"goal": "count to 100000", "context": {"words_per_second": 20}}


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    settings: dict[str, Any] = {}
    if request.param == "postgres":
        settings = {"store": request.getfixturevalue("postgres"), "secret": "5e" * 32}
    made = ServerProcess(tmp_path / "data", **settings)
    yield made.start()
    made.stop()
    assert made.errors() == []


async def tenant(admin: httpx.AsyncClient, name: str) -> tuple[str, dict[str, str]]:
    made = (await admin.post("/v1/organizations", json={"name": name})).json()
    return made["id"], bearer(made["key"]["key"])


async def finished(client: httpx.AsyncClient, subject: str, headers: dict[str, str]) -> str:
    body = {"agent_id": "guide", "goal": "count to 2", "subject": subject}
    answer = await client.post("/v1/sessions/execute", json=body, headers=headers, timeout=60)
    assert answer.json()["status"] == "success"
    session: str = answer.json()["session_id"]
    return session


async def content_of(server: ServerProcess) -> int:
    folder = server.data / "files"
    return sum(1 for path in folder.glob("??/*"))


@pytest.mark.parametrize("server", ["sqlite", "postgres"], indirect=True)
async def test_a_person_is_erased_and_nobody_else(server: ServerProcess) -> None:
    async with server.client(timeout=60) as client:
        mine = [await finished(client, "ann", {}) for _ in range(2)]
        running = (await execute(client, subject="ann", **ENDLESS))["session_id"]
        await reached(client, running, 3)
        other = await finished(client, "bob", {})
        for subject in ("ann", "bob"):
            body = {"scopes": ["files:write", "sessions:write"], "subject": subject}
            token = (await client.post("/v1/tokens", json=body)).json()["token"]
            for path, content in (("a.txt", subject.encode()), ("b.txt", subject.encode() * 2)):
                sent = await client.post(
                    f"/v1/files?name={path}",
                    content=content,
                    headers=bearer(token) | {"Idempotency-Key": path},
                )
                assert sent.status_code == 201, sent.text
            refused = await client.delete("/v1/subjects?subject=ann", headers=bearer(token))
            assert refused.status_code == 403
        erased = (await client.delete("/v1/subjects", params={"subject": "ann"})).json()
        assert erased.pop("named_until") > rfc3339(time.time() + 29 * 86_400)
        assert erased == {
            "sessions": 3, "files": 2, "usage": 3, "requests": 2, "has_more": False,
        }  # fmt: skip
        for session in (*mine, running):
            assert (await client.get(f"/v1/sessions/{session}")).status_code == 404
        assert (await client.get(f"/v1/sessions/{other}")).json()["output"] == "1 2"
        files = (await client.get("/v1/files")).json()["data"]
        assert [file["subject"] for file in files] == ["bob", "bob"]
        usage = (await client.get("/v1/usage?group_by=subject")).json()
        assert {group["subject"] for group in usage["data"]} == {"bob", None}
        assert usage["totals"]["turns"] == 4
        again = (await client.delete("/v1/subjects", params={"subject": "ann"})).json()
        assert not any(again[name] for name in erased)
    assert await content_of(server) == 2


@pytest.mark.parametrize(
    "server", ["sqlite", pytest.param("postgres", marks=pytest.mark.soak)], indirect=True
)
async def test_a_tenant_is_erased_over_a_kill(server: ServerProcess) -> None:
    async with server.client(timeout=60) as admin:
        gone, key = await tenant(admin, "gone")
        stays, other = await tenant(admin, "stays")
        kept = await finished(admin, "ann", other)
        for headers in (key, other):
            await finished(admin, "ann", headers)
            sent = await admin.post("/v1/files?name=a", content=b"of both", headers=headers)
            assert sent.status_code == 201
        await admin.post("/v1/files?name=b", content=b"of one", headers=key)
        for _ in range(20):
            await admin.post("/v1/sessions", json={"agent_id": "guide"}, headers=key)
        deleting = asyncio.create_task(admin.delete(f"/v1/organizations/{gone}"))
        while (await admin.get(f"/v1/organizations/{gone}")).json()["disabled_at"] is None:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(server.kill)
        await asyncio.wait({deleting})
        deleting.exception()
    await asyncio.to_thread(server.start)
    async with server.client(timeout=60) as admin:
        assert (await admin.get("/v1/sessions", headers=key)).status_code == 401
        done = await admin.delete(f"/v1/organizations/{gone}")
        assert done.status_code == 200, done.text
        assert done.json()["has_more"] is False
        for _ in range(2):
            assert (await admin.delete(f"/v1/organizations/{gone}")).status_code == 404
        names = [each["id"] for each in (await admin.get("/v1/organizations")).json()["data"]]
        assert gone not in names and stays in names
        assert (await admin.get(f"/v1/sessions/{kept}", headers=other)).status_code == 200
        files = (await admin.get("/v1/files", headers=other)).json()["data"]
        content = await admin.get(f"/v1/files/{files[0]['id']}/content", headers=other)
        assert content.content == b"of both"
        own = (await admin.get("/v1/organizations")).json()["data"][0]["id"]
        assert (await admin.delete(f"/v1/organizations/{own}")).status_code == 409
        await finished(admin, "ann", other)  # what follows the log goes on
    server.terminate()
    assert server.wait() == 0
    server.start()
    assert await content_of(server) == 1
