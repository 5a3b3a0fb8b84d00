"""FastAPI + sse-starlette + Redis Streams, with a Redis of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from ..harness.loadgen import ViewerSpec
from ..harness.paths import reason_absent
from ..harness.process import Process, Server, free_port, stopping
from .asgi import uvicorn_command
from .base import Load, Peer, Plan, post
from .python_packages import versions


def _redis_command(port: int, directory: Path) -> list[str]:
    """Kept on disk as its documentation advises: each second, not each write."""
    options = {"port": port, "bind": "127.0.0.1", "dir": directory, "maxclients": 12000}
    options |= {"appendonly": "yes", "appendfsync": "everysec", "daemonize": "no"}
    command = ["redis-server", "--save", ""]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return command


class Handwritten(Peer):
    name = "handwritten"
    title = "FastAPI + sse-starlette + Redis"
    durability = "fsync every second"
    carries = 3_000
    most_idle = 2_000  # each viewer holds a connection to Redis as well

    def absent(self) -> str | None:
        if shutil.which("redis-server") is None:
            return reason_absent("system") or "redis-server is not installed"
        return reason_absent("python")

    def version(self) -> str:
        said = subprocess.run(
            ["redis-server", "--version"], capture_output=True, text=True, timeout=10, check=False
        )
        redis = said.stdout.partition("v=")[2].partition(" ")[0]
        packages = versions("fastapi", "sse-starlette", "redis", "hiredis", "uvicorn")
        return f"{packages}, Redis server {redis}"

    def start(self, directory: Path) -> Server:
        port, redis_port = free_port(), free_port()
        environment = {"REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"}
        with stopping([]) as started:
            started.append(Process(_redis_command(redis_port, directory), directory))
            started[0].wait_for_port(redis_port)
            command = uvicorn_command("handwritten:app", port)
            started.append(Process(command, directory, environment=environment))
            started[1].wait_for_port(port)
        return Server(port, directory, started)

    def _work(self, load: Load) -> dict[str, float]:
        return {
            "rate": load.rate,
            "count": load.count,
            "bytes": load.bytes,
            "groups": load.groups,
        }

    def fanout(self, server: Server, load: Load) -> Plan | None:
        viewers = ViewerSpec("/stream/{g}", load.viewers, groups=load.groups, from_one=True)

        def begin() -> None:
            post(server, "/start", self._work(load))

        return Plan(viewers, begin=begin)

    def tokens(self, server: Server, load: Load) -> Plan | None:
        body = json.dumps(self._work(load))
        return Plan(ViewerSpec("/chat", load.viewers, method="POST", body=body, from_one=True))

    def replay(self, server: Server, count: int, size: int, *, compact: bool) -> Plan | None:
        if compact:
            return None
        post(server, "/fill/stored", {"rate": 0, "count": count, "bytes": size})
        return Plan(ViewerSpec("/stream/stored", from_one=True))
