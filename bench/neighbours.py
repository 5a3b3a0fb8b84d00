"""`python -m bench.neighbours`: one organization beside another that does its worst.

The neighbour stays within its limits: requests as often as a key may make them with the bodies that
cost most, sockets with the largest messages as fast as they are taken, subscriptions with the most
expensive filters, the largest pages. Meanwhile the organization that is measured makes a small
request, and publishes an event that it follows itself, twenty times a second each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import websockets

from .harness.paths import ROOT
from .harness.process import LOAD_CORE, pinned
from .peers.ours import HEADERS, Ours

#: Requests a second that a key may make.
RATE = 10
SOCKETS, SUBSCRIBERS = 20, 100
_VALUES = 19_900
_DEEP: list[Any] = []
for _ in range(26):
    _DEEP = [_DEEP]


def _dense() -> dict[str, Any]:
    """As deep and with as many values as is taken, and names that nobody has seen before."""
    salt = time.monotonic_ns()
    names = {f"{salt}-{n}": n for n in range(_VALUES // 8)}
    return {**names, "deep": [_DEEP] * (_VALUES // 4 // 27)}


class Neighbour:
    """What the other organization does, each until it is stopped."""

    def __init__(self, base: str, key: str) -> None:
        self._base, self._key = base, key
        limits = httpx.Limits(max_connections=200)
        bearer = {"Authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(
            base_url=base, headers=bearer, timeout=60, limits=limits, trust_env=False
        )

    async def nothing(self) -> None:
        await asyncio.Event().wait()

    async def bodies(self) -> None:
        """Turns with the costliest context."""

        def body() -> bytes:
            goal = json.dumps({"rate": 0, "count": 1, "bytes": 8})
            context, metadata = _dense(), {"x": "é" * 40_000}
            said = {"agent_id": "bench", "goal": goal, "context": context, "metadata": metadata}
            return json.dumps(said).encode()

        await self._paced(lambda: self._post("/v1/sessions/execute", body()))

    async def refused(self) -> None:
        """A mebibyte of values, which is more than is taken."""
        data = b"[" + b"{}," * 349_000 + b"{}]"
        await self._paced(lambda: self._post("/v1/sessions/execute", data))

    async def sockets(self) -> None:
        """The largest messages, as fast as they are taken."""
        dense = {"type": "ping", "more": _dense()}
        dense["fill"] = "x" * (250_000 - len(json.dumps(dense)))
        message = json.dumps(dense)

        async def flood() -> None:
            async with self._socket() as ws:
                reading = asyncio.create_task(_drain(ws))
                while True:
                    await ws.send(message)
                    await asyncio.sleep(0.011)
                del reading

        await asyncio.gather(*[flood() for _ in range(SOCKETS)])

    async def chatter(self) -> None:
        """Small messages, as many as sockets may send."""

        async def chat() -> None:
            async with self._socket() as ws:
                reading = asyncio.create_task(_drain(ws))
                while True:
                    for _ in range(9):
                        await ws.send('{"type":"ping"}')
                    await asyncio.sleep(0.1)
                del reading

        await asyncio.gather(*[chat() for _ in range(SUBSCRIBERS)])

    async def filters(self) -> None:
        """Events that every one of many subscriptions looks at to the end."""
        path, data = "", {f"v{n}": n for n in range(18)}
        inner: dict[str, Any] = data
        for n in range(15):
            inner, path = {f"s{n}": inner}, f"s{n}.{path}"

        async def follow(number: int) -> None:
            async with self._socket() as ws:
                wanted = {f"{path}v{n}": [n, 1000 + number] for n in range(4)}
                subscribe = {"type": "subscribe", "channels": ["app"], "filters": wanted}
                await ws.send(json.dumps(subscribe))
                await _drain(ws)

        following = [asyncio.create_task(follow(n)) for n in range(SUBSCRIBERS)]
        await asyncio.sleep(1)
        body = json.dumps({"type": "app.x", "data": inner}).encode()
        await self._paced(lambda: self._post("/v1/events", body))
        del following

    async def pages(self) -> None:
        """The largest pages of large events."""
        for _ in range(60):
            data = {"type": "app.large", "data": {"x": "y" * 250_000}}
            await self._post("/v1/events", json.dumps(data).encode())
        await self._paced(lambda: self._http.get("/v1/events?limit=1000"))

    async def replays(self) -> None:
        """Looks through all events for what none of them is."""
        data = json.dumps({"type": "app.x", "data": {f"f{n}": n for n in range(20)}}).encode()
        for _ in range(20):
            await asyncio.gather(*[self._post("/v1/events", data) for _ in range(25)])
        body = {"since": "2020-01-01", "filters": {"f1": 1, "f2": 0}}
        await self._paced(lambda: self._post("/v1/events/replay", json.dumps(body).encode()))

    # -- inside ----------------------------------------------------------------------------

    async def _post(self, path: str, data: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        return await self._http.post(path, content=data, headers=headers)

    async def _paced(self, once: Callable[[], Awaitable[httpx.Response]]) -> None:
        tasks: set[asyncio.Task[Any]] = set()
        while True:
            if len(tasks) < 50:
                task = asyncio.ensure_future(once())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / RATE)

    def _socket(self) -> websockets.connect:
        return websockets.connect(
            self._base.replace("http", "ws") + "/v1/ws",
            additional_headers={"Authorization": f"Bearer {self._key}"},
            compression=None,
            max_size=None,
            proxy=None,
        )


WAYS = ("nothing", "bodies", "refused", "sockets", "chatter", "filters", "pages", "replays")


async def _drain(ws: websockets.ClientConnection) -> None:
    async for _ in ws:
        pass


# -- who is measured -------------------------------------------------------------------------


async def _measured(base: str, key: str, seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds that small requests take, and events from their publishing to their reader."""
    requests: list[float] = []
    events: list[float] = []
    sent: dict[int, float] = {}
    bearer = {"Authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(base_url=base, headers=bearer, timeout=60, trust_env=False) as http,
        websockets.connect(
            base.replace("http", "ws") + "/v1/ws", additional_headers=bearer, proxy=None
        ) as ws,
    ):
        await ws.send('{"type":"subscribe","channels":["app"]}')

        async def hear() -> None:
            async for data in ws:
                number = json.loads(data).get("number")
                if number in sent:
                    events.append((time.perf_counter() - sent[number]) * 1e3)

        hearing = asyncio.create_task(hear())
        end = time.perf_counter() + seconds
        number = 0
        while time.perf_counter() < end:
            number += 1
            began = sent[number] = time.perf_counter()
            if number % 2:
                await http.get("/v1/sessions?limit=1")
                requests.append((time.perf_counter() - began) * 1e3)
            else:
                await http.post("/v1/events", json={"type": "app.n", "data": {"number": number}})
            await asyncio.sleep(max(0.0, 0.025 - (time.perf_counter() - began)))
        hearing.cancel()
    return requests, events


