"""Fixtures of the SDK's tests: the fake server, clients that retry quickly, case files."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from resonantgenesis import ResonantGenesis, SyncResonantGenesis
from resonantgenesis._core.retry import Backoff

from .support.fake_server import FakeServer

CASES = Path(__file__).resolve().parents[3] / "protocol"
KEY = "rg_test_key"


def load_cases(name: str) -> Any:
    """A file of `protocol/`."""
    # Every worker of the tests loads them, and the loader in Python takes a second.
    return yaml.load((CASES / name).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def hasten(client: Any) -> Any:
    """Waits of milliseconds between attempts, so that tests wait for the thing itself."""
    quick = Backoff(base=0.002, cap=0.01)
    client._transport.settings = dataclasses.replace(client._transport.settings, backoff=quick)
    return client


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    await fake.start()
    yield fake
    await fake.stop()


MakeClient = Callable[..., ResonantGenesis]


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    clients: list[ResonantGenesis] = []

    def make(base_url: str, **options: Any) -> ResonantGenesis:
        clients.append(hasten(ResonantGenesis(api_key=KEY, base_url=base_url, **options)))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def client(server: FakeServer, make_client: MakeClient) -> ResonantGenesis:
    return make_client(server.url)


class ServerThread:
    """The fake server on a loop of its own, for the synchronous client."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server = self.run(self._start)

    def run(self, make: Callable[[], Any]) -> Any:
        """Runs a coroutine function on the server's loop, 10 s at most."""
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result(10)

    async def _start(self) -> FakeServer:
        fake = FakeServer()
        await fake.start()
        return fake

    def stop(self) -> None:
        self.run(self.server.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def served() -> Iterator[ServerThread]:
    thread = ServerThread()
    yield thread
    thread.stop()


@pytest.fixture
def sync_client(served: ServerThread) -> Iterator[SyncResonantGenesis]:
    with SyncResonantGenesis(api_key=KEY, base_url=served.server.url) as client:
        yield hasten(client)
