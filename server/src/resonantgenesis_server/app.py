"""The composition root: `open_parts` makes everything that a process runs.

No other module but `stores` chooses a backend.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Protocol

import structlog

from . import metrics
from .agents.engines.http.endpoint import EndpointRecords
from .agents.tools.opening import open_toolbox
from .agents.workers.directory import WorkerDirectory
from .agents.workers.nodes import WorkerNodes
from .agents.workers.pool import WorkerPool
from .calls import Calls
from .clients.a2a.push import notifications
from .config.settings import Settings
from .configured_agents import configured_agents, open_engines
from .datadir.clock import keeping_clock
from .erasure import Erasure
from .events.outbox import OutboxRelay
from .events.service import EventService
from .events.system_events import LimitEvents, NodeEvents
from .feed.hub import Hub
from .feed.remote import remote_streams
from .files.service import QUOTA, FileService
from .gateway import Routes, open_gateway
from .gauges import live_metrics_here, metrics_of
from .http.api.live_metrics import LiveMetrics
from .http.auth.authenticator import open_authenticator
from .http.idempotency import IdempotentPosts
from .http.key_limits import KeyLimits
from .http.middleware import Gateway
from .http.serving.worker_place import WorkerPlace
from .http.watchdog import StreamWatchdog
from .http.websocket.routes import SocketRoutes
from .http.workers.routes import WorkerRoutes
from .log.base import Entry, OnCommit
from .log.sqlite.log import SqliteLog
from .logging.setup import say
from .maintenance import Housekeeper, Retention, RetentionJob, old_events, old_records, old_requests
from .metrics import LoopLag
from .model.clock import Clock
from .model.limits import Limits
from .nodes import Load, NodeDirectory, NodeStatus, node_id
from .records.bootstrap import bootstrap
from .records.credentials import CredentialHasher
from .records.store import Records
from .rotation import SecretRotation
from .sessions.adoption import Adoption
from .sessions.expiry import Expiry
from .sessions.files import SessionFiles
from .sessions.idempotency import TurnIdempotency
from .sessions.ownership import NodeOwner, Ownership, SoleOwner
from .sessions.service import SessionService
from .sessions.session_list import HOLD_SECONDS, SessionList
from .sessions.supervisor import Supervisor
from .shortage import ShortageWatch, resources_of
from .stores import (
    AnyLog,
    node_name,
    open_blobs,
    open_hasher,
    open_log,
    open_records,
    place_of_files,
    secret_file,
)
from .usage import UsageMeter, UsageService
from .webhooks.book import DeliveryBook
from .webhooks.dispatcher import WebhookDispatcher
from .webhooks.poster import Poster
from .webhooks.sender import Compose, DeliveryParts
from .webhooks.service import WebhookService

log_ = structlog.get_logger("resonantgenesis.main")


#: Seconds that a start waits until the list of sessions is up to date. It takes long only if an
#: older version wrote the store, or if the log was restored from a backup.
_LIST_PATIENCE = 20.0
#: Seconds for which attempts to deliver to webhooks are kept.
_DELIVERIES_KEPT = 7 * 86_400.0
#: Seconds after which the bytes of an organization's files are counted anew, where other nodes may
#: have taken some.
_RECOUNT = 10.0


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
    workers: WorkerRoutes
    retention: Retention
    housekeeper: Housekeeper
    node_events: NodeEvents
    log: AnyLog
    records: Records


class CommitDispatcher:
    """The log's `on_commit`: followers of the log get a commit before its readers.

    So a reader that asks for the consequences of an entry finds them. The log is opened first;
    the followers are set once they exist.
    """

    def __init__(self, hub: Hub) -> None:
        self.supervisor: Supervisor | None = None
        self.meter: UsageMeter | None = None
        self.session_list: SessionList | None = None
        self.publish: OnCommit = hub.publish

    def __call__(self, stream: str, entries: Sequence[Entry]) -> None:
        # Nearly all commits are chunks, which no follower needs.
        kind = metrics.kind_of(stream)
        metrics.appended(kind, len(entries))
        if kind != metrics.CHUNKS:
            if kind == metrics.EVENTS and self.meter is not None:
                self.meter.committed(stream, entries)
            if self.supervisor is not None:
                self.supervisor.committed(stream, entries)
            if self.session_list is not None:
                self.session_list.committed(stream, entries)
        self.publish(stream, entries)


@contextlib.asynccontextmanager
async def open_parts(
    settings: Settings,
    worker: WorkerPlace | None = None,
    *,
    on_broken: Callable[[str], None] = lambda _reason: None,
) -> AsyncIterator[Parts]:
    """Start everything but the listening sockets; it is closed in the opposite order.

    `on_broken` is called with the reason when the log is unusable for good.
    """
    async with contextlib.AsyncExitStack() as stack:
        limits = settings.limits
        clock, number = await _keep_clock(stack, settings, worker)
        records = await open_records(settings, clock)
        stack.push_async_callback(records.close)
        hasher = await open_hasher(settings, records)
        # Bad settings of tools and agents are found before an API key is made and shown.
        tools = await stack.enter_async_context(open_toolbox(settings.tools, limits.chunk))
        engines = await open_engines(stack, settings, tools, hasher)
        directory, agents = configured_agents(settings, records, engines)
        await _bootstrap(settings, records, hasher)

        hub = Hub()
        dispatcher = CommitDispatcher(hub)
        log = await open_log(settings, dispatcher, clock, on_broken, number)
        stack.push_async_callback(log.close)
        _tell_parent(worker, log)
        session_list = dispatcher.session_list = SessionList(
            records.sessions,
            records.organizations,
            log,
            None if isinstance(log, SqliteLog) else log,
            hold=max(HOLD_SECONDS, 4 * settings.node_ttl),
        )
        stack.push_async_callback(session_list.close)
        of_key = KeyLimits.of(settings, log)
        files = await _open_files(stack, settings, records, session_list, of_key.events)
        meter = dispatcher.meter = await UsageMeter.open(
            log,
            records.usage,
            records.organizations,
            limits.monthly_tokens,
            clock.now,
            None if isinstance(log, SqliteLog) else log,
        )
        stack.push_async_callback(meter.close)
        fence = await log.next_fence()
        ownership, calls = _among_nodes(log, fence)
        supervisor = dispatcher.supervisor = Supervisor(
            log,
            hub,
            ownership=ownership,
            limits=limits,
            agents=agents,
            files=partial(SessionFiles, files),
            changed=of_key.counting(session_list.changed),
            now=clock.now,
        )
        stack.push_async_callback(supervisor.close)
        keys = TurnIdempotency(
            log, supervisor.states.load, ownership, window=limits.idempotency_window
        )
        service = SessionService(
            supervisor,
            keys,
            session_list,
            records.sessions,
            admit=meter.budget.check,
            check_tools=tools.check,
            turns=of_key.turns,
            now=clock.now,
            calls=calls,
        )
        retention = Retention(
            records.sessions, service.remove, session_list.settle, limits.session_retention, clock
        )
        authenticator = open_authenticator(
            records.keys, records.secrets, hasher, settings.cors_origins
        )
        watch = StreamWatchdog(authenticator.recheck, of_key.streams, authenticator.refresh)
        events = EventService(log, hub, max_data=limits.context)
        own = _own_node(log, fence, clock, number)
        relay = OutboxRelay(records.outbox, log, None if calls is None else lambda: ownership.leads)
        webhooks, deliveries = _webhooks(
            stack,
            settings,
            records,
            events,
            hasher,
            clock,
            calls,
            relay.settle,
            notifications(service),
        )
        sockets = SocketRoutes(
            service, events, authenticator, limits, watch, of_key.requests, webhooks
        )
        expiry = Expiry(records.sessions, service.expire, clock.now, lambda: ownership.leads)
        routes = Routes(
            service,
            events,
            UsageService(meter, records.usage),
            limits,
            watch,
            of_key.requests,
            sockets,
            files,
            IdempotentPosts(records.idempotency, limits.idempotency_window),
            tools,
            _node_directory(settings, own, log, supervisor, watch, sockets, calls),
            WorkerRoutes(engines.pool, directory, limits, watch, clock.now),
            WorkerDirectory(engines.pool, own.id, calls),
            webhooks,
            metrics_of(
                stack,
                settings,
                worker,
                log,
                hub,
                supervisor,
                session_list,
                watch,
                sockets,
                engines.pool,
                deliveries,
                expiry,
            ),
            LiveMetrics(
                live_metrics_here(own.id, hub, supervisor, watch),
                records.sessions.waiting,
                calls,
            ),
            clock.now,
            of_key.events.reached,
            Erasure(service, files, events, records, meter.settle, limits.event_retention),
            calls,
            SecretRotation(
                records.server_secret, hasher, secret_file(settings), calls, authenticator.forget
            ),
        )

        def served() -> set[str] | None:
            return None if ownership.is_alone else watch.organizations | supervisor.organizations

        app = open_gateway(settings, records, log, authenticator, directory, routes, relay, engines)
        node_events = NodeEvents(
            log, records.organizations, node_id=own.id, version=own.version, served=served
        )
        # Files after the sessions: the files of a removed session have no owner any more.
        housekeeper = Housekeeper(
            [
                *_jobs(records, events, retention, meter, session_list, limits, clock),
                RetentionJob("forks", service.forks.sweep),
                RetentionJob("files", files.collect),
            ],
            lambda: ownership.leads,
        )

        _share_workers(stack, engines.pool, calls)
        await _take_up(stack, log, supervisor, dispatcher, session_list, calls)
        meter.start()
        await _start_list(session_list)
        await _announce_start(stack, relay, node_events)
        of_key.share(stack, calls, watch)
        _start(
            stack,
            housekeeper,
            watch,
            LoopLag(),
            ShortageWatch(resources_of(settings)),
            of_key.requests,
            of_key.events,
            routes.nodes,
            expiry,
            deliveries,
            routes.rotation,
        )
        yield Parts(
            app,
            supervisor,
            watch,
            service,
            events,
            meter,
            sockets,
            routes.workers,
            retention,
            housekeeper,
            node_events,
            log,
            records,
        )


class _Timer(Protocol):
    def start(self) -> None: ...

    async def close(self) -> None: ...


def _start(stack: contextlib.AsyncExitStack, *timers: _Timer) -> None:
    for timer in timers:
        timer.start()
        stack.push_async_callback(timer.close)


async def _keep_clock(
    stack: contextlib.AsyncExitStack, settings: Settings, worker: WorkerPlace | None
) -> tuple[Clock, int | None]:
    """The clock, and the number of the worker that keeps one of its own."""
    number = worker.number if worker is not None and settings.store else None
    file = settings.data / ("clock" if number is None else f"clock-{number}")
    return await stack.enter_async_context(keeping_clock(file)), number


def _tell_parent(worker: WorkerPlace | None, log: AnyLog) -> None:
    """So a worker that has ended is a dead node at once, not after `node_ttl`."""
    if worker is not None and not isinstance(log, SqliteLog):
        worker.joined(log.node, log.nodes.ended)


async def _open_files(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    records: Records,
    session_list: SessionList,
    events: LimitEvents,
) -> FileService:
    def reached(organization_id: str, most: int) -> None:
        events.met(organization_id, None, QUOTA, most)

    limits = settings.limits
    blobs, address = await open_blobs(settings)
    stack.push_async_callback(blobs.close)
    return FileService(
        records.files,
        blobs,
        limit=limits.file,
        settle=session_list.removals,
        quota=limits.organization_files,
        reached=reached,
        recount=_RECOUNT if settings.files else math.inf,
        address=address,
    )


async def _announce_start(
    stack: contextlib.AsyncExitStack, relay: OutboxRelay, node_events: NodeEvents
) -> None:
    """Relay the events of before the last stop, then write this start's own."""
    relay.start()
    stack.push_async_callback(relay.close)
    await relay.settle()
    stack.push_async_callback(node_events.close)
    await node_events.started()


