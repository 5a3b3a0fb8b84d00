"""Plain ASGI under uvicorn: the least that Python can do with `await send` per viewer."""

from __future__ import annotations

from pathlib import Path

from ..harness.loadgen import ViewerSpec
from ..harness.paths import APPS, PEER_PYTHON, reason_absent
from ..harness.process import Process, Server, free_port, stopping
from .base import Load, Peer, Plan, post
from .python_packages import versions


def uvicorn_command(app: str, port: int) -> list[str]:
    """As the documentation of uvicorn says, with its fast loop and parser."""
    command = [str(PEER_PYTHON), "-m", "uvicorn", app, "--app-dir", str(APPS)]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    return [*command, "--log-level", "warning", "--no-access-log", "--backlog", "4096"]


class PlainAsgi(Peer):
    name = "asgi"
    title = "plain ASGI (uvicorn)"

    def absent(self) -> str | None:
        return reason_absent("python")

    def version(self) -> str:
        return versions("uvicorn", "uvloop", "httptools", "websockets")

    def start(self, directory: Path) -> Server:
        port = free_port()
        with stopping([]) as started:
            started.append(Process(uvicorn_command("plain_asgi:app", port), directory))
            started[0].wait_for_port(port)
        return Server(port, directory, started)

    def _begin(self, server: Server, load: Load) -> None:
        query = f"rate={load.rate:.0f}&count={load.count}&bytes={load.bytes}&groups={load.groups}"
        post(server, f"/start?{query}")

    def fanout(self, server: Server, load: Load) -> Plan | None:
        viewers = ViewerSpec("/stream/{g}", load.viewers, groups=load.groups, from_one=True)
        return Plan(viewers, begin=lambda: self._begin(server, load))

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        viewers = ViewerSpec(
            "/ws/{g}",
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
        post(server, f"/fill?count={count}&bytes={size}")
        return Plan(ViewerSpec("/replay", from_one=True))
