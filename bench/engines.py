"""`python -m bench.engines`: CPU per delta of a model's answer, engine and rest apart.

A provider of our own streams paced deltas over HTTP. First every way to a model is measured by
itself, in a process that does nothing else: the client alone, then the whole engine around it.
Then the server as it is run, with agents that differ only in what they ask: a Python agent that
paces itself shows the rest, the others what their engine adds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
import psutil
import uvloop
from pydantic import SecretStr
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.llm.calls import ModelCall, ModelClient, UserMessage
from resonantgenesis_server.agents.engines.llm.engine import LlmEngine
from resonantgenesis_server.agents.engines.llm.models import Models
from resonantgenesis_server.agents.engines.llm.openai.client import OpenAIChatClient
from resonantgenesis_server.agents.engines.llm.pydantic_client import PydanticClient
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings
from resonantgenesis_server.agents.tools.toolbox import Toolbox

from .harness.paths import ROOT
from .harness.process import SERVER_CORE, Process, Server, free_port, pinned, stopping

KEY = "bench-key-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}"}
CLIENTS = ("lean", "pydantic-openai", "pydantic-anthropic")
ENGINES = {"engine-lean": "local", "engine-pydantic-anthropic": "anthropic"}


@dataclass(frozen=True)
class Load:
    """`rate` deltas a second of each of `turns` at once."""

    turns: int
    deltas: int
    rate: int

    @property
    def total(self) -> int:
        return self.turns * self.deltas


class Cost(NamedTuple):
    """CPU microseconds per delta of all processes, and of the server's own among them; `apart`: the
    share that came one by one, less on a busy machine, where what has gathered is joined."""

    cpu_us: float
    own_us: float
    apart: float = 1.0


# -- a way by itself, in a process of its own ------------------------------------------------


class Closing(ModelClient, Protocol):
    async def close(self) -> None: ...


async def _client(way: str, url: str) -> Closing:
    if way == "lean":
        return OpenAIChatClient(
            url, key="k", idle_seconds=60, tokens_field="max_tokens", trust_env=False
        )
    provider, base = ("anthropic", url[:-3]) if way.endswith("anthropic") else ("openai-chat", url)
    client = PydanticClient(provider, key="k", base_url=base, idle_seconds=60)
    await client.open()
    return client


async def _cost(way: str, url: str, load: Load) -> Cost:
    model = f"count-{load.deltas}-{1000 // load.rate}"
    if way in ENGINES:
        urls = {"local": url, "anthropic": url[:-3]}
        keys = {"anthropic": SecretStr("k")}
        engine = LlmEngine(Models(LlmSettings(base_urls=urls, api_keys=keys)), Toolbox())
        agent = engine.build({"model": f"{ENGINES[way]}:{model}"})

        async def once(number: int) -> int:
            turn = Turn("count", f"s{number}", 1, "a", tools=())
            return sum([isinstance(chunk, str) async for chunk in agent.run(turn)])

        cost = await _spent(once, load)
        await engine.close()
        return cost
    client = await _client(way, url)

    async def ask(number: int) -> int:
        call = ModelCall(model, "", [UserMessage(f"count {number}")])
        return sum([isinstance(delta, str) async for delta in client.stream(call)])

    cost = await _spent(ask, load)
    await client.close()
    return cost


async def _spent(once: Callable[[int], Awaitable[int]], load: Load) -> Cost:
    await asyncio.gather(*map(once, range(3)))  # imports, connections, caches
    before = time.process_time()
    told = await asyncio.gather(*map(once, range(load.turns)))
    spent = time.process_time() - before
    cpu_us = spent * 1e6 / load.total
    return Cost(cpu_us, cpu_us, sum(told) / load.total)


# -- in the server ---------------------------------------------------------------------------


def _start(directory: Path, url: str, workers: int) -> Server:
    port = free_port()
    command = [str(ROOT / ".venv/bin/resonantgenesis"), "serve", "--port", str(port)]
    command += ["--data", str(directory / "data"), "--agent", "paced=bench.agent:paced"]
    command += ["--log-level", "warning", "--drain-seconds", "0"]
    environment = {
        "RESONANTGENESIS_BOOTSTRAP_KEY": KEY,
        "RESONANTGENESIS_LLM__BASE_URLS": json.dumps({"local": url, "anthropic": url[:-3]}),
        "RESONANTGENESIS_LLM__API_KEYS": json.dumps({"anthropic": "k"}),
    }
    if workers:
        environment["RESONANTGENESIS_ENGINE_WORKERS"] = str(workers)
    with stopping([]) as started:
        started.append(Process(command, directory, cwd=ROOT, environment=environment))
        started[0].wait_for_port(port)
    return Server(port, directory, started)


async def _in_server(way: str, url: str, load: Load, workers: int) -> Cost:
    """Of the server, all its processes, with a viewer for each turn."""
    with tempfile.TemporaryDirectory() as directory:
        server = _start(Path(directory), url, workers)
        try:
            base = f"http://127.0.0.1:{server.port}"
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(
                base_url=base, headers=HEADERS, timeout=60, limits=limits
            ) as client:
                body = await _body(client, way, load)
                await asyncio.gather(*(_view(client, body) for _ in range(3)))
                before = server.usage().cpu, _own(server)
                # Apart by a part of a gap, or turns that pace themselves would speak in chorus, and
                # what is said together costs less.
                gap = 1 / load.rate / load.turns
                turns = (_view(client, body, n * gap) for n in range(load.turns))
                await asyncio.gather(*turns)
                after = server.usage().cpu, _own(server)
        finally:
            server.stop()
    return Cost(*((b - a) * 1e6 / load.total for a, b in zip(before, after, strict=True)))


def _own(server: Server) -> float:
    """CPU seconds of the server's own process, which listens; not those of its workers."""
    data = str(server.directory / "data")
    listening = (
        process
        for process in psutil.process_iter(["cmdline"])
        if data in (process.info["cmdline"] or ())
    )
    times = next(listening).cpu_times()
    return times.user + times.system


