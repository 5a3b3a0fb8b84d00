"""The provider's HTTP side: a thread with a loop and a socket of its own."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Self

from . import anthropic_wire, openai_wire
from .script import Gate, Json, Reply, Script, by_name, in_order

_PATIENCE = 20.0
_WIRES: Mapping[str, ModuleType] = {
    "/v1/chat/completions": openai_wire,
    "/v1/messages": anthropic_wire,
}


@dataclass(eq=False)
class Seen:
    """A request as the provider saw it; `left`: the client went before the answer's end."""

    path: str
    headers: Mapping[str, str]
    body: Json
    sent: int = 0
    finished: bool = False
    left: threading.Event = field(default_factory=threading.Event)

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    def wait_left(self) -> bool:
        """Whether the client closes the stream within the patience of a test."""
        return self.left.wait(_PATIENCE)


class FakeProvider:
    """`with FakeProvider() as provider:`; its `url` ends in /v1, as OpenAI's does.

    `seed` cuts everything sent at random bytes, the same ones for the same seed; `key` is the only
    one it takes, if given. `replies[MODEL]` is a Script or the replies to give in order.
    """

    def __init__(self, *, seed: int | None = None, key: str | None = None, port: int = 0) -> None:
        self.seen: list[Seen] = []
        self.key = key
        #: How many connections were made.
        self.connections = 0
        self._port = port
        self._random = None if seed is None else random.Random(seed)
        self._scripts: dict[str, Script] = {}
        self._asked: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_PATIENCE):
            raise AssertionError("the provider did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE)

    # -- what a test says and sees ---------------------------------------------------------

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def answer(self, model: str, *replies: Reply, script: Script | None = None) -> None:
        """What this model says from now on."""
        self._asked[model] = 0
        self._scripts[model] = script or in_order(replies)

    def asked(self, model: str) -> list[Seen]:
        """The requests for one model, in order."""
        return [seen for seen in self.seen if seen.model == model]

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Until something that this provider sees is so."""
        with self._changed:
            assert self._changed.wait_for(holds, _PATIENCE), "it never came to be"

    def open_gate(self, gate: Gate) -> None:
        """Without waiting for those that are missing."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(gate.open)

    # -- inside ----------------------------------------------------------------------------

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, backlog=512)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ahead: bytes | None = b""
        self.connections += 1
        try:
            while ahead is not None:
                ahead = await self._request(ahead, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, which is recorded where it happened, or the provider stops
        finally:
            writer.close()

    async def _request(
        self, ahead: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """What was read of the next request, which begins with `ahead`; None: there is none."""
        raw = ahead + await reader.readuntil(b"\r\n\r\n")
        head = raw.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = head[0].split(" ")[1].partition("?")[0]
        seen = Seen(path, headers, json.loads(body) if body else {})
        self._note(seen)
        wire = _WIRES.get(path)
        if wire is None:
            await _refuse(writer, 404, b'{"error": {"message": "no such path"}}', {})
            return b""
        reply = self._reply(seen)
        if reply.status != 200:
            await _refuse(writer, reply.status, wire.error_body(reply), reply.headers)
            seen.finished = True
            return b""
        return await self._stream(reader, writer, seen, reply, wire)

    def _note(self, seen: Seen | None = None) -> None:
        with self._changed:
            if seen is not None:
                self.seen.append(seen)
            self._changed.notify_all()

    def _reply(self, seen: Seen) -> Reply:
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if self.key is not None and self.key not in {given, seen.headers.get("x-api-key")}:
            words = f"Incorrect API key provided: {given[:3]}***"
            return Reply.refusing(401, "authentication_error", words, code="invalid_api_key")
        number = self._asked[seen.model]
        self._asked[seen.model] += 1
        script = self._scripts.get(seen.model)
        reply = by_name(seen.model) if script is None else script(number, seen.body)
        if reply is None:
            words = f"The model `{seen.model}` does not exist"
            return Reply.refusing(404, "not_found_error", words, code="model_not_found")
        return reply

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        seen: Seen,
        reply: Reply,
        wire: ModuleType,
    ) -> bytes | None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\nX-Request-Id: req_1\r\n\r\n"
        )
        gone = asyncio.create_task(self._watch(reader, seen))
        try:
            await self._send(writer, seen, reply, wire, gone)
            gone.cancel()
            await asyncio.wait({gone})
        except ConnectionError:  # it left while more was being sent
            seen.left.set()
            self._note()
            raise
        finally:
            gone.cancel()
        if gone.cancelled():
            return b""
        return gone.result() or None

    async def _watch(self, reader: asyncio.StreamReader, seen: Seen) -> bytes:
        """Returns when the client closes, or asks for more; what was read of that."""
        try:
            read = await reader.read(1)
        except ConnectionError:
            read = b""
        if not seen.finished:
            seen.left.set()
        self._note()
        return read

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        seen: Seen,
        reply: Reply,
        wire: ModuleType,
        gone: asyncio.Task[None],
    ) -> None:
        for number, event in enumerate(wire.events(reply, seen.body)):
            if gone.done():
                return
            if reply.break_at is not None and number > reply.break_at:
                await self._break(writer, seen, reply, wire, gone)
                return
            if reply.gate is not None and number == reply.gate_at:
                await reply.gate.passed()
            if reply.gap:
                await asyncio.wait({gone}, timeout=reply.gap)
            for part in self._parts(event):
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
                if self._random is not None:
                    await asyncio.sleep(0)
            seen.sent += 1
            if reply.gap or reply.break_at is not None:
                self._note()
        self._end(writer, seen)
        await writer.drain()

    async def _break(
        self,
        writer: asyncio.StreamWriter,
        seen: Seen,
        reply: Reply,
        wire: ModuleType,
        gone: asyncio.Task[None],
    ) -> None:
        if reply.break_how == "stall":
            await gone
        elif reply.break_how == "cut":
            seen.finished = True
            writer.transport.abort()
        else:
            if reply.break_how == "error":
                event = wire.error_event(reply)
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            self._end(writer, seen)
            await writer.drain()

    def _end(self, writer: asyncio.StreamWriter, seen: Seen) -> None:
        # Before it is sent: the client may close as soon as it has it.
        seen.finished = True
        writer.write(b"0\r\n\r\n")
        self._note()

    def _parts(self, event: bytes) -> Iterator[bytes]:
        """The event, or pieces of it that end in the middle of anything, even of a character."""
        rest = event
        while self._random is not None and len(rest) > 1 and self._random.random() < 0.8:
            size = self._random.randrange(1, len(rest))
            yield rest[:size]
            rest = rest[size:]
        yield rest


async def _refuse(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str]
) -> None:
    more: Sequence[str] = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\n{''.join(more)}"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
