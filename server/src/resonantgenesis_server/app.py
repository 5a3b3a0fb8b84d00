"""The composition root: the only place that picks backends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog
from fastapi import APIRouter

from .agent_setup import configured_agents, open_engines
from .agents.loading import AgentLoadError, look_beside
from .agents.registry import Engines
from .agents.tools.functions import ToolLoadError
from .agents.tools.opening import open_toolbox
from .agents.tools.toolbox import Toolbox
from .committed import Committed
from .config.load import secrets_of, unknown_variables
from .config.settings import Settings
from .datadir.clock import keeping_clock
from .datadir.lock import lock_data
from .events.outbox import OutboxRelay
from .events.service import EventService
from .events.system_events import LimitEvents, NodeEvents
from .feed.hub import Hub
from .files.base import BlobError
from .files.disk import DiskBlobs
from .files.service import QUOTA, FileService
from .http.api.events import events_router
from .http.api.exports import ExportRoutes
from .http.api.files import FileRoutes, files_router
from .http.api.sessions import sessions_router
from .http.api.tools import tools_router
from .http.api.usage import usage_router
from .http.app import AppDeps, create_app
from .http.auth.authenticator import CredentialAuthenticator, open_authenticator
from .http.idempotency import IdempotentPosts
from .http.limits import RequestLimit
from .http.middleware import Gateway
from .http.serving.run import CannotListen, Listener, listen, run, run_event_loop
from .http.sse.routes import EventRoutes, StreamRoutes
from .http.watchdog import StreamWatchdog
from .http.websocket.asyncapi import asyncapi_router
from .http.websocket.routes import SocketRoutes
from .limit_setup import KeyLimits
from .log.base import LogError
from .log.sqlite.log import SqliteLog
from .logging.setup import flush_logs, open_logs, say
from .logging.startup import StartupError
from .maintenance import Housekeeper, Job, Retention, old_events, old_records, old_requests
from .metrics import LoopLag
from .model.clock import Clock
from .model.errors import ApiError, Unavailable
from .model.limits import Limits
from .model.principal import Reached
from .operations import metrics_of
from .records.agents import AgentDirectory
from .records.base import StoreError
from .records.credentials import CredentialHasher, bootstrap, load_secret
from .records.store import Records
from .sessions.files import SessionFiles
from .sessions.idempotency import TurnIdempotency
from .sessions.service import SessionService
from .sessions.session_list import SessionList
from .sessions.supervisor import Supervisor
from .usage import UsageMeter, UsageService

log_ = structlog.get_logger("resonantgenesis.main")


_broken = threading.Event()
#: Objects made before the young are looked at, and looks before the next older ones are.
_GC_THRESHOLDS = 20_000, 20, 20
#: Seconds that a start waits for what the last run left of the list of sessions. It is little,
#: unless an older version wrote the store, or the log's history is another.
_LIST_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Routes:
    """What the transports offer."""

    sessions: SessionService
    events: EventService
    usage: UsageService
    limits: Limits
    watch: StreamWatchdog
    requests: RequestLimit
    sockets: SocketRoutes
    files: FileService
    once: IdempotentPosts
    tools: Toolbox
    metrics: APIRouter
    now: Callable[[], float]
    reached: Reached

    def streams(self) -> list[APIRouter]:
        """The routers of what is answered before the framework."""
        return [
            StreamRoutes(self.sessions, self.limits, self.watch, self.requests).router(),
            EventRoutes(self.events, self.limits, self.watch).router(),
            ExportRoutes(self.sessions, self.events, self.limits, self.watch).router(),
        ]

    def files_router(self) -> APIRouter:
        return files_router(self.files, FileRoutes(self.files, self.limits, self.watch, self.once))


@dataclass(slots=True)
class Parts:
    """The running server without its sockets."""

    app: Gateway
    supervisor: Supervisor
    watch: StreamWatchdog
    service: SessionService
    events: EventService
    usage: UsageMeter
    sockets: SocketRoutes
    retention: Retention
    housekeeper: Housekeeper
    node_events: NodeEvents
    log: SqliteLog
    records: Records


def serve(settings: Settings, config: Path | None = None) -> int:
    """Run the server until it is told to stop; the exit code. Python modules are looked for beside
    `config`, the file that the settings came from.

    Raises StartupError, with one line, when it cannot start.
    """
    if config is not None:
        look_beside(config)
    with open_logs(settings.log_level, settings.log_format, secrets_of(settings)):
        return _started(settings)


def _started(settings: Settings) -> int:
    for name, meant in unknown_variables():
        hint = f"; did you mean {meant}?" if meant else ""
        log_.warning(f"{name} is no setting and does nothing{hint}")
    try:
        with lock_data(settings.data), listen(settings.host, settings.port) as listener:
            hears_signals = asyncio.Event()
            return run_event_loop(_serve(settings, listener, hears_signals), hears_signals.is_set)
    except (CannotListen, LogError, StoreError, BlobError, AgentLoadError, ToolLoadError) as error:
        raise StartupError(str(error)) from error
    except ApiError as error:
        raise StartupError(error.message) from error


def _leave_what_stays() -> None:
    """Tell the garbage collector that what is here now stays, and to look less often: with the
    interpreter's own thresholds it took a tenth of the time of 10,000 tokens a second, and
    stopped them all for 100 ms now and then."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _stop_broken() -> None:
    """The log fails time after time: end as on a signal, and say so by the exit code."""
    if not _broken.is_set():
        _broken.set()
        log_.critical("the log fails time after time; the server stops")
        signal.raise_signal(signal.SIGTERM)