async def _start_list(session_list: SessionList) -> None:
    """Start the list of sessions, and wait at most _LIST_PATIENCE until it shows what the log
    holds."""
    session_list.start()
    if not await session_list.ready(_LIST_PATIENCE):
        log_.warning("the list of sessions is being brought up to date")


def _among_nodes(log: AnyLog, fence: int) -> tuple[Ownership, Calls | None]:
    """How this process owns sessions, and how it asks other nodes, if the log can have some."""
    if isinstance(log, SqliteLog):
        return SoleOwner(fence), None
    return NodeOwner(log, fence), Calls(log.nodes)


def _share_workers(stack: contextlib.AsyncExitStack, pool: WorkerPool, calls: Calls | None) -> None:
    """Let workers of this node serve turns of others, and the other way round."""
    if calls is None:
        return
    pool.node = calls.node
    nodes = WorkerNodes(pool, calls)
    nodes.start()
    stack.push_async_callback(nodes.close)


def _own_node(log: AnyLog, fence: int, clock: Clock, worker: int | None) -> NodeStatus:
    number = fence if isinstance(log, SqliteLog) else log.node
    return NodeStatus(
        node_id(number), node_name(worker), version("resonantgenesis-server"), 0.0, clock.now()
    )


def _node_directory(
    settings: Settings,
    own: NodeStatus,
    log: AnyLog,
    supervisor: Supervisor,
    watch: StreamWatchdog,
    sockets: SocketRoutes,
    calls: Calls | None,
) -> NodeDirectory:
    def load() -> Load:
        running, queued = supervisor.open_turns()
        return Load(running, queued, watch.kinds()["sse"] + sockets.count)

    if isinstance(log, SqliteLog):
        return NodeDirectory(own, load)
    return NodeDirectory(own, load, log.nodes, calls, files=place_of_files(settings))


