"""uvicorn as we run it: our socket, our signals, a drain before its shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp, Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ...model.limits import Limits
from ..cors import HeaderList
from .acceptor import ConnectionAcceptor
from .connection_limit import ConnectionLimit, raise_file_limit, watching_descriptors
from .hangup import watch_terminal
from .listener import BACKLOG, Listener
from .shared_listener import SharedListener, Sharing
from .tls import Certificate
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

    def share(self, listener: Listener, sharing: Sharing, certificate: Certificate | None) -> None:
        """Before `serve`, which then gets no socket."""

        def protocol() -> asyncio.Protocol:
            return self._acceptor(self.config, self.server_state, self.lifespan.state)

        self.shared = SharedListener(
            listener.socket, sharing, protocol, certificate.context if certificate else None
        )
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


class _Proxied(ProxyHeadersMiddleware):
    """The application as it sees clients of trusted proxies: by their own addresses."""

    def headers_for(self, scope: Scope) -> tuple[str, HeaderList]:
        """See `Middleware`."""
        answer: tuple[str, HeaderList] = self.app.headers_for(scope)  # type: ignore[attr-defined]
        return answer


async def run(
    app: ASGIApp,
    listener: Listener,
    *,
    drain: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
    limits: Limits | None = None,
    certificate: Certificate | None = None,
    trusted_proxies: Sequence[str] = (),
) -> int:
    """Serve until SIGTERM or SIGINT, then drain and stop; a second signal stops at once.

    `ready` is called when the signals are heard. SIGHUP reads the `certificate` again. Without one
    the server speaks plain HTTP. What `trusted_proxies` say of their clients is believed.
    """
    limits = limits or Limits()
    sockets: SocketSettings = {**SOCKET_SETTINGS, "ws_max_size": limits.socket_message}
    raise_file_limit()
    acceptor = ConnectionAcceptor(ConnectionLimit.of(limits.connections), limits=limits)
    config = uvicorn.Config(
        _Proxied(app, list(trusted_proxies)) if trusted_proxies else app,  # type: ignore[arg-type]
        http=acceptor,  # type: ignore[arg-type]  # made like a class
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=_LAST_ANSWERS,
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
        **sockets,
    )
    server = _Server(config, acceptor)
    if listener.sharing is not None:
        server.share(listener, listener.sharing, certificate)

    async def leave() -> None:
        acceptor.draining = True
        if server.shared is not None:
            server.shared.leave()
        await drain()

    async with _signals(server, leave, certificate), watching_descriptors():
        ready()
        try:
            await server.serve(sockets=[] if server.shared else [listener.socket])
        finally:
            await acceptor.close()
    return 0


@contextlib.asynccontextmanager
async def _signals(
    server: uvicorn.Server,
    drain: Callable[[], Awaitable[None]],
    certificate: Certificate | None,
) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    has_lost_terminal = watch_terminal()
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

    def on_hangup() -> None:
        if has_lost_terminal():
            on_signal()
        elif certificate is not None:
            certificate.reload()

    signals = {signal.SIGINT: on_signal, signal.SIGTERM: on_signal, signal.SIGHUP: on_hangup}
    for number, handler in signals.items():
        loop.add_signal_handler(number, handler)
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
