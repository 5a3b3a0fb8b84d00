"""The two ways to an MCP server: the pipes of a child process, and HTTP. Every message is bounded.

HTTP is the library's (`mcp` 2.3) with two bounds around it. The library's `stdio_client` cannot
be bounded from outside: it reads lines of any length, it gives stderr to a file only, and it
leaves the process group alone when the server ends by itself. So `stdio_transport` does its work
on anyio's process, with the library's own end of a process group.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import anyio
import httpx2
import structlog
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.sse import sse_client
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client
from mcp.os.posix.utilities import terminate_posix_process_tree
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from ....model.limits import MIB
from ..base import in_thread

Incoming: TypeAlias = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing: TypeAlias = MemoryObjectSendStream[SessionMessage]
ToSession: TypeAlias = MemoryObjectSendStream[SessionMessage | Exception]

#: Bytes of one message.
MAX_MESSAGE = 4 * MIB

#: Seconds that the process gets to end after its stdin was closed, and again after SIGTERM.
_GRACE = 1.0
_POLL_SECONDS = 0.01
#: Lines of stderr that are kept for the log, and characters of each.
_STDERR_LINES = 5
_STDERR_LINE = 500

_HTTP_SECONDS = 30.0
#: Seconds that a stream may be silent; the time limit of a call is the tool's.
_SILENCE_SECONDS = 3600.0
_NOT_FOUND = 404
_SESSION_HEADER = "mcp-session-id"
_PLAIN = {"Accept-Encoding": "identity"}

_PIPE_ERRORS = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)

log_ = structlog.get_logger("resonantgenesis.tools")


@contextlib.asynccontextmanager
async def stdio_transport(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path | None,
    ended: Callable[[], None],
) -> AsyncIterator[tuple[Incoming, Outgoing]]:
    """Run `command` in a process group of its own, for the length of the block.

    The process gets `env` and the harmless part of our environment (PATH, HOME and the like).
    `ended` is called when the process ends or closes its stdout by itself. Raises OSError when the
    process cannot be started.
    """
    process, stdin, stdout, stderr = await _start(name, command, env, cwd)
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    last_lines: deque[str] = deque(maxlen=_STDERR_LINES)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, name, stdout, to_session, ended)
        tasks.start_soon(_write, stdin, from_session, to_session)
        tasks.start_soon(_log_stderr, name, stderr, last_lines)
        try:
            yield incoming, outgoing
        finally:
            with anyio.CancelScope(shield=True):
                code = process.returncode
                incoming.close()
                outgoing.close()
                await _stop(process, stdin)
                if code:
                    said = list(last_lines)
                    log_.warning("MCP server ended", server=name, code=code, said=said)
            tasks.cancel_scope.cancel()


async def _start(
    name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None
) -> tuple[Process, ByteSendStream, ByteReceiveStream, ByteReceiveStream]:
    """The process with its stdin, stdout and stderr."""
    try:
        process = await anyio.open_process(
            command, env=get_default_environment() | dict(env), cwd=cwd, start_new_session=True
        )
    except OSError as error:
        why = f"{command[0]}: {error.strerror or error}"
        raise OSError(f"{why}; look at tools.mcp.{name}.command and its cwd") from error
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("anyio opens a process with three pipes")
    return process, process.stdin, process.stdout, process.stderr


async def _read(
    name: str, stdout: ByteReceiveStream, to_session: ToSession, ended: Callable[[], None]
) -> None:
    with to_session:
        await _read_messages(name, stdout, to_session)
    ended()
    with contextlib.suppress(anyio.EndOfStream, *_PIPE_ERRORS):
        while True:  # a server that writes into a full pipe would not end
            await stdout.receive()


async def _read_messages(name: str, stdout: ByteReceiveStream, to_session: ToSession) -> None:
    """Read until the server or the session ends, or until a line is too long."""
    lines = BufferedByteReceiveStream(stdout)
    while True:
        try:
            line = await lines.receive_until(b"\n", MAX_MESSAGE)
        except (anyio.IncompleteRead, *_PIPE_ERRORS):
            return
        except anyio.DelimiterNotFound:
            log_.error("MCP server sent too long a message", server=name, limit=MAX_MESSAGE)
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
    stdin: ByteSendStream,
    from_session: MemoryObjectReceiveStream[SessionMessage],
    to_session: ToSession,
) -> None:
    try:
        with from_session:
            async for message in from_session:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await stdin.send(text.encode() + b"\n")
    except (*_PIPE_ERRORS, RuntimeError):  # uvloop raises RuntimeError for a closed pipe
        to_session.close()  # the session must see that its server takes nothing more


async def _log_stderr(name: str, stderr: ByteReceiveStream, last_lines: deque[str]) -> None:
    """Read all of stderr, so that the server never waits for us; keep the last lines."""
    rest = ""
    with contextlib.suppress(anyio.EndOfStream, *_PIPE_ERRORS):
        while True:
            text = (await stderr.receive()).decode("utf-8", "replace")
            *lines, rest = (rest + text).split("\n")
            rest = rest[:_STDERR_LINE]
            for line in filter(None, map(str.strip, lines)):
                last_lines.append(line[:_STDERR_LINE])
                log_.debug("MCP server says", server=name, line=last_lines[-1])
    if rest.strip():
        last_lines.append(rest.strip())


async def _stop(process: Process, stdin: ByteSendStream) -> None:
    """Close stdin, wait, then end all that is left of the process group."""
    with contextlib.suppress(*_PIPE_ERRORS):
        await stdin.aclose()
    await _exited(process)
    await terminate_posix_process_tree(process, _GRACE)
    if not await _exited(process):
        log_.error("the process of an MCP server cannot be ended", pid=process.pid)


async def _exited(process: Process) -> bool:
    """Wait _GRACE seconds for the exit. `Process.wait` would wait for the end of the pipes too."""
    with anyio.move_on_after(_GRACE):
        while process.returncode is None:  # noqa: ASYNC110 - there is no event for it
            await anyio.sleep(_POLL_SECONDS)
    return process.returncode is not None


@contextlib.asynccontextmanager
async def http_transport(
    url: str, headers: Mapping[str, str], lost: Callable[[], None]
) -> AsyncIterator[tuple[object, object]]:
    """The session's streams, for the length of the block.

    `lost` is called when the server no longer knows the session, as after a restart. A server that
    refuses a POST at the address is asked over the older transport, with server-sent events.
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
            timeout=httpx2.Timeout(_HTTP_SECONDS, read=_SILENCE_SECONDS),
            transport=_BoundedTransport(httpx2.AsyncHTTPTransport(verify=tls), lost),
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
    """Whether the server refuses a POST and answers a GET with events (MCP 2025-03-26, transports,
    backwards compatibility)."""
    ping = {"jsonrpc": "2.0", "id": "probe", "method": "ping"}
    accept = {"Accept": "application/json, text/event-stream"}
    async with http:
        async with http.stream("POST", url, json=ping, headers=accept) as answer:
            if answer.status_code not in (404, 405):
                return False
        async with http.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
            return answer.is_success and _is_stream(answer)


def _is_stream(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("text/event-stream")


class _BoundedTransport(httpx2.AsyncBaseTransport):
    """Bounds answers that are one message; the library bounds only the events of a stream.

    Calls `lost` when the server does not know the session.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, lost: Callable[[], None]) -> None:
        self._inner = inner
        self._lost = lost

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.status_code == _NOT_FOUND and _SESSION_HEADER in request.headers:
            self._lost()
        if not _is_stream(response) and isinstance(response.stream, httpx2.AsyncByteStream):
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
