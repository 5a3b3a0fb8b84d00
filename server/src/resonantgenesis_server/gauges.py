"""The gauges of `/metrics` and of `/v1/metrics`: each request reads the parts of the process."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from fastapi import APIRouter

from . import metrics
from .agents.workers.pool import WorkerPool
from .config.settings import Settings
from .feed.hub import Hub
from .feed.remote import RemoteStreams, SpreadStreams
from .http.api.live_metrics import (
    Here,
    HistogramBody,
    NodeMetrics,
    OpenTurnsBody,
    ViewersBody,
)
from .http.api.metrics import Gauges, ServerMetrics, metrics_router
from .http.serving.worker_place import WorkerPlace
from .http.watchdog import StreamWatchdog
from .http.websocket.routes import SocketRoutes
from .http.worker_metrics import Telling, WorkerMetrics
from .log.sqlite.log import SqliteLog
from .metrics import CHUNKS, METERS, Figures
from .model.events import event_stream
from .sessions.expiry import Expiry
from .sessions.session_list import SessionList
from .sessions.supervisor import Supervisor
from .stores import AnyLog
from .tracing import spans
from .webhooks.dispatcher import WebhookDispatcher


def metrics_of(
    stack: AsyncExitStack,
    settings: Settings,
    worker: WorkerPlace | None,
    log: AnyLog,
    hub: Hub,
    supervisor: Supervisor,
    session_list: SessionList,
    watch: StreamWatchdog,
    sockets: SocketRoutes,
    pool: WorkerPool,
    webhooks: WebhookDispatcher,
    expiry: Expiry,
) -> APIRouter:
    """`/metrics` over these parts; each scrape reads them. A worker tells the others, until `stack`
    is closed."""

    def streams() -> Mapping[str, float]:
        # The watchdog knows a socket only after its authentication.
        return {**watch.kinds(), "websocket": sockets.count}

    def viewers() -> Mapping[str, float]:
        live, behind = hub.live_and_behind()
        return {"live": live, "behind": behind}

    def turns() -> Mapping[str, float]:
        running, queued = supervisor.open_turns()
        return {"running": running, "queued": queued, "waiting": expiry.waiting}

    def followed() -> Mapping[str, float]:
        source = hub.source
        return {"": source.count if isinstance(source, RemoteStreams | SpreadStreams) else 0}

    told = ServerMetrics(
        {
            "draining": lambda: {"": float(supervisor.draining)},
            "streams_open": streams,
            "viewers": viewers,
            "turns_open": turns,
            "log_queue_bytes": lambda: {"": log.queued},
            "session_list_queue": lambda: {"": session_list.waiting},
            "streams_followed": followed,
            "agent_workers": lambda: {"": pool.count},
            "webhooks": lambda: webhooks.counts,
            **_node_gauges(log),
        }
    )
    spans.tell(told.collect)
    given = settings.metrics_token
    token = None if given is None else given.get_secret_value()
    if worker is None:
        pid = os.getpid()
        return metrics_router(lambda: [Telling(None, pid, list(told.collect()))], token)
    workers = WorkerMetrics(worker, told.collect)
    workers.start()
    stack.push_async_callback(workers.close)
    return metrics_router(workers.tellings, token)


def live_metrics_here(
    node: str,
    hub: Hub,
    supervisor: Supervisor,
    watch: StreamWatchdog,
) -> Here:
    """What these parts do, of one organization or of all; `node` is the id of this node."""
    began = time.monotonic()

    def here(organization_id: str | None) -> NodeMetrics:
        def counts(stream: str) -> bool:
            if organization_id is None or stream == event_stream(organization_id):
                return True
            return supervisor.organization_of(stream) == organization_id

        live, behind = hub.live_and_behind(counts)
        running, queued = supervisor.open_turns(organization_id)
        figures = _of_all() if organization_id is None else metrics.figures(organization_id)
        return NodeMetrics(
            node=node,
            uptime_seconds=round(time.monotonic() - began, 3),
            open_streams=watch.count_of(organization_id),
            viewers=ViewersBody(live=live, behind=behind),
            open_turns=OpenTurnsBody(running=running, queued=queued),
            ended_turns=dict(figures.turns.counts),
            chunks=figures.chunks,
            first_chunk=HistogramBody.of(figures.first_chunk),
            append_to_socket=HistogramBody.of(figures.append_to_socket),
            limits_hit=dict(figures.limits.counts),
        )

    return here


def _of_all() -> Figures:
    """The figures of the process, in the form of those of an organization."""
    figures = Figures()
    figures.chunks = METERS.appended.counts[CHUNKS]
    figures.turns, figures.limits = METERS.turns, METERS.limits
    figures.first_chunk, figures.append_to_socket = METERS.first_chunk, METERS.append_to_socket
    return figures


def _node_gauges(log: AnyLog) -> Gauges:
    if isinstance(log, SqliteLog):
        return {
            "nodes_alive": lambda: {"": 1},
            "node_beat_age_seconds": dict,
            "node_notices": dict,
        }
    nodes = log.nodes
    return {
        "nodes_alive": lambda: {"": 1 + len(nodes.others)},
        "node_beat_age_seconds": lambda: {"": nodes.last_seen(nodes.id)},
        "node_notices": lambda: {"": float(log.gets_notices)},
    }