def _quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)] if ordered else 0.0


def _run(way: str, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = Ours().start(Path(directory))
        try:
            base = f"http://127.0.0.1:{server.port}"
            keys = [_organization(base, name) for name in ("measured", "neighbour")]
            with _neighbour(way, base, keys[1]):
                time.sleep(2.0)
                before = server.usage().cpu
                requests, events = asyncio.run(_measured(base, keys[0], seconds))
                busy = (server.usage().cpu - before) / seconds
        finally:
            server.stop()
    shown = "".join(
        f"{_quantile(values, part):9.1f}" for values in (requests, events) for part in (0.5, 0.99)
    )
    print(f"  {way:10s}{shown}{busy:10.0%}", flush=True)


def _organization(base: str, name: str) -> str:
    """Its key, which has the limits that the bootstrap key has not."""
    answer = httpx.post(base + "/v1/organizations", json={"name": name}, headers=HEADERS)
    answer.raise_for_status()
    key: str = answer.json()["key"]["key"]
    return key


@contextlib.contextmanager
def _neighbour(way: str, base: str, key: str) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.neighbours", "--way", way, "--base", base, "--key", key]
    with subprocess.Popen(pinned(LOAD_CORE, command), cwd=ROOT) as process:
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.neighbours", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="of each kind")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        asyncio.run(getattr(Neighbour(options.base, options.key), options.way)())
        return
    print("Milliseconds of one organization, by what its neighbour does, and the server's CPU")
    print("              request        event to its reader")
    print("                 p50      p99      p50      p99")
    for way in options.ways.split(","):
        _run(way, options.seconds)


if __name__ == "__main__":
    main()