async def _serve(settings: Settings, listener: Listener, hears_signals: asyncio.Event) -> int:
    async with open_parts(settings) as parts:

        async def drain() -> None:
            # Both before anything is awaited: who is told "draining" gets no turn any more.
            parts.app.draining = parts.supervisor.draining = True
            await parts.node_events.draining()
            async with asyncio.TaskGroup() as group:
                group.create_task(parts.supervisor.drain(settings.drain_seconds))
                group.create_task(parts.sockets.drain(settings.drain_seconds))
            parts.watch.end_all(Unavailable("the server is shutting down", retry_after=1))

        def ready() -> None:
            hears_signals.set()
            _leave_what_stays()
            log_.info("serving", url=listener.url, data=str(settings.data))

        limits = settings.limits
        try:
            code = await run(parts.app, listener, drain=drain, ready=ready, limits=limits)
        finally:
            hears_signals.clear()
    code = 1 if _broken.is_set() else code
    if parts.supervisor.stuck:
        # The event loop would wait for these tasks for ever; everything of ours is closed.
        log_.error("an agent ignores its end; the process ends without it")
        flush_logs()
        os._exit(code)
    return code


@contextlib.asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Everything but the sockets, started; closed in the opposite order."""
    async with contextlib.AsyncExitStack() as stack:
        limits = settings.limits
        clock = await stack.enter_async_context(keeping_clock(settings.data / "clock"))
        records = await Records.open(
            f"sqlite:///{settings.data / 'records.db'}", clock=clock.now, passed=clock.passed
        )
        stack.push_async_callback(records.close)
        hasher = await _open_secret(settings.data / "secret", records)
        # What can be refused is refused before a key is made and shown.
        tools = await stack.enter_async_context(open_toolbox(settings.tools, limits.chunk))
        engines = await open_engines(stack, settings, tools)
        directory, agents = configured_agents(settings, records, engines)
        await _bootstrap(settings, records, hasher)

        hub = Hub()
        committed = Committed(hub)
        log = await SqliteLog.open(
            settings.data / "log.db", on_commit=committed, clock=clock, on_broken=_stop_broken
        )
        stack.push_async_callback(log.close)
        mirror = committed.mirror = SessionList(records.sessions, log)
        stack.push_async_callback(mirror.close)
        of_key = KeyLimits.of(settings, log)
        files = await _open_files(stack, settings.data, records, limits, mirror, of_key.events)
        meter = committed.meter = await UsageMeter.open(
            log, records.usage, records.organizations, limits.monthly_tokens, clock.now
        )
        stack.push_async_callback(meter.close)
        fence = await log.next_fence()
        supervisor = committed.supervisor = Supervisor(
            log,
            hub,
            fence=fence,
            limits=limits,
            agents=agents,
            files=partial(SessionFiles, files),
            changed=of_key.counting(mirror.changed),
        )
        stack.push_async_callback(supervisor.close)
        keys = TurnIdempotency(log, supervisor.states.load, window=limits.idempotency_window)
        service = SessionService(
            supervisor,
            keys,
            mirror,
            records.sessions,
            admit=meter.budget.check,
            check_tools=tools.check,
            turns=of_key.turns,
            now=clock.now,
        )
        retention = Retention(
            records.sessions, service.remove, mirror.settle, limits.session_retention, clock
        )
        authenticator = open_authenticator(records, hasher, settings.cors_origins)
        watch = StreamWatchdog(authenticator.recheck, of_key.streams, authenticator.refresh)
        events = EventService(log, hub, max_data=limits.context)
        sockets = SocketRoutes(service, events, authenticator, limits, watch, of_key.requests)
        once = IdempotentPosts(records.idempotency, limits.idempotency_window)
        routes = Routes(
            service,
            events,
            UsageService(meter, records.usage),
            limits,
            watch,
            of_key.requests,
            sockets,
            files,
            once,
            tools,
            metrics_of(settings, log, hub, supervisor, mirror, watch, sockets),
            clock.now,
            of_key.events.reached,
        )
        relay = OutboxRelay(records.outbox, log)
        app = _app(settings, limits, records, authenticator, directory, routes, relay, engines)
        node_events = NodeEvents(
            log, records.organizations, fence=fence, version=version("resonantgenesis-server")
        )
        # Files after the sessions, whose own are nobody's once they are gone.
        housekeeper = Housekeeper(
            [
                *_jobs(records, events, retention, meter, mirror, limits, clock),
                Job("files", files.collect),
            ]
        )

        await _sweep(supervisor, log)
        mirror.start(records.organizations)
        meter.start()
        await _put_right(mirror)
        await _tell(stack, relay, node_events)
        for timer in (housekeeper, watch, LoopLag(), of_key.requests, of_key.events):
            timer.start()
            stack.push_async_callback(timer.close)
        yield Parts(
            app,
            supervisor,
            watch,
            service,
            events,
            meter,
            sockets,
            retention,
            housekeeper,
            node_events,
            log,
            records,
        )


async def _open_secret(path: Path, records: Records) -> CredentialHasher:
    is_new = not await asyncio.to_thread(path.exists)
    hasher = CredentialHasher(load_secret(path))
    if is_new and await records.organizations.first() is not None:
        log_.error("the secret was gone and is made anew; no earlier API key works", file=str(path))
    return hasher


async def _open_files(
    stack: contextlib.AsyncExitStack,
    data: Path,
    records: Records,
    limits: Limits,
    mirror: SessionList,
    events: LimitEvents,
) -> FileService:
    def reached(organization_id: str, most: int) -> None:
        events.met(organization_id, None, QUOTA, most)

    blobs = await DiskBlobs.open(data / "files", reserve=limits.disk_reserve)
    stack.push_async_callback(blobs.close)
    return FileService(
        records.files,
        blobs,
        limit=limits.file,
        settle=mirror.removals,
        quota=limits.organization_files,
        reached=reached,
    )


async def _tell(
    stack: contextlib.AsyncExitStack, relay: OutboxRelay, node_events: NodeEvents
) -> None:
    """What happened before the last stop is told before this start."""
    relay.start()
    stack.push_async_callback(relay.close)
    await relay.settle()
    await node_events.started()


async def _put_right(mirror: SessionList) -> None:
    """The list of sessions as the log has them, before anybody asks for it."""
    if not await mirror.ready(_LIST_PATIENCE):
        log_.warning("the list of sessions is being brought up to date")


async def _sweep(supervisor: Supervisor, log: SqliteLog) -> None:
    lost, resumed = await supervisor.sweep(await log.pending())
    if lost or resumed:
        log_.warning("turns of the last run", lost=lost, resumed=resumed)


def _jobs(
    records: Records,
    events: EventService,
    retention: Retention,
    meter: UsageMeter,
    mirror: SessionList,
    limits: Limits,
    clock: Clock,
) -> list[Job]:
    async def settle() -> None:
        await meter.settle()
        await mirror.settle()

    return [
        Job("sessions", retention.sweep),
        old_events(records.organizations, events, limits.event_retention, settle=settle),
        old_requests(records.idempotency, limits.idempotency_window, clock),
        old_records("usage", records.usage, limits.usage_retention, clock),
    ]


def _app(
    settings: Settings,
    limits: Limits,
    records: Records,
    authenticator: CredentialAuthenticator,
    directory: AgentDirectory,
    routes: Routes,
    relay: OutboxRelay,
    engines: Engines,
) -> Gateway:
    async def ready() -> str | None:
        try:
            await records.ping()
        except StoreError as error:
            return str(error)
        return None

    return create_app(
        AppDeps(
            records=records,
            authenticator=authenticator,
            directory=directory,
            validate_engine=engines.check,
            check_tools=routes.tools.check,
            check_session=routes.sessions.check,
            settle=relay.settle,
            limits=limits,
            requests=routes.requests,
            reached=routes.reached,
            watch=routes.watch,
            cors_origins=settings.cors_origins,
            fast=routes.sockets.routes(),
            routers=[
                *routes.streams(),
                sessions_router(routes.sessions, limits, routes.once),
                routes.files_router(),
                events_router(routes.events, limits),
                usage_router(routes.usage, routes.now),
                tools_router(routes.tools),
                asyncapi_router(),
                routes.metrics,
            ],
            ready=ready,
        )
    )


async def _bootstrap(settings: Settings, records: Records, hasher: CredentialHasher) -> None:
    given, path = settings.bootstrap_key, settings.data / "api-key"
    made = await bootstrap(records, hasher, given.get_secret_value() if given else None, path)
    if made.generated is None:
        return
    if made.former:
        log_.warning(
            "the file with the API key held none that is valid; a new one was made",
            file=str(path),
            former_keys_still_valid=made.former,
        )
    # Shown this once, and on a terminal only: whatever else the output goes to would keep it.
    told = f"(also in {path}): {made.generated}" if os.isatty(1) else f"is in {path}"
    say(f"API key {told}")
