"""uvicorn as we run it: our socket, our signals, a drain before its shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from ...model.limits import Limits
from .acceptor import ConnectionAcceptor
from .connection_limit import ConnectionLimit, raise_file_limit, watching_descriptors
from .listener import BACKLOG, Listener
from .shared_listener import SharedListener, Sharing
from .websocket_protocol import SOCKET_SETTINGS, SocketSettings

log_ = structlog.get_logger("resonantgenesis.serving")

#: Seconds that answers under way have after the drain.
_LAST_ANSWERS = 5


class _Server(uvicorn.Server):
    """Leaves the signals to us: the drain comes before uvicorn's own shutdown."""

    def __init__(self, config: uvicorn.Config, acceptor: ConnectionAcceptor) -> None:
        super().__init__(config)
        self._acceptor = acceptor
        #: Where connections come from, if other processes accept them too.
        self.shared: SharedListener | None = None

    def share(self, listener: Listener, sharing: Sharing) -> None:
        """Before `serve`, which then gets no socket."""

        def protocol() -> asyncio.Protocol:
            return self._acceptor(self.config, self.server_state, self.lifespan.state)

        self.shared = SharedListener(listener.socket, sharing, protocol)
        self.server_state.connections = self.shared.connections  # type: ignore[assignment]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.shared is not None:
            self.shared.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.shared is not None:
            self.shared.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(
    app: ASGIApp,
    listener: Listener,
    *,
    drain: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
    limits: Limits | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain and stop; a second signal stops at once.

    `ready` is called when the signals are heard.
    """
    limits = limits or Limits()
    sockets: SocketSettings = {**SOCKET_SETTINGS, "ws_max_size": limits.socket_message}
    raise_file_limit()
    acceptor = ConnectionAcceptor(ConnectionLimit.of(limits.connections), limits=limits)
    config = uvicorn.Config(
        app,
        http=acceptor,  # type: ignore[arg-type]  # made like a class
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=_LAST_ANSWERS,
        **sockets,
    )
    server = _Server(config, acceptor)
    if listener.sharing is not None:
        server.share(listener, listener.sharing)

    async def leave() -> None:
        acceptor.draining = True
        if server.shared is not None:
            server.shared.leave()
        await drain()

    async with _stop_signals(server, leave), watching_descriptors():
        ready()
        try:
            await server.serve(sockets=[] if server.shared else [listener.socket])
        finally:
            await acceptor.close()
    return 0


@contextlib.asynccontextmanager
async def _stop_signals(
    server: uvicorn.Server, drain: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        try:
            await drain()
        finally:
            server.should_exit = True

    def on_signal() -> None:
        if not stopping:
            log_.info("draining; a second signal stops at once")
            stopping.append(asyncio.create_task(stop(), name="drain"))
        else:
            server.should_exit = server.force_exit = True

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        for task in stopping:
            task.cancel()
            await asyncio.wait({task}, timeout=5)


T = TypeVar("T")


def run_event_loop(main: Coroutine[Any, Any, T], hears_signals: Callable[[], bool]) -> T:
    """What `main` returns, run to its end on a new event loop.

    SystemExit and KeyboardInterrupt that are raised in any other task or callback end an event
    loop; here the loop goes on, since an agent or a tool that starts a task may end its turn and
    never the server. KeyboardInterrupt is let through unless `hears_signals`: then Ctrl-C does not
    raise it, so it can only be theirs.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                is_theirs = isinstance(error, SystemExit) or hears_signals()
                if task.done() or not is_theirs:
                    raise
                log_.error(
                    "an agent's or a tool's task tried to end the server",
                    raised=type(error).__name__,
                    exc_info=error,
                )
