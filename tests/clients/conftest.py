"""A server for the clients of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.server import ServerProcess

AGENTS = (
    "refusing", "refunds", "buyer", "paced", "reporting", "location", "questions", "slow",
    "talkative",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for a module's tests, with agents that fail, ask, and take their time."""
    shared = ServerProcess(
        tmp_path_factory.mktemp("server") / "data",
        agents={name: f"support.agents:{name}" for name in AGENTS},
        limits__heartbeat=1,
        limits__disconnect_grace=0.5,
        webhooks__allow_hosts="127.0.0.1",
        webhooks__first_retry=0.05,
    )
    yield shared.start()
    shared.stop()
    assert shared.errors() == []
