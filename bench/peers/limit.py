"""The limit: the C program of bench/c/limit."""

from __future__ import annotations

from pathlib import Path

from ..harness.loadgen import ViewerSpec
from ..harness.paths import LIMIT
from ..harness.process import Process, Server, free_port, stopping
from .base import Load, Peer, Plan, post


class Limit(Peer):
    name = "limit"
    title = "C send() loop"

    def start(self, directory: Path) -> Server:
        port = free_port()
        with stopping([]) as started:
            started.append(Process([str(LIMIT), str(port)], directory))
            started[0].wait_for_port(port)
        return Server(port, directory, started)

    def _begin(self, server: Server, load: Load) -> None:
        query = f"rate={load.rate:.0f}&count={load.count}&bytes={load.bytes}&groups={load.groups}"
        post(server, f"/start?{query}")

    def fanout(self, server: Server, load: Load) -> Plan | None:
        viewers = ViewerSpec("/stream?group={g}", load.viewers, groups=load.groups, from_one=True)
        return Plan(viewers, begin=lambda: self._begin(server, load))

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        viewers = ViewerSpec(
            "/ws?group={g}",
            load.viewers,
            groups=load.groups,
            from_one=True,
            websocket=True,
            deflate=deflate,
        )
        return Plan(viewers, begin=lambda: self._begin(server, load))

    def tokens(self, server: Server, load: Load) -> Plan | None:
        path = f"/tokens?rate={load.rate:.0f}&count={load.count}&bytes={load.bytes}"
        return Plan(ViewerSpec(path, load.viewers, method="POST", body="{}", from_one=True))

    def replay(self, server: Server, count: int, size: int, *, compact: bool) -> Plan | None:
        if compact:
            return None
        return Plan(ViewerSpec(f"/replay?count={count}&bytes={size}", from_one=True))
