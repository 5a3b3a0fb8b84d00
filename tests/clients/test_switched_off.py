"""Protocols that the setting `clients` does not name."""

from __future__ import annotations

from pathlib import Path

import httpx
from support.server import bearer, running


def test_protocols_that_are_not_named_are_not_there(tmp_path: Path) -> None:
    with (
        running(tmp_path / "data", clients="openai") as server,
        httpx.Client(base_url=server.url, headers=bearer()) as client,
    ):
        assert client.get("/openai/v1/models").status_code == 200
        for answer in (
            client.get("/v1/agents/guide/chat/c/stream"),
            client.post("/v1/agents/guide/ag-ui", json={}),
            client.get("/copilotkit/info"),
        ):
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "NOT_FOUND"
        assert "/chat" not in " ".join(client.get("/openapi.json").json()["paths"])
