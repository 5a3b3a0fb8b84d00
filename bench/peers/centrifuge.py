"""Centrifugo, and the library that it is built on as a small server of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from ..harness.loadgen import PublishSpec, ViewerSpec
from ..harness.paths import BENCH, WORK, reason_absent
from ..harness.process import Process, Server, free_port, stopping
from .base import Load, Peer, Plan, post

LIBRARY = WORK / "bin" / "centrifuge"
CENTRIFUGO = WORK / "bin" / "centrifugo"


def _missing(name: str, binary: Path) -> str | None:
    if shutil.which("go") is None and not binary.exists():
        return "Go is not installed"
    return reason_absent(name) or (None if binary.exists() else "was not built")


class Centrifuge(Peer):
    name = "centrifuge"
    title = "centrifuge (Go library of Centrifugo)"

    def absent(self) -> str | None:
        return _missing("centrifuge", LIBRARY)

    def version(self) -> str:
        lines = (BENCH / "peers" / "go" / "go.mod").read_text().splitlines()
        line = next(line for line in lines if "centrifugal/centrifuge " in line)
        return line.split()[-1]

    def start(self, directory: Path) -> Server:
        port = free_port()
        with stopping([]) as started:
            started.append(Process([str(LIBRARY), str(port)], directory))
            started[0].wait_for_port(port)
        return Server(port, directory, started)

    def _begin(self, server: Server, load: Load) -> None:
        query = f"rate={load.rate:g}&count={load.count}&bytes={load.bytes}&groups={load.groups}"
        post(server, f"/start?{query}")

    def fanout(self, server: Server, load: Load) -> Plan | None:
        viewers = ViewerSpec(
            "/sse",
            load.viewers,
            method="POST",
            body='{"id":1,"connect":{"name":"{g}"}}',
            groups=load.groups,
            from_one=True,
        )
        return Plan(viewers, begin=lambda: self._begin(server, load))

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        viewers = ViewerSpec(
            "/ws",
            load.viewers,
            groups=load.groups,
            from_one=True,
            websocket=True,
            deflate=deflate,
            messages=('{"id":1,"connect":{"name":"{g}"}}',),
            ready='"connect":{',
            reply="{}={}",
        )
        return Plan(viewers, begin=lambda: self._begin(server, load))


class Centrifugo(Peer):
    """Memory engine, history on; events are published through its HTTP API."""

    name = "centrifugo"
    title = "Centrifugo"

    def absent(self) -> str | None:
        return _missing("centrifugo", CENTRIFUGO)

    def version(self) -> str:
        said = subprocess.run(
            [str(CENTRIFUGO), "version"], capture_output=True, text=True, timeout=10, check=False
        )
        return said.stdout.strip()

    def start(self, directory: Path) -> Server:
        port = free_port()
        channel = {
            "history_size": 20_000,
            "history_ttl": "600s",
            "force_recovery": True,
            "allow_subscribe_for_client": True,
            "allow_subscribe_for_anonymous": True,
        }
        configuration = directory / "centrifugo.json"
        settings = {
            "http_server": {"address": "127.0.0.1", "port": port},
            "client": {"insecure": True, "allowed_origins": ["*"]},
            "http_api": {"insecure": True},
            "websocket": {"compression": True},
            "uni_sse": {"enabled": True},
            "channel": {"without_namespace": channel},
            "log": {"level": "error"},
        }
        configuration.write_text(json.dumps(settings))
        with stopping([]) as started:
            started.append(Process([str(CENTRIFUGO), "--config", str(configuration)], directory))
            started[0].wait_for_port(port)
        return Server(port, directory, started)

    def _publish(self, load: Load) -> PublishSpec:
        data = '{"type":"text","content":"{p}","position":1}'
        return PublishSpec(
            path="/api/publish",
            body='{"channel":"topic{g}","data":' + data + "}",
            headers=("Content-Type: application/json",),
            groups=load.groups,
            connections=load.groups,
            rate=load.rate,
            count=load.count,
            bytes=load.bytes,
        )

    def fanout(self, server: Server, load: Load) -> Plan | None:
        viewers = ViewerSpec(
            "/connection/uni_sse",
            load.viewers,
            method="POST",
            body='{"subs":{"topic{g}":{}}}',
            groups=load.groups,
            from_one=True,
        )
        return Plan(viewers, publish=self._publish(load))

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        viewers = ViewerSpec(
            "/connection/websocket",
            load.viewers,
            groups=load.groups,
            from_one=True,
            websocket=True,
            deflate=deflate,
            messages=('{"id":1,"connect":{}}', '{"id":2,"subscribe":{"channel":"topic{g}"}}'),
            ready='"subscribe":{',
            reply="{}={}",
        )
        return Plan(viewers, publish=self._publish(load))