def _webhooks(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    records: Records,
    events: EventService,
    hasher: CredentialHasher,
    clock: Clock,
    calls: Calls | None,
    settle: Callable[[], Awaitable[None]],
    protocols: Mapping[str, Compose],
) -> tuple[WebhookService, WebhookDispatcher]:
    """Webhooks for their owners, and what delivers to them, which is still to be started."""
    limits = settings.limits
    poster = Poster(settings.webhooks, EndpointRecords(hasher.derives), clock.now)
    stack.push_async_callback(poster.close)
    book = DeliveryBook(records.webhooks, records.deliveries, settle)
    dispatcher = WebhookDispatcher(
        records.webhooks,
        DeliveryParts(events, poster, book, settings.webhooks, clock.now, protocols),
        lambda: None if calls is None else (calls.node, calls.others),
    )
    service = WebhookService(
        records.webhooks,
        records.deliveries,
        events,
        poster,
        dispatcher,
        limit=limits.organization_webhooks,
        callbacks=limits.organization_callbacks,
        now=clock.now,
    )
    return service, dispatcher


async def _take_up(
    stack: contextlib.AsyncExitStack,
    log: AnyLog,
    supervisor: Supervisor,
    dispatcher: CommitDispatcher,
    session_list: SessionList,
    calls: Calls | None,
) -> None:
    """End the turns whose process died, and run those that waited: of the last run, and of nodes
    that die from now on."""
    if isinstance(log, SqliteLog):
        lost, resumed = await supervisor.sweep(await log.pending())
    else:
        hub, gone = supervisor.hub, supervisor.gone
        remote = hub.source = remote_streams(log.parts, log.place_of, hub, gone)
        dispatcher.publish = remote.committed
        remote.start()
        stack.push_async_callback(remote.close)
        if calls is not None:
            stack.push_async_callback(calls.close)
        # Others must know of this node before it writes: until then they take their memory for
        # all that there is.
        await log.nodes.seen()
        adoption = Adoption(log.nodes, supervisor.sweep, session_list.node_gone)
        lost, resumed = await adoption.adopt()
        adoption.start()
        stack.push_async_callback(adoption.close)
    if lost or resumed:
        log_.warning("turns of processes that died", lost=lost, resumed=resumed)


