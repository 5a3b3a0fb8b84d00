"""A small server that speaks the wire format over real sockets, for the SDK's tests alone.

It keeps sessions in memory, runs scripted turns, records every request and can be told to answer
the next ones with something else.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from .fake_session import Session
from .fake_wire import Payload, Request, error, frame, head, part, read_request, send_json, story


class FakeServer:
    """`script` makes a goal's chunks.

    `hold_at`: a turn stops before the chunk of that index until `release` is set.
    """

    def __init__(self) -> None:
        self.script: Callable[[str], list[Payload]] = lambda goal: story(int(goal))
        self.hold_at: int | None = None
        self.release = asyncio.Event()
        self.heartbeat = 4.0
        self.epoch = "e1"
        self.pace = 0.0
        self.answer_wait = 50.0
        self.requests: list[Request] = []
        self.faults: deque[tuple[str, bytes]] = deque()
        self.corrupt: Callable[[Payload], Payload | None] | None = None
        self.sessions: dict[str, Session] = {}
        self.keys: dict[str, tuple[str, int]] = {}
        self.agents: dict[str, Payload] = {}
        self.connections = 0
        self.open_streams = 0
        self.heartbeats = 0
        self.streams_changed = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail_next(
        self,
        path: str,
        status: int,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """The next request whose path matches gets this answer instead."""
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        self.faults.append((path, head(status, kind, len(content), headers or {}) + content))

    async def wait_streams(self, count: int) -> None:
        """Until exactly `count` streams are open; 20 s at most."""
        async with asyncio.timeout(20):
            while self.open_streams != count:
                await self.streams_changed.wait()

    async def wait_heartbeats(self, count: int) -> None:
        """Until so many heartbeats have been sent; 20 s at most."""
        async with asyncio.timeout(20):
            while self.heartbeats < count:
                await self.streams_changed.wait()

    def asked(self, method: str, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and re.fullmatch(path, r.path)]

    # -- HTTP -----------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while (request := await read_request(reader)) is not None:
                self.requests.append(request)
                await self._answer(request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The viewer left, or the test ends the connection.
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.faults and re.fullmatch(self.faults[0][0], request.path):
            writer.write(self.faults.popleft()[1])
            await writer.drain()
            return
        path = request.path.removeprefix("/prefix").removeprefix("/api")
        if request.headers.get("authorization") != "Bearer rg_test_key":
            await send_json(writer, 401, error("UNAUTHENTICATED", "no valid credential"))
            return
        for method, pattern, handler in self._routes():
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                args = [unquote(group) for group in match.groups()]
                result = await handler(request, *args)
                if isinstance(result, _Stream):
                    await self._stream(result, reader, writer)
                else:
                    status, body, headers = result
                    await send_json(writer, status, body, headers)
                return
        await send_json(writer, 404, error("NOT_FOUND", f"no {path}"))

    def _routes(self) -> list[tuple[str, str, Callable[..., Awaitable[Any]]]]:
        one = r"/v1/sessions/([^/]+)"
        return [
            ("POST", r"/v1/sessions/execute", self._execute),
            ("POST", r"/v1/sessions/cancel", self._cancel_key),
            ("POST", r"/v1/sessions", self._create),
            ("GET", r"/v1/sessions", self._list),
            ("GET", one, self._get),
            ("DELETE", one, self._delete),
            ("GET", one + "/stream", self._join),
            ("GET", one + "/events", self._events),
            ("GET", one + "/steps", self._steps),
            ("POST", one + "/cancel", self._cancel),
            ("POST", r"/v1/agents", self._agent_create),
            ("GET", r"/v1/agents", self._agent_list),
            ("GET", r"/v1/agents/([^/]+)", self._agent_get),
            ("PATCH", r"/v1/agents/([^/]+)", self._agent_update),
            ("DELETE", r"/v1/agents/([^/]+)", self._agent_delete),
            ("POST", r"/v1/tokens", self._token),
        ]

    # -- sessions -------------------------------------------------------------------------------

    async def _execute(self, request: Request) -> Any:
        body, key = request.body, request.headers.get("idempotency-key")
        known = self.keys.get(key or "")
        resume_from = body.get("resume_from", 0)
        if known is not None:
            session, turn = self.sessions[known[0]], known[1]
        elif resume_from and body.get("session_id"):
            session = self.sessions[body["session_id"]]
            turn = session.turns
        elif resume_from:
            return 422, error("INVALID_REQUEST", "resume_from needs session_id"), {}
        else:
            session = self._session_for(body)
            if session.running:
                return 409, error("SESSION_BUSY", "a turn is running"), {}
            turn = self._start_turn(session, body["goal"])
            if key:
                self.keys[key] = (session.id, turn)
        if body.get("stream"):
            after = resume_from or session.turn_start(turn)
            return _Stream(session, after, turn, bool(body.get("compact")), follow=False)
        return await self._whole(request, session, turn)

    async def _whole(self, request: Request, session: Session, turn: int) -> Any:
        wait = 0.0 if "respond-async" in request.headers.get("prefer", "") else self.answer_wait
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while len(session.dones()) < turn:
                    await session.grown.wait()
        if len(session.dones()) < turn:
            location = {"Location": f"/v1/sessions/{session.id}"}
            body = {"session_id": session.id, "turn": turn, "status": "running"}
            return 202, {**body, "output": "", "position": len(session.log)}, location
        done = session.dones()[turn - 1]
        error = next((c for c in session.log if c["type"] == "error"), None)
        return 200, {**done, "error": error, "position": len(session.log)}, {}

    def _session_for(self, body: Payload) -> Session:
        if body.get("session_id"):
            return self.sessions[body["session_id"]]
        session = Session(
            f"sess_{len(self.sessions) + 1}", body["agent_id"], body.get("context", {})
        )
        self.sessions[session.id] = session
        return session

    def _start_turn(self, session: Session, goal: str) -> int:
        session.turns += 1
        session.goals.append(goal)
        task = asyncio.create_task(self._run(session, session.turns, goal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return session.turns

    async def _run(self, session: Session, turn: int, goal: str) -> None:
        start = len(session.log)
        for index, payload in enumerate(self.script(goal)):
            if index == self.hold_at:
                await self.release.wait()
            cancelled = turn in session.cancelled
            chunk = {"type": "done", "status": "cancelled"} if cancelled else dict(payload)
            if chunk["type"] == "step" and len(session.log) == start:
                chunk |= {"session_id": session.id, "turn": turn, "agent_id": "a"}
            if chunk["type"] == "done":
                text = "".join(c.get("content", "") for c in session.log[start:])
                usage = {"steps": 1, "input_tokens": 1, "output_tokens": 2, "duration_ms": 3}
                chunk |= {"session_id": session.id, "turn": turn, "output": text, "usage": usage}
            session.append(chunk)
            await asyncio.sleep(self.pace)
            if chunk["type"] == "done":
                return

    async def _join(self, request: Request, session_id: str) -> Any:
        session = self.sessions.get(session_id)
        if session is None:
            return 404, error("SESSION_NOT_FOUND", "no such session"), {}
        turn = int(request.query["turn"]) if "turn" in request.query else None
        named = request.query.get("resume_from") or request.headers.get("last-event-id")
        after = int(named) if named is not None else session.turn_start(turn or session.turns)
        follow = request.query.get("follow") == "true"
        if after > len(session.log):
            return 422, error("INVALID_REQUEST", "beyond the end"), {}
        if after == len(session.log) and not session.running and not follow:
            return 204, None, {}
        return _Stream(session, after, turn, request.query.get("compact") == "true", follow)

    async def _events(self, request: Request, session_id: str) -> Any:
        session = self.sessions[session_id]
        after, limit = int(request.query["after"]), int(request.query["limit"])
        with suppress(TimeoutError):
            async with asyncio.timeout(float(request.query["wait"])):
                while after >= len(session.log):
                    await session.grown.wait()
        events = session.log[after : after + limit]
        body = {"events": events, "position": len(session.log), "status": "running"}
        return 200, {**body, "done": not session.running}, {"X-Log-Epoch": self.epoch}

    async def _cancel(self, request: Request, session_id: str) -> Any:
        session = self.sessions[session_id]
        turn = request.body.get("turn") or session.turns
        session.cancelled.add(turn)
        self.release.set()
        return 200, {"session_id": session_id, "cancelled": [turn], "status": "cancelled"}, {}

    async def _cancel_key(self, request: Request) -> Any:
        known = self.keys.get(request.body["idempotency_key"])
        if known is None:
            return 404, error("NOT_FOUND", "no such key"), {}
        return await self._cancel(request, known[0])

    async def _create(self, request: Request) -> Any:
        key = "create:" + request.headers["idempotency-key"]
        if key not in self.keys:
            session = self._session_for(request.body)
            self.keys[key] = (session.id, 0)
        session = self.sessions[self.keys[key][0]]
        return 201, self._show(session), {}

    async def _list(self, request: Request) -> Any:
        data = [self._show(session) for session in self.sessions.values()]
        return 200, {"data": data, "next_cursor": None, "has_more": False}, {}

    async def _get(self, request: Request, session_id: str) -> Any:
        session = self.sessions.get(session_id)
        if session is None:
            return 404, error("SESSION_NOT_FOUND", "no such session"), {}
        return 200, self._show(session), {}

    async def _delete(self, request: Request, session_id: str) -> Any:
        self.sessions.pop(session_id, None)
        return 204, None, {}

    async def _steps(self, request: Request, session_id: str) -> Any:
        steps = [c for c in self.sessions[session_id].log if c["type"] == "step"]
        return 200, {"data": steps, "next_cursor": None, "has_more": False}, {}

    def _show(self, session: Session) -> Payload:
        shown = {"session_id": session.id, "agent_id": session.agent_id, "status": "created"}
        shown |= {"turn": session.turns} if session.turns else {}
        return {**shown, "context": session.context, "position": len(session.log)}

    # -- agents, tokens -------------------------------------------------------------------------

    async def _agent_create(self, request: Request) -> Any:
        agent_id = request.body.get("id") or f"agent_{len(self.agents) + 1}"
        self.agents[agent_id] = {**request.body, "agent_id": agent_id}
        return 201, self.agents[agent_id], {}

    async def _agent_list(self, request: Request) -> Any:
        data = list(self.agents.values())
        return 200, {"data": data, "next_cursor": None, "has_more": False}, {}

    async def _agent_get(self, request: Request, agent_id: str) -> Any:
        if agent_id not in self.agents:
            return 404, error("AGENT_NOT_FOUND", "no such agent"), {}
        return 200, self.agents[agent_id], {}

    async def _agent_update(self, request: Request, agent_id: str) -> Any:
        self.agents[agent_id] |= request.body
        return 200, self.agents[agent_id], {}

    async def _agent_delete(self, request: Request, agent_id: str) -> Any:
        del self.agents[agent_id]
        return 204, None, {}

    async def _token(self, request: Request) -> Any:
        return 201, {**request.body, "token": "rg_tok_secret", "expires_at": "2030-01-01"}, {}

    # -- streaming ------------------------------------------------------------------------------

    async def _stream(
        self, stream: _Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        headers = {
            "X-Session-Id": stream.session.id,
            "X-Turn": str(stream.turn or stream.session.turns),
            "X-Log-Epoch": self.epoch,
            "X-Heartbeat-Seconds": f"{self.heartbeat:g}",
            "Cache-Control": "no-cache, no-transform",
        }
        self._count(1)
        gone = asyncio.create_task(reader.read(1))
        try:
            writer.write(head(200, "text/event-stream; charset=utf-8", None, headers))
            writer.write(part(b": hello\n\n"))
            await self._feed(stream, writer, gone)
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            self._count(-1)
        if gone.cancelled():
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        else:
            raise ConnectionError("viewer left")

    async def _feed(
        self, stream: _Stream, writer: asyncio.StreamWriter, gone: asyncio.Task[bytes]
    ) -> None:
        session, position = stream.session, stream.after
        while not gone.done():
            grown = session.grown
            for chunk in session.log[position:]:
                position = chunk["position"]
                sent = self.corrupt(chunk) if self.corrupt else chunk
                if sent is not None:
                    writer.write(part(frame(sent)))
                await writer.drain()
                if chunk["type"] == "done" and chunk["turn"] == stream.turn:
                    return
            if stream.turn is None and not stream.follow and not session.running:
                return
            waiter = asyncio.create_task(grown.wait())
            done, _ = await asyncio.wait(
                {waiter, gone}, timeout=self.heartbeat, return_when=asyncio.FIRST_COMPLETED
            )
            waiter.cancel()
            if not done:
                writer.write(part(b": hb\n\n"))
                await writer.drain()
                self.heartbeats += 1
                self._count(0)

    def _count(self, change: int) -> None:
        self.open_streams += change
        changed, self.streams_changed = self.streams_changed, asyncio.Event()
        changed.set()


@dataclass
class _Stream:
    session: Session
    after: int
    turn: int | None
    compact: bool
    follow: bool
