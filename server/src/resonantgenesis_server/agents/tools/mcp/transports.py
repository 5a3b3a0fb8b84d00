"""An MCP server as a process of ours: JSON-RPC messages, one a line, over its pipes.

Beside what the library's own transport does: lines are bounded, what the server says on stderr is
kept for the log, and whatever it leaves behind in its process group is ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import anyio
import httpx2
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.sse import sse_client
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from ....model.limits import MIB
from ..base import in_thread

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]

#: Bytes of one message.
MAX_LINE = 4 * MIB
#: Seconds that the process gets to end after its stdin was closed, and again after SIGTERM.
_GRACE = 1.0
_STDERR_LINES = 5
_STDERR_LINE = 500

log_ = structlog.get_logger("resonantgenesis.tools")

#: Bytes of one message.
MAX_MESSAGE = 4 * MIB
_SECONDS = 30.0
#: How long a stream may be silent; the time limit of a call is the tool's.
_SILENCE_SECONDS = 3600.0
#: What a server answers for a session that it does not know, and where a request names its own.
_NOT_FOUND, _SESSION = 404, "mcp-session-id"
_PLAIN = {"Accept-Encoding": "identity"}


@contextlib.asynccontextmanager
async def stdio_transport(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path | None,
    ended: Callable[[], None],
) -> AsyncIterator[tuple[Incoming, Outgoing]]:
    """Runs `command` for the length of the block, in a process group of its own.

    `ended` is called when it ends, or closes its stdout, by itself. Of our environment it gets
    what is harmless (PATH, HOME and the like), and `env`. Raises OSError when it cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=get_default_environment() | dict(env),
            cwd=cwd,
            start_new_session=True,
            limit=MAX_LINE,
        )
    except OSError as error:
        why = f"{command[0]}: {error.strerror or error}"
        raise OSError(f"{why}; look at tools.mcp.{name}.command and its cwd") from error
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    said: deque[str] = deque(maxlen=_STDERR_LINES)
    tasks = [
        asyncio.create_task(_take(name, process, to_session, ended)),
        asyncio.create_task(_write(process, from_session, to_session)),
        asyncio.create_task(_listen(name, process, said)),
    ]
    try:
        yield incoming, outgoing
    finally:
        if process.returncode:
            log_.warning("MCP server ended", server=name, code=process.returncode, said=list(said))
        for stream in (incoming, outgoing):
            stream.close()
        await _end(process)
        # They end by themselves when the pipes do, and only then is everything closed.
        _, running = await asyncio.wait(tasks, timeout=_GRACE)
        for task in running:
            task.cancel()
        for task in running:
            await asyncio.wait({task})


async def _take(
    name: str,
    process: asyncio.subprocess.Process,
    to_session: MemoryObjectSendStream[SessionMessage | Exception],
    ended: Callable[[], None],
) -> None:
    if process.stdout is None:
        return
    with to_session:
        await _read(name, process.stdout, to_session)
    ended()
    while await process.stdout.read(65_536):  # a pipe that nobody reads would never be closed
        pass


async def _read(
    name: str,
    stdout: asyncio.StreamReader,
    to_session: MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    """From the server's lines; its end, or a line that is too long, ends the session."""
    while True:
        try:
            line = await stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            log_.error("MCP server sent too long a message", server=name, most=MAX_LINE)
            return
        try:
            message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            log_.warning("MCP server wrote no message", server=name, line=repr(line[:200]))
            continue
        try:
            await to_session.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return


async def _write(
    process: asyncio.subprocess.Process,
    from_session: MemoryObjectReceiveStream[SessionMessage],
    to_session: MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    if process.stdin is None:
        return
    try:
        with from_session:
            async for message in from_session:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
    except (OSError, RuntimeError):
        # It takes nothing more (uvloop's word for a closed pipe is a RuntimeError): the session
        # must see its end.
        to_session.close()


async def _listen(name: str, process: asyncio.subprocess.Process, said: deque[str]) -> None:
    """Keeps the last lines of stderr, and reads the others so that the server is never stuck."""
    if process.stderr is None:
        return
    rest = ""
    while chunk := await process.stderr.read(8_192):
        *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
        rest = rest[:_STDERR_LINE]
        for line in lines:
            if line.strip():
                said.append(line.strip()[:_STDERR_LINE])
                log_.debug("MCP server says", server=name, line=said[-1])
    if rest.strip():
        said.append(rest.strip())


async def _end(process: asyncio.subprocess.Process) -> None:
    """By closing its stdin, then with SIGTERM; then nothing of its group is left."""
    if process.stdin is not None:
        process.stdin.close()
    if not await _ends(process):
        _signal(process, signal.SIGTERM)
        await _ends(process)
    _signal(process, signal.SIGKILL)
    if not await _ends(process):
        log_.error("the process of an MCP server cannot be ended", pid=process.pid)


async def _ends(process: asyncio.subprocess.Process) -> bool:
    try:
        async with asyncio.timeout(_GRACE):
            await process.wait()
    except TimeoutError:
        return process.returncode is not None
    return True


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextlib.asynccontextmanager
async def http_transport(
    url: str, headers: Mapping[str, str], lost: Callable[[], None]
) -> AsyncIterator[tuple[object, object]]:
    """The session's streams for the length of the block; every message is bounded.

    `lost` is called when the server knows the session no more, as after a restart. A server that
    takes no POST at the address speaks the older transport, with server-sent events.
    """
    tls = await in_thread(httpx2.create_ssl_context, "mcp reads certificates")
    all_headers = {**_PLAIN, **headers}

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=all_headers | (headers or {}),
            timeout=httpx2.Timeout(_SECONDS, read=_SILENCE_SECONDS),
            transport=_Bounded(httpx2.AsyncHTTPTransport(verify=tls), lost),
            auth=auth,
        )

    if await _is_older(client(), url):
        async with sse_client(url, httpx_client_factory=client) as streams:
            yield streams
        return
    async with (
        client() as http,
        streamable_http_client(url, http_client=http, max_sse_event_size=MAX_MESSAGE) as streams,
    ):
        yield streams


async def _is_older(http: httpx2.AsyncClient, url: str) -> bool:
    """Whether a POST is refused where a GET gives events (MCP 2025-03-26, transports,
    backwards compatibility)."""
    ping = {"jsonrpc": "2.0", "id": "probe", "method": "ping"}
    accept = {"Accept": "application/json, text/event-stream"}
    async with http:
        async with http.stream("POST", url, json=ping, headers=accept) as answer:
            if answer.status_code not in (404, 405):
                return False
        async with http.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
            kind = answer.headers.get("content-type", "")
            return answer.is_success and kind.startswith("text/event-stream")


class _Bounded(httpx2.AsyncBaseTransport):
    """Ends answers that are one message and too long; the library bounds the events of a stream.

    Tells when the server knows the session no more.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, lost: Callable[[], None]) -> None:
        self._inner = inner
        self._lost = lost

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.status_code == _NOT_FOUND and _SESSION in request.headers:
            self._lost()
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if not is_stream and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MAX_MESSAGE:
                raise httpx2.ReadError(f"a message of over {MAX_MESSAGE} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