def _jobs(
    records: Records,
    events: EventService,
    retention: Retention,
    meter: UsageMeter,
    session_list: SessionList,
    limits: Limits,
    clock: Clock,
) -> list[RetentionJob]:
    async def settle(organization_id: str) -> None:
        await meter.settle(organization_id)
        await session_list.settle()

    return [
        RetentionJob("sessions", retention.sweep),
        old_events(records.organizations, events, limits.event_retention, settle=settle),
        old_events(records.organizations, events.audit, limits.audit_retention, name="audit"),
        old_requests(records.idempotency, limits.idempotency_window, clock),
        old_records("usage", records.usage, limits.usage_retention, clock),
        old_records("deliveries", records.deliveries, _DELIVERIES_KEPT, clock),
    ]


async def _bootstrap(settings: Settings, records: Records, hasher: CredentialHasher) -> None:
    given, path = settings.bootstrap_key, settings.data / "api-key"
    key = given.get_secret_value() if given else None
    is_shared = bool(settings.store)
    made = await bootstrap(records, hasher, key, path, is_shared=is_shared)
    if made.generated is None:
        return
    if made.former:
        log_.warning(
            "the file with the API key held none that is valid; a new one was made",
            file=str(path),
            former_keys_still_valid=made.former,
        )
    # Shown once, and on a terminal only: a file or a log would keep the key.
    where = f"(also in {path}): {made.generated}" if os.isatty(1) else f"is in {path}"
    say(f"API key {where}")