async def _body(client: httpx.AsyncClient, way: str, load: Load) -> dict[str, Any]:
    if way == "paced":
        goal = json.dumps({"rate": load.rate, "count": load.deltas, "bytes": 4})
        return {"agent_id": way, "goal": goal, "stream": True}
    model = f"{ENGINES[way]}:count-{load.deltas}-{1000 // load.rate}"
    agent = {"name": way, "engine": "llm", "model": model, "tools": []}
    made = await client.post("/v1/agents", json=agent)
    made.raise_for_status()
    return {"agent_id": made.json()["id"], "goal": "count", "stream": True}


async def _view(client: httpx.AsyncClient, body: dict[str, Any], delay: float = 0.0) -> None:
    await asyncio.sleep(delay)
    last = b""
    async with client.stream("POST", "/v1/sessions/execute", json=body) as response:
        async for data in response.aiter_raw():
            last = (last + data)[-100_000:]
    if b'"status":"success"' not in last:
        raise SystemExit(f"a turn failed: {last!r}")


# -- all of it -------------------------------------------------------------------------------


@contextlib.contextmanager
def _provider() -> Iterator[str]:
    command = [sys.executable, "-m", "support.models"]
    with subprocess.Popen(
        command, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _alone(way: str, url: str, load: Load) -> Cost:
    command = [sys.executable, "-m", "bench.engines", "--way", way, "--url", url]
    for name, value in asdict(load).items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(
        pinned(SERVER_CORE, command), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return Cost(*json.loads(done.stdout))


def _show(title: str, measured: Mapping[str, Sequence[Cost]]) -> None:
    print(f"\n{title}: CPU µs per delta, least / middle / greatest")
    for name, costs in measured.items():
        cpu = [cost.cpu_us for cost in costs]
        own = statistics.median(cost.own_us for cost in costs)
        apart = min(cost.apart for cost in costs)
        notes = f"   ({1 - apart:.0%} joined)" if apart < 1 else ""
        notes += f"   (the server's own process {own:.1f})" if own < 0.98 * min(cpu) else ""
        print(f"  {name:30s} {min(cpu):7.1f} {statistics.median(cpu):7.1f} {max(cpu):7.1f}{notes}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=__doc__)
    parser.add_argument("--turns", type=int, default=40, help="at once")
    parser.add_argument("--deltas", type=int, default=100, help="of each turn")
    parser.add_argument("--rate", type=int, default=25, help="deltas a second of each turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    load = Load(options.turns, options.deltas, options.rate)
    if options.way:
        print(json.dumps(uvloop.run(_cost(options.way, options.url, load))))
        return
    with _provider() as url:
        alone: dict[str, list[Cost]] = {way: [] for way in (*CLIENTS, *ENGINES)}
        served: dict[str, list[Cost]] = {way: [] for way in ("paced", *ENGINES)}
        worked: dict[str, list[Cost]] = {way: [] for way in ENGINES}
        for _ in range(options.repeats):
            for way, costs in alone.items():
                costs.append(_alone(way, url, load))
            for way, costs in served.items():
                costs.append(asyncio.run(_in_server(way, url, load, workers=0)))
            for way, costs in worked.items():
                costs.append(asyncio.run(_in_server(way, url, load, workers=1)))
    _show("By itself", alone)
    _show("In the server, which writes durably and has a viewer for each turn", served)
    _show("The same with one engine worker", worked)


if __name__ == "__main__":
    main()
