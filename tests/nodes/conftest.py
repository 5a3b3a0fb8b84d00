"""Fixtures of the campaign over several nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.postgres import PostgresServer


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """Durable, and the test's own: it is killed."""
    server = PostgresServer({})
    yield server.start()
    server.close()
