"""One process of the server: from its settings to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog

from .agents.loading import AgentLoadError, look_beside
from .agents.tools.functions import ToolLoadError
from .app import Parts, open_parts
from .background import Background
from .config.load import secrets_of, warn_of_settings
from .config.settings import Settings
from .datadir.lock import lock_data
from .files.base import BlobError
from .http.serving.listener import CannotListen, Listener, listen
from .http.serving.run import run, run_event_loop
from .http.serving.tls import Certificate
from .http.serving.worker_place import WorkerPlace
from .log.base import LogError
from .logging.setup import flush_logs, open_logs
from .logging.startup import StartupError
from .model.errors import ApiError, Unavailable
from .model.extras import how_to_install
from .records.base import StoreError

log_ = structlog.get_logger("resonantgenesis.main")

_broken = threading.Event()
#: The garbage collector's thresholds: new objects, then collections of the younger generation.
_GC_THRESHOLDS = 20_000, 20, 20


def serve(settings: Settings, config: Path | None = None, worker: WorkerPlace | None = None) -> int:
    """Run the server until a signal stops it; returns the exit code.

    Python modules are searched beside `config`, the file of the settings. Raises StartupError, with
    one line, when the server cannot start.
    """
    if config is not None:
        look_beside(config)
    fields = {} if worker is None else {"worker": worker.number}
    with open_logs(settings.log_level, settings.log_format, secrets_of(settings), fields):
        return _started(settings, worker)


def _started(settings: Settings, worker: WorkerPlace | None) -> int:
    try:
        with _listening(settings, worker) as listener:
            hears_signals = asyncio.Event()
            main = _serve(settings, listener, hears_signals, worker)
            return run_event_loop(main, hears_signals.is_set)
    except (CannotListen, LogError, StoreError, BlobError, AgentLoadError, ToolLoadError) as error:
        raise StartupError(str(error)) from error
    except ApiError as error:
        raise StartupError(error.message) from error


@contextlib.contextmanager
def _listening(settings: Settings, worker: WorkerPlace | None) -> Iterator[Listener]:
    if worker is not None:
        yield worker.listener
        return
    warn_of_settings(settings)
    with (
        lock_data(settings.data),
        listen(settings.host, settings.port, settings.scheme) as listener,
    ):
        yield listener


def _freeze_garbage() -> None:
    """Exclude the objects of the start from garbage collection, and collect less often.

    With the interpreter's own thresholds the collector took a tenth of the time at 10,000 tokens
    a second, and stopped all of them for up to 100 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _stop_broken(reason: str) -> None:
    """End as on a signal, with exit code 1 and without waiting for turns: the log is unusable."""
    if not _broken.is_set():
        _broken.set()
        log_.critical(f"{reason}; the server stops")
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            # It is still starting, and nobody would hear the signal but the system.
            flush_logs()
            os._exit(1)
        signal.raise_signal(signal.SIGTERM)


def _tracing(settings: Settings) -> contextlib.AbstractAsyncContextManager[None]:
    """Send traces and metrics, if the settings say so. Raises StartupError."""
    if settings.otel == "off":
        return contextlib.nullcontext()
    try:
        from .tracing.otel import sending  # noqa: PLC0415
    except ImportError as error:
        raise StartupError(
            f"otel needs an extra: {how_to_install('otel')} ({error.name} is missing)"
        ) from error
    return sending(shows_content=settings.otel == "content")


@contextlib.asynccontextmanager
async def _audited(
    certificate: Certificate | None, settings: Settings, parts: Parts
) -> AsyncIterator[None]:
    """Have the audit log tell of each time that the certificate is read again."""
    readings: asyncio.Queue[bool] = asyncio.Queue()

    async def tell() -> None:
        while True:
            is_usable = await readings.get()
            await parts.node_events.certificate_read(str(settings.tls_cert), is_usable=is_usable)

    if certificate is None:
        yield
        return
    certificate.was_read = readings.put_nowait
    telling = Background("certificate's readings", tell)
    telling.start()
    try:
        yield
    finally:
        await telling.close()


async def _serve(
    settings: Settings,
    listener: Listener,
    hears_signals: asyncio.Event,
    worker: WorkerPlace | None,
) -> int:
    certificate = None
    if settings.tls_cert and settings.tls_key:
        certificate = Certificate(settings.tls_cert, settings.tls_key)
    async with (
        _tracing(settings),
        open_parts(settings, worker, on_broken=_stop_broken) as parts,
        _audited(certificate, settings, parts),
    ):

        async def drain_turns(seconds: float) -> None:
            await parts.node_events.draining()
            await parts.supervisor.drain(seconds)

        async def drain() -> None:
            # Both before the first await: after "draining" no caller gets a turn any more.
            parts.app.draining = parts.supervisor.draining = True
            parts.workers.drain()
            # Turns of a broken log can write nothing any more.
            seconds = 0.0 if _broken.is_set() else settings.drain_seconds
            parts.log.hurry(seconds)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(parts.sockets.drain(seconds))
                    if not _broken.is_set():
                        group.create_task(drain_turns(seconds))
            finally:
                # Also when a second signal cancels the drain. The records are on that database too.
                parts.log.hurry(0, parts.records.abandon)
            parts.watch.end_all(Unavailable("the server is shutting down", retry_after=1))

        def ready() -> None:
            hears_signals.set()
            _freeze_garbage()
            if worker is None:
                log_.info("serving", url=listener.url, data=str(settings.data))

        try:
            code = await run(
                parts.app,
                listener,
                drain=drain,
                ready=ready,
                limits=settings.limits,
                certificate=certificate,
                trusted_proxies=settings.trusted_proxies,
            )
        finally:
            hears_signals.clear()
    code = 1 if _broken.is_set() else code
    if parts.supervisor.stuck:
        # The event loop would wait for these tasks for ever. All of our parts are closed.
        log_.error("an agent ignores its end; the process ends without it")
        flush_logs()
        os._exit(code)
    return code
