"""A clock that jumps: no key and no session is forgotten, no usage dated ahead; also at a start."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.server import Serve, ServerProcess

pytestmark = pytest.mark.anyio
PROGRAM = Path(__file__).parents[1] / "support" / "stepped.py"
DAY = 86_400.0


async def execute(client: httpx.AsyncClient, key: str) -> dict[str, Any]:
    body = {"agent_id": "guide", "goal": "What is 2+2?"}
    answer = await client.post("/v1/sessions/execute", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def all_as_before(server: ServerProcess, before: dict[str, Any], made: str) -> None:
    async with server.client() as client:
        assert (await execute(client, "first"))["session_id"] == before["session_id"]
        again = await client.post(
            "/v1/keys", json={"name": "k", "scopes": ["*"]}, headers={"Idempotency-Key": "made"}
        )
        assert again.status_code == 409, again.text  # shown only once, and not made twice
        keys = (await client.get("/v1/keys")).json()["data"]
        assert [key["id"] for key in keys if key["name"] == "k"] == [made]
        assert (await client.get(f"/v1/sessions/{before['session_id']}")).status_code == 200
        new = await execute(client, f"new {time.monotonic()}")
        shown = (await client.get(f"/v1/sessions/{new['session_id']}")).json()
        assert abs(seconds(shown["created_at"]) - time.time()) < 600
        assert abs(seconds(shown["updated_at"]) - time.time()) < 600
        usage = (await client.get("/v1/usage?group_by=day&from=2020-01-01")).json()["data"]
        days = {str(day["day"]) for day in usage}
        near = [
            datetime.fromtimestamp(time.time() + d, UTC).date().isoformat() for d in (-600, 600)
        ]
        assert days and days <= set(near)


@pytest.mark.parametrize("step", [40 * DAY, pytest.param(-40 * DAY, marks=pytest.mark.soak)])
async def test_a_clock_that_jumps_for_a_moment(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    file = tmp_path / "step"
    monkeypatch.setenv("CLOCK_STEP", str(file))
    server = serve(program=PROGRAM)
    async with server.client() as client:
        before = await execute(client, "first")
        made = await client.post(
            "/v1/keys", json={"name": "k", "scopes": ["*"]}, headers={"Idempotency-Key": "made"}
        )
    file.write_text(str(step))
    await all_as_before(server, before, made.json()["id"])
    for end in (server.kill, server.stop):  # the first look of housekeeping is at the start
        end()
        server.start()
        await all_as_before(server, before, made.json()["id"])
    file.unlink()
    await all_as_before(server, before, made.json()["id"])
    server.kill()
    server.start()
    await all_as_before(server, before, made.json()["id"])
    assert not [line for line in server.records() if "too old" in line["event"]]
