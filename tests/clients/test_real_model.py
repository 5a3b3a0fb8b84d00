"""The AI SDK's chat with a real model: what streams is what the log has, over a cut."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.credentials import sync_client
from support.node import run_client
from support.server import TESTS, bearer, running

PYTHON = TESTS.parent / ".venv-model" / "bin" / "python"


@pytest.fixture
def model(tmp_path: Path) -> Iterator[str]:
    """The address of a server with the model."""
    command = [PYTHON, TESTS / "support" / "small_model.py", tmp_path / "weights.gguf"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.mark.soak
def test_a_real_models_answer_is_cut_and_resumed(model: str, tmp_path: Path) -> None:
    urls = json.dumps({"local": f"{model}/v1"})
    with (
        running(tmp_path / "data", llm__base_urls=urls) as server,
        sync_client(server, headers=bearer()) as client,
    ):
        body = {"name": "Gemma", "engine": "llm", "model": "local:gemma"}
        agent = client.post("/v1/agents", json=body)
        assert agent.status_code == 201, agent.text
        found = run_client("real_model.mjs", server, version="ai6", agent=agent.json()["id"])
        session = client.get(f"/v1/sessions/{found['metadata']['session_id']}").json()
    assert found["text"] == session["output"] and session["status"] == "completed"
    assert found["text"].startswith(found["seen"]) and len(found["seen"]) < len(found["text"])
    assert len(found["text"].split()) > 10
