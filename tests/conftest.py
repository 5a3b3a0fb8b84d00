"""Fixtures of the end-to-end tests. Everything goes over real sockets to real processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# `support` is imported by its own name, here and in the servers that load agents from it: a
# package called `tests` would be taken for the SDK's.
sys.path.insert(0, str(Path(__file__).parent))

from support.server import Serve, ServerProcess


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _complaints(servers: list[ServerProcess]) -> list[str]:
    return [line for server in servers for line in server.errors()]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers, e.g. `serve(words_per_second=50)`; each must end without an error logged,
    unless `may_complain`."""
    servers: list[ServerProcess] = []
    strict: list[ServerProcess] = []

    def start(*, may_complain: bool = False, **options: Any) -> ServerProcess:
        server = ServerProcess(tmp_path / f"data{len(servers)}", **options)
        servers.append(server)
        if not may_complain:
            strict.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()
    assert _complaints(strict) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for a module's tests that leave it running."""
    shared = ServerProcess(
        tmp_path_factory.mktemp("server") / "data",
        agents={"silent": "support.agents:silent", "paced": "support.agents:paced"},
        limits__heartbeat=1,
        # Some modules ask every endpoint with every credential.
        limits__requests_per_minute=100_000,
    )
    yield shared.start()
    shared.stop()
    assert _complaints([shared]) == []
