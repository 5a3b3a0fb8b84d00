"""Peers that run in Node: the Durable Streams reference server, `ws`, Socket.IO."""

from __future__ import annotations

import json
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import httpx

from ..harness.loadgen import PublishSpec, ViewerSpec
from ..harness.paths import NODE, reason_absent
from ..harness.process import BenchError, Process, Server, free_port, stopping
from .base import Load, Peer, Plan, post


class NodePeer(Peer):
    """A script of bench/peers/node, started with a port and `arguments`."""

    script: str
    package: str

    def absent(self) -> str | None:
        if shutil.which("node") is None:
            return "Node is not installed"
        return reason_absent("node")

    def version(self) -> str:
        manifest = json.loads((NODE / "node_modules" / self.package / "package.json").read_text())
        return f"{self.package} {manifest['version']}"

    def arguments(self, directory: Path) -> Sequence[str]:
        return ()

    def start(self, directory: Path) -> Server:
        port = free_port()
        command = ["node", self.script, str(port), *self.arguments(directory)]
        with stopping([]) as started:
            environment = {"NODE_ENV": "production"}
            started.append(Process(command, directory, cwd=NODE, environment=environment))
            started[0].wait_for_port(port)
        return Server(port, directory, started)


class SocketPeer(NodePeer):
    """One that sends each event to all of its WebSockets, started over HTTP."""

    @abstractmethod
    def viewers(self, load: Load, *, deflate: bool) -> ViewerSpec:
        """How they connect."""

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        query = f"rate={load.rate:g}&count={load.count}&bytes={load.bytes}"

        def begin() -> None:
            post(server, f"/start?{query}")

        return Plan(self.viewers(load, deflate=deflate), begin=begin)

    def idle(self, server: Server, viewers: int) -> Plan | None:
        return None


class Ws(SocketPeer):
    name = "ws"
    title = "ws (Node)"
    script = "ws.mjs"
    package = "ws"

    def viewers(self, load: Load, *, deflate: bool) -> ViewerSpec:
        return ViewerSpec("/ws", load.viewers, from_one=True, websocket=True, deflate=deflate)


class SocketIo(SocketPeer):
    name = "socketio"
    title = "Socket.IO"
    script = "socketio.mjs"
    package = "socket.io"

    def viewers(self, load: Load, *, deflate: bool) -> ViewerSpec:
        return ViewerSpec(
            "/socket.io/?EIO=4&transport=websocket",
            load.viewers,
            from_one=True,
            websocket=True,
            deflate=deflate,
            messages=("40",),
            ready='40{"sid"',
            reply="2=3",
        )


class DurableStreams(NodePeer):
    """Appends come over HTTP, one request each, as its protocol has it."""

    name = "durable"
    title = "Durable Streams (reference server)"
    durability = "fsync before it is seen"
    script = "durable.mjs"
    package = "@durable-streams/server"
    carries = 2_000

    def arguments(self, directory: Path) -> Sequence[str]:
        return (str(directory / "streams"),)

    def _create(self, server: Server, number: int) -> None:
        headers = {"Content-Type": "application/json"}
        with httpx.Client(timeout=30, headers=headers) as client:
            for index in range(number):
                url = f"http://127.0.0.1:{server.port}/streams/{index}"
                if client.put(url).status_code >= 300:
                    raise BenchError("Durable Streams refused to make a stream")

    def _publish(self, load: Load, groups: int) -> PublishSpec:
        return PublishSpec(
            path="/streams/{g}",
            body='{"type":"text","content":"{p}","position":1}',
            headers=("Content-Type: application/json",),
            groups=groups,
            connections=min(groups, 64),
            rate=load.rate,
            count=load.count,
            bytes=load.bytes,
        )

    def _viewers(self, load: Load, groups: int) -> ViewerSpec:
        path = "/streams/{g}?offset=-1&live=sse"
        return ViewerSpec(path, load.viewers, groups=groups, from_one=True)

    def _plan(self, server: Server, load: Load, groups: int) -> Plan:
        self._create(server, groups)
        return Plan(self._viewers(load, groups), publish=self._publish(load, groups))

    def fanout(self, server: Server, load: Load) -> Plan | None:
        return self._plan(server, load, load.groups)

    def tokens(self, server: Server, load: Load) -> Plan | None:
        return self._plan(server, load, load.viewers)

    def replay(self, server: Server, count: int, size: int, *, compact: bool) -> Plan | None:
        if compact:
            return None
        self._create(server, 1)
        # In arrays, which it takes apart: 10,000 requests would only cost time.
        with httpx.Client(timeout=60, headers={"Content-Type": "application/json"}) as client:
            for start in range(1, count + 1, 100):
                chunks = [
                    {"type": "text", "content": f"@1:{seq};".ljust(size, "x"), "position": seq}
                    for seq in range(start, min(start + 100, count + 1))
                ]
                url = f"http://127.0.0.1:{server.port}/streams/0"
                if client.post(url, content=json.dumps(chunks)).status_code >= 300:
                    raise BenchError("Durable Streams refused an append")
        return Plan(ViewerSpec("/streams/0?offset=-1", from_one=True))
