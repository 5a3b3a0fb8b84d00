"""A mistake in the log's writer is told with its traceback; one after the other ends the process,
since one that starts anew may do better."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from support.server import Serve

pytestmark = pytest.mark.anyio
PROGRAM = Path(__file__).parents[1] / "support" / "defective.py"


async def test_a_defect_is_told_and_repeated_ends_the_process(serve: Serve) -> None:
    server = serve(program=PROGRAM, may_complain=True)
    body = {"agent_id": "guide", "goal": "hello", "stream": False}
    bad = {**body, "goal": "trigger the mistake"}
    path = "/v1/sessions/execute"
    async with server.client() as client:
        refused = await client.post(path, json=bad)
        assert refused.json()["error"]["code"] == "UNAVAILABLE"
        assert "mistake" not in refused.text
        (line,) = server.logged("the log failed internally")
        assert "KeyError: 'the mistake'" in line["exception"]
        (line,) = server.logged("store unusable")
        assert "KeyError: 'the mistake'" in line["exception"]
        assert line["request_id"] == refused.headers["x-request-id"]
        for _ in range(6):  # never two in a row
            assert (await client.post(path, json=body)).json()["status"] == "success"
            assert (await client.post(path, json=bad)).status_code == 503
        assert 'defects_total{place="log"} 7.0' in (await client.get("/metrics")).text
        async with asyncio.timeout(60):
            while server.process.poll() is None:
                try:
                    await client.post(path, json=bad)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
    assert server.process.returncode == 1
    assert server.logged("the log fails time after time; the server stops")
