"""ResonantGenesis: `serve`, as anyone starts it, with the bench's agent."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import httpx

from ..harness.loadgen import PublishSpec, ViewerSpec
from ..harness.paths import ROOT
from ..harness.process import BenchError, Process, Server, free_port, stopping
from .base import Load, Peer, Plan, post

KEY = "bench-key-0123456789abcdef"
AUTH = f"Authorization: Bearer {KEY}"
HEADERS = {"Authorization": f"Bearer {KEY}"}


def goal(rate: float, count: int, size: int) -> str:
    return json.dumps({"rate": rate, "count": count, "bytes": size}, separators=(",", ":"))


def turn(rate: float, count: int, size: int, **more: object) -> dict[str, object]:
    return {"goal": goal(rate, count, size), "timeout_seconds": 600, **more}


class Ours(Peer):
    name = "ours"
    title = "ResonantGenesis"
    durability = "fsync before it is seen"

    def version(self) -> str:
        return version("resonantgenesis-server")

    def start(self, directory: Path) -> Server:
        port = free_port()
        command = [str(ROOT / ".venv/bin/resonantgenesis"), "serve", "--port", str(port)]
        command += ["--data", str(directory / "data"), "--agent", "bench=bench.agent:paced"]
        command += ["--log-level", "warning", "--drain-seconds", "0"]
        environment = {"RESONANTGENESIS_BOOTSTRAP_KEY": KEY}
        with stopping([]) as started:
            started.append(Process(command, directory, cwd=ROOT, environment=environment))
            started[0].wait_for_port(port)
        return Server(port, directory, started)

    def _session(self, server: Server) -> str:
        answer = post(server, "/v1/sessions", {"agent_id": "bench"}, HEADERS).json()
        return str(answer["id"] if "id" in answer else answer["session_id"])

    def _run(self, server: Server, session: str, load: Load) -> None:
        post(
            server,
            f"/v1/sessions/{session}/execute",
            turn(load.rate, load.count, load.bytes),
            {**HEADERS, "Prefer": "respond-async"},
        )

    def fanout(self, server: Server, load: Load) -> Plan | None:
        session = self._session(server)
        viewers = ViewerSpec(
            path=f"/v1/sessions/{session}/stream?follow=true",
            connections=load.viewers,
            headers=(AUTH,),
            from_one=True,
        )
        return Plan(viewers, begin=lambda: self._run(server, session, load))

    def chat(self, server: Server, load: Load) -> Plan | None:
        # The AI SDK asks for what runs, so the turn begins before its viewers come.
        session, go = self._session(server), server.directory / "go"
        body = turn(load.rate, load.count, load.bytes)
        body["goal"] = json.dumps(json.loads(str(body["goal"])) | {"go": str(go)})
        headers = {**HEADERS, "Prefer": "respond-async"}
        post(server, f"/v1/sessions/{session}/execute", body, headers)
        viewers = ViewerSpec(
            path=f"/v1/agents/bench/chat/{session}/stream",
            connections=load.viewers,
            headers=(AUTH,),
            from_one=True,
        )
        return Plan(viewers, begin=go.touch)

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        session = self._session(server)
        subscribe = {"type": "subscribe", "channels": [f"session:{session}"], "resume_from": 0}
        viewers = ViewerSpec(
            path="/v1/ws",
            connections=load.viewers,
            headers=(AUTH,),
            websocket=True,
            deflate=deflate,
            messages=(json.dumps(subscribe),),
            ready='"subscribed"',
            from_one=True,
        )
        return Plan(viewers, begin=lambda: self._run(server, session, load))

    def tokens(self, server: Server, load: Load) -> Plan | None:
        body = turn(load.rate, load.count, load.bytes, agent_id="bench", stream=True)
        viewers = ViewerSpec(
            path="/v1/sessions/execute",
            method="POST",
            connections=load.viewers,
            headers=(AUTH,),
            body=json.dumps(body),
            from_one=True,
        )
        return Plan(viewers)

    def replay(self, server: Server, count: int, size: int, *, compact: bool) -> Plan | None:
        session = self._session(server)
        self._run(server, session, Load(viewers=1, rate=0, count=count, bytes=size))
        _wait_for_end(server, session)
        flag = "&compact=true" if compact else ""
        viewers = ViewerSpec(
            path=f"/v1/sessions/{session}/stream?resume_from=0{flag}",
            headers=(AUTH,),
            from_one=True,
        )
        return Plan(viewers)

    def topics(self, server: Server, load: Load) -> Plan | None:
        viewers = ViewerSpec(
            path="/v1/events/subscribe?events=app.topic{g}.*&filters=%7B%22kind%22%3A%22a%22%7D",
            connections=load.viewers,
            groups=load.groups,
            headers=(AUTH,),
        )
        publish = PublishSpec(
            path="/v1/events",
            body='{"type":"app.topic{g}.tick","data":{"kind":"a","content":"{p}"}}',
            headers=(AUTH, "Content-Type: application/json"),
            groups=load.groups,
            connections=load.groups,
            rate=load.rate,
            count=load.count,
            bytes=load.bytes,
        )
        return Plan(viewers, publish=publish)


class OwnForm(Ours):
    """The same server and load, in our own form."""

    name = "own_form"
    title = "ResonantGenesis, own form"

    def chat(self, server: Server, load: Load) -> Plan | None:
        return self.fanout(server, load)


def _wait_for_end(server: Server, session: str) -> None:
    """Until the session's running turn is done: the stream ends then."""
    url = f"http://127.0.0.1:{server.port}/v1/sessions/{session}/stream"
    with httpx.stream("GET", url, headers=HEADERS, params={"compact": "true"}, timeout=60) as each:
        tail = b""
        for part in each.iter_raw():
            tail = (tail + part)[-20_000_000:]
    if b"event: done" not in tail:
        raise BenchError("the stored stream has no end")
