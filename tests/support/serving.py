"""Workers as users run them: processes of their own, with the handlers below.

`python -m support.serving AGENT HANDLER` serves until it is told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
from resonantgenesis import SyncResonantGenesis
from resonantgenesis.serving import AgentError, Ask, Keep, Step, ToolCall, ToolResult, Turn, Usage

from support.proxy import TcpProxy
from support.server import KEY, PATIENCE, TESTS, ServerProcess

# -- handlers ------------------------------------------------------------------------------


def _took(turn: Turn) -> None:
    """Note that this process has the turn."""
    if "took" in turn.context:
        with Path(turn.context["took"]).open("a") as file:
            file.write(f"{os.getpid()}\n")


async def _held(turn: Turn) -> None:
    """Wait for the file that lets the turn go on."""
    hold = turn.context.get("hold")
    while hold and not Path(hold).exists():
        await asyncio.sleep(0.01)


async def paced(turn: Turn) -> AsyncIterator[str]:
    """`count` marked pieces of text, `pace` a second (0: as fast as it can)."""
    _took(turn)
    pace = float(turn.context.get("pace", 0))
    for number in range(1, int(turn.context.get("count", 10)) + 1):
        if pace:
            await asyncio.sleep(1 / pace)
        yield f"{turn.goal}-{number:06d} "


async def late(turn: Turn) -> AsyncIterator[str]:
    """Says nothing before it may."""
    _took(turn)
    await _held(turn)
    yield f"{turn.goal} by {os.getpid()}"


async def early(turn: Turn) -> AsyncIterator[str]:
    """Says something, then waits until it may go on."""
    _took(turn)
    yield "begun "
    await _held(turn)
    yield "ended"


async def telling(turn: Turn) -> AsyncIterator[Any]:
    """Every kind of chunk, and what it was told of the turn."""
    yield Step("look")
    yield ToolCall("tell", {"goal": turn.goal})
    told = {
        "turn": turn.turn,
        "context": turn.context,
        "metadata": turn.metadata,
        "subject": turn.subject,
        "history": [(past.goal, past.output, past.status) for past in turn.history],
    }
    yield ToolResult("tell", told)
    yield Step("look", "completed", finish_reason="stop")
    yield f"turn {turn.turn}"
    yield Usage(3, 4)


async def asking(turn: Turn) -> AsyncIterator[Any]:
    """Asks for leave, and for a value; goes on in whichever worker is there then."""
    if not turn.answers:
        yield "asking "
        yield Keep({"by": os.getpid()})
        yield Ask("approval", "Pay?", "pay", {"amount": 3}, call_id="pay")
        yield Ask("input", "Why?", schema={"type": "string"}, call_id="why")
        return
    yield f"paid={bool(turn.answers['pay'])} because={turn.answers['why'].payload} "
    yield f"kept={turn.kept['by']} by={os.getpid()} after={turn.so_far[0].text}"


async def awaiting(turn: Turn) -> AsyncIterator[Any]:
    """Awaits leave and a value, in whichever worker is there then."""
    yield "asking "
    call = ToolCall("pay", {"amount": 3}, "pay")
    yield call
    paid = bool(await turn.approve(call, "Pay?"))
    yield ToolResult("pay", paid, "pay")
    yield f"paid={paid} because={await turn.ask('Why?', {'type': 'string'})} by={os.getpid()}"


def plain(turn: Turn) -> Iterator[str]:
    """Blocks its thread between two pieces."""
    yield "plain "
    time.sleep(0.05)
    yield turn.goal


def returning(turn: Turn) -> str:
    return f"{turn.goal}!"


async def failing(turn: Turn) -> AsyncIterator[str]:
    """Fails in the way that its goal names."""
    yield "trying "
    if turn.goal == "told":
        raise AgentError("the cellar is full", "RATE_LIMITED", retry_after=7)
    if turn.goal == "bad":
        yield 5  # type: ignore[misc]
    raise ValueError("a secret of the house")


async def minding(turn: Turn) -> AsyncIterator[str]:
    """Notes that it was ended early."""
    yield "waiting"
    try:
        await asyncio.sleep(3600)
    finally:
        Path(turn.context["ended"]).write_text("ended")


# -- processes -----------------------------------------------------------------------------


class WorkerProcess:
    """A worker of an agent; it may be stopped, woken and killed."""

    def __init__(
        self,
        server: ServerProcess,
        agent: str,
        handler: str,
        folder: Path,
        *,
        url: str | None = None,
        key: str = KEY,
        capacity: int = 8,
        name: str = "",
    ) -> None:
        self.name = name or f"{agent} {random.randrange(10**9)}"
        self.log_path = folder / f"{self.name}.log"
        self._server = server
        self._agent = agent
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "support.serving", agent, handler, str(capacity), self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("RESONANT")},
                    "PYTHONPATH": str(TESTS),
                    "RESONANTGENESIS_BASE_URL": url or server.url,
                    "RESONANTGENESIS_API_KEY": key,
                },
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def ready(self) -> WorkerProcess:
        """Return once the server lists it."""
        deadline = time.monotonic() + PATIENCE
        while self.name not in [worker["name"] for worker in listed(self._server)]:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return self

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


def listed(server: ServerProcess) -> list[dict[str, Any]]:
    """The workers that the server knows."""
    headers = {"Authorization": f"Bearer {KEY}"}
    found: list[dict[str, Any]] = httpx.get(f"{server.url}/v1/workers", headers=headers).json()[
        "data"
    ]
    return found


class CuttingProxy(TcpProxy):
    """A TCP proxy that cuts each connection after a number of bytes in either direction."""

    def __init__(self, upstream: int, rng: random.Random, budget: tuple[int, int]) -> None:
        super().__init__()
        self.cuts = 0
        #: Whether connections are cut.
        self.is_evil = True
        self._upstream = upstream
        self._rng = rng
        self._budget = budget

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            copies = {
                asyncio.create_task(self._copy(reader, up_writer)),
                asyncio.create_task(self._copy(up_reader, writer)),
            }
            try:
                await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for copy in copies:
                    copy.cancel()
                up_writer.transport.abort()
        finally:
            writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._rng.randrange(*self._budget)
        while data := await reader.read(65_536):
            if self.is_evil and len(data) >= left:
                self.cuts += 1
                writer.write(data[:left])
                await writer.drain()
                return
            left -= len(data)
            writer.write(data)
            await writer.drain()


def main() -> None:
    agent, handler, capacity, name = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    with SyncResonantGenesis() as client:
        client.agents.serve(
            agent, globals()[handler], capacity=int(capacity), name=name, drain_seconds=20
        )


if __name__ == "__main__":
    main()
