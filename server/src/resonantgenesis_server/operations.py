"""What those who run the server look at, made from its parts."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter

from .config.settings import Settings
from .feed.hub import Hub
from .http.api.metrics import metrics_router
from .http.watchdog import StreamWatchdog
from .http.websocket.routes import SocketRoutes
from .log.sqlite.log import SqliteLog
from .sessions.session_list import SessionList
from .sessions.supervisor import Supervisor


def metrics_of(
    settings: Settings,
    log: SqliteLog,
    hub: Hub,
    supervisor: Supervisor,
    mirror: SessionList,
    watch: StreamWatchdog,
    sockets: SocketRoutes,
) -> APIRouter:
    """`/metrics` over these parts, which are asked at the moment of a scrape."""

    def streams() -> Mapping[str, float]:
        # Sockets are watched only once they have said who they are.
        return {**watch.kinds(), "websocket": sockets.count}

    def viewers() -> Mapping[str, float]:
        live, behind = hub.live_and_behind()
        return {"live": live, "behind": behind}

    def turns() -> Mapping[str, float]:
        running, queued = supervisor.open_turns()
        return {"running": running, "queued": queued}

    token = settings.metrics_token
    return metrics_router(
        {
            "draining": lambda: {"": float(supervisor.draining)},
            "streams_open": streams,
            "viewers": viewers,
            "turns_open": turns,
            "log_queue_bytes": lambda: {"": log.queued},
            "session_list_queue": lambda: {"": mirror.waiting},
        },
        None if token is None else token.get_secret_value(),
    )
