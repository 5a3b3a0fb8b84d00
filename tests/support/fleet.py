"""Several servers over one PostgreSQL, what stands before them, and what stands behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from .postgres import PostgresServer
from .proxy import TcpProxy
from .server import ServerProcess, bearer
from .wire import Frame, dense, execute, frames, read_all

SECRET = "5e" * 32
#: Seconds that anything may take on a machine that others use too.
PATIENCE = 90.0
#: Sessions of a long campaign, each with 20 tokens/s. `FLEET_SESSIONS` is for a machine that cannot
#: carry as many.
SESSIONS = int(os.environ.get("FLEET_SESSIONS", "200"))
#: What a machine that others use may add to a figure, in seconds.
SLACK = 3.0
#: The body of a turn that ends when it is cancelled.
ENDLESS: dict[str, Any] = {"goal": "count to 100000", "context": {"words_per_second": 20}}
#: Campaigns cancel their turns themselves, late on a busy machine.
_PATIENT = '{"guide": {"timeout_seconds": 900}}'
#: The answers that say "come again": a node that starts, drains, or has no database.
_AGAIN = {502, 503, 504}

Copy = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Forwarder(TcpProxy):
    """A TCP proxy in which each direction ends by itself."""

    async def _both_ways(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: Copy,
        back: Copy,
    ) -> None:
        """Until both directions have ended."""
        copies = [
            asyncio.create_task(_until_end(there, client[0], upstream[1])),
            asyncio.create_task(_until_end(back, upstream[0], client[1])),
        ]
        try:
            # One that is broken ends the other; one that has only ended does not.
            await asyncio.gather(*copies)
        finally:
            for copy in copies:
                copy.cancel()
            upstream[1].close()


async def _until_end(
    copy: Copy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await copy(reader, writer)
    if writer.can_write_eof():
        writer.write_eof()


async def _plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


class Balancer(_Forwarder):
    """Gives each connection to the next node that takes it, as simple balancers do."""

    def __init__(self, ports: Callable[[], Sequence[int]]) -> None:
        super().__init__()
        self._ports = ports
        self._turn = itertools.count()
        #: Connections of each port.
        self.given: dict[int, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = list(self._ports())
        first = next(self._turn)
        for step in range(len(ports)):
            port = ports[(first + step) % len(ports)]
            with contextlib.suppress(OSError):
                upstream = await asyncio.open_connection("127.0.0.1", port)
                self.given[port] = self.given.get(port, 0) + 1
                await self._both_ways((reader, writer), upstream, _plainly, _plainly)
                return


class DatabaseWay(_Forwarder):
    """The network between a node and its database. What is cut is held back, not lost, as TCP
    does it: when it is healed everything comes that was under way."""

    def __init__(self, database: PostgresServer) -> None:
        super().__init__()
        #: Where new connections lead.
        self.database = database
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self.heal()

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """`there`: to the database; `back`: its answers."""
        if there:
            self._there.clear()
        if back:
            self._back.clear()

    def heal(self) -> None:
        self._there.set()
        self._back.set()

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._there.wait()
        upstream = await asyncio.open_unix_connection(str(self.database.folder / ".s.PGSQL.5432"))
        await self._both_ways(
            (reader, writer), upstream, self._gated(self._there), self._gated(self._back)
        )

    def _gated(self, gate: asyncio.Event) -> Copy:
        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65_536):
                await gate.wait()
                writer.write(data)
                await writer.drain()
            await gate.wait()

        return copy


class Fleet:
    """Nodes of one store, each a process of its own."""

    def __init__(self, folder: Path, urls: Sequence[str], **settings: Any) -> None:
        settings = {
            "secret": SECRET,
            "node_beat": 0.4,
            "node_ttl": 3,
            "agent_limits": _PATIENT,
            **settings,
        }
        self.ttl = float(settings["node_ttl"])
        self.nodes = [
            ServerProcess(folder / f"node{number}", store=url, **settings)
            for number, url in enumerate(urls)
        ]
        self.balancer = Balancer(lambda: [node.port for node in self.living])

    @property
    def living(self) -> list[ServerProcess]:
        """The nodes whose process runs."""
        return [node for node in self.nodes if node.process.poll() is None]

    def start(self, *nodes: ServerProcess) -> None:
        """Start these at once; all by default."""
        wanted = nodes or tuple(self.nodes)
        first, *others = wanted
        first.start()  # one makes the store
        for node in others:
            node.launch(node.port)
        for node in others:
            node.wait_ready()

    def stop(self) -> None:
        for node in self.nodes:
            if node._process is not None and node._process.poll() is None:
                node.terminate()
        time.sleep(0.2)
        for node in self.nodes:
            node.stop()  # a second signal to those that wait for turns

    def addresses(self, first: ServerProcess) -> Callable[[], str]:
        """Those of a viewer's tries: this node, then whichever the balancer gives."""
        tries = itertools.chain([first.url], itertools.repeat(self.balancer.url))
        return lambda: next(tries)

    def other(self, *not_these: ServerProcess) -> ServerProcess:
        """A node that lives and is none of these."""
        return next(node for node in self.living if node not in not_these)


@contextlib.contextmanager
def running(folder: Path, urls: Sequence[str], **settings: Any) -> Iterator[Fleet]:
    fleet = Fleet(folder, urls, **settings)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()


def client_of(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    return httpx.AsyncClient(
        base_url=url,
        headers=bearer(),
        timeout=httpx.Timeout(30.0),
        limits=limits,
        verify=False,  # plain HTTP: it need not read the certificates
    )


@dataclass
class Viewer:
    """Reads a session from its start to the end of `turns` turns, at one node after the other.

    It comes back by itself when its connection breaks, with the position that it has.
    """

    session_id: str
    #: Names the address of the next try.
    address: Callable[[], str]
    turns: int = 1
    frames: list[Frame] = field(default_factory=list)
    #: When the end of each turn came, by the monotonic clock.
    ended_at: list[float] = field(default_factory=list)
    #: How often it connected, and the addresses it got something from.
    opens: int = 0
    seen_at: set[str] = field(default_factory=set)
    #: Positions at which an `error` frame without an id ended a stream.
    goodbyes: int = 0

    @property
    def done(self) -> int:
        return len(self.ended_at)

    async def watch(self) -> list[Frame]:
        while self.done < self.turns:
            url = self.address()
            self.opens += 1
            try:
                async with client_of(url) as client:
                    await self._read(client, url)
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
        return self.frames

    async def _read(self, client: httpx.AsyncClient, url: str) -> None:
        after = self.frames[-1].position if self.frames else 0
        path = f"/v1/sessions/{self.session_id}/stream"
        params = {"resume_from": after, "follow": "true"}
        # A node that is stopped keeps its connections and says nothing, not even heartbeats, which
        # come each four seconds. Hundreds of viewers in one process read theirs late.
        timeout = httpx.Timeout(30.0, read=15.0)
        async with client.stream("GET", path, params=params, timeout=timeout) as response:
            if response.status_code in _AGAIN:
                return
            assert response.status_code in {200, 204}, response.status_code
            async for frame in frames(response):
                if frame.id is None:
                    if frame.event == "error":
                        assert frame.body["code"] == "UNAVAILABLE", frame
                        self.goodbyes += 1
                    continue
                self.frames.append(frame)
                if frame.event == "done":
                    self.ended_at.append(time.monotonic())
                self.seen_at.add(url)
                if self.done == self.turns:
                    return


@asynccontextmanager
async def watched(viewers: Sequence[Viewer]) -> AsyncIterator[list[asyncio.Task[list[Frame]]]]:
    """The viewers at work; those that are not waited for are ended."""
    tasks = [asyncio.create_task(viewer.watch()) for viewer in viewers]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(what: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return once it is so."""
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.005)


def figures(what: str, seconds: Sequence[float]) -> None:
    """Print the median and the greatest."""
    median = statistics.median(seconds)
    print(f"{what}: {median:.2f} s, at most {max(seconds):.2f} s, of {len(seconds)}")


async def send_again(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], key: str, seconds: float = PATIENCE
) -> dict[str, Any]:
    """Post under a key until somebody answers."""
    headers = {"Idempotency-Key": key, "Prefer": "respond-async"}
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.post(path, json=body, headers=headers)
                if answer.status_code in {200, 202}:
                    found: dict[str, Any] = answer.json()
                    return found
                assert answer.status_code in _AGAIN, answer.text
            await asyncio.sleep(0.05)


async def enqueue(client: httpx.AsyncClient, session_id: str) -> None:
    """A second turn of the session, which waits for the first one's end."""
    waiting = {"goal": "count to 3", "session_id": session_id, "if_busy": "enqueue"}
    assert (await execute(client, **waiting))["turn"] == 2


async def none_is_open(fleet: Fleet) -> None:
    """No session runs or waits."""
    async with client_of(fleet.balancer.url) as client:
        for status in ("running", "queued"):
            found = await client.get("/v1/sessions", params={"status": status})
            assert found.json()["data"] == []


async def check_kept(client: httpx.AsyncClient, viewer: Viewer, codes: Sequence[str]) -> None:
    """The log is what the viewer has seen, and its turns ended with these codes."""
    kept = await read_all(client, viewer.session_id, resume_from=0)
    assert kept == viewer.frames
    check_log(kept, viewer.frames)
    assert last_codes(kept) == list(codes)


def check_log(kept: Sequence[Frame], seen: Sequence[Frame]) -> None:
    """The log has what was seen, byte for byte and densely; each turn has one end."""
    dense(list(kept))
    assert list(kept[: len(seen)]) == list(seen)
    ends = [frame.body["turn"] for frame in kept if frame.event == "done"]
    assert ends == list(range(1, len(ends) + 1))


def last_codes(kept: Sequence[Frame]) -> list[str]:
    """What the ends say: `success`, or the code of the error before."""
    found = []
    for before, frame in itertools.pairwise(kept):
        if frame.event == "done":
            status = frame.body["status"]
            found.append(before.body["code"] if before.event == "error" else status)
    return found
