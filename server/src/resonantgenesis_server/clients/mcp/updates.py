"""What a client is told unasked: that a session or a list has changed, and how its tasks stand.

The organization's events say what changed. A client of 2026-07-28 says in the request of the stream
what it watches; for an older one `Watches` knows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from starlette.types import Receive, Scope, Send

from ...calls import Calls
from ...codec.events import cursor_of
from ...codec.json import loads
from ...codec.sse import HEARTBEAT, OPENING
from ...events.service import EventService
from ...http.auth.authenticator import require
from ...http.serving.stream_connection import chunked
from ...http.sse.stream import SseEncoder, SseStream, StreamHeaders
from ...log.base import Entry
from ...model.errors import ApiError
from ...model.principal import Principal
from ..frames import data_frame
from ..json_rpc import INVALID_PARAMS, Json, RpcError, RpcId
from ..streams import ClientStreams
from .requests import PRIMED, McpRequest, version_of
from .resources import SessionResources, session_in, session_uri
from .tasks import TaskReader, task_id_of
from .tools import READS, WRITES
from .watches import MOST_WATCHED, Watches, WatchSet

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
_SESSIONS = (
    "session.created", "session.started", "session.waiting", "session.resumed",
    "session.completed", "session.failed", "session.cancelled", "session.deleted",
)  # fmt: skip
_SESSION_LIST = frozenset({"session.created", "session.deleted"})
_TOOL_LIST = frozenset(
    f"{kind}.{change}" for kind in ("agent", "team") for change in ("created", "updated", "deleted")
)

#: Reads a task as its client sees it. Raises RpcError and ApiError.
LoadTask = Callable[[str], Awaitable[Json]]


class UpdatesEncoder(SseEncoder):
    """Writes events as notifications, each with the place to go on from.

    It has the `WatchSet` of its MCP session itself, so it hears of what is watched later.
    """

    __slots__ = ("_epoch", "_load", "_loaded", "watched")

    task_status: ClassVar[str] = "notifications/tasks/status"

    def __init__(self, watched: WatchSet, epoch: str, load: LoadTask) -> None:
        self.watched = watched
        self._epoch = epoch
        self._load = load
        #: The watched tasks of the entries that were prepared.
        self._loaded: dict[str, Json] = {}

    async def prepare(self, entries: Sequence[Entry]) -> None:
        self._loaded = {}
        for task_id in {task_id for entry in entries if (task_id := self._task_in(entry))}:
            try:
                self._loaded[task_id] = await self._load(task_id)
            except (ApiError, RpcError):
                continue  # it is gone, and its client finds that out

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        return [
            self._frame(entry, message) for entry in entries for message in self._messages(entry)
        ]

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        if any(map(self._task_in, entries)):
            return None
        found = b"".join(self.encode(entries))
        return chunked(found) if found else b""  # an empty part would end the body

    def heartbeat(self, position: int) -> bytes:
        return HEARTBEAT

    def place(self, position: int) -> bytes:
        """An event without data, for a client that is cut off before there is another."""
        return b"id: %b\ndata:\n\n" % cursor_of(self._epoch, position).encode()

    def _frame(self, entry: Entry, message: Json) -> bytes:
        place = cursor_of(self._epoch, entry.position).encode()
        return b"id: %b\n%b" % (place, data_frame(message))

    def _messages(self, entry: Entry) -> Iterator[Json]:
        watched = self.watched
        if watched.tool_list and entry.kind in _TOOL_LIST:
            yield _notification("notifications/tools/list_changed")
        if watched.session_list and entry.kind in _SESSION_LIST:
            yield _notification("notifications/resources/list_changed")
        if watched.sessions and entry.kind in _SESSIONS:
            session_id = _data(entry)["session_id"]
            if session_id in watched.sessions:
                yield _notification("notifications/resources/updated", uri=session_uri(session_id))
        task = self._loaded.get(self._task_in(entry))
        if task is not None:
            yield _notification(self.task_status, **task)

    def _task_in(self, entry: Entry) -> str:
        """The watched task that the event is about, or ""."""
        if not self.watched.tasks or entry.kind not in _SESSIONS:
            return ""
        data = _data(entry)
        task_id = f"{data['session_id']}.{data.get('turn')}"
        return task_id if task_id in self.watched.tasks else ""


class ListenEncoder(UpdatesEncoder):
    """Writes the answer to `subscriptions/listen` of 2026-07-28, which nobody can go on with."""

    __slots__ = ("_about",)

    cuts: ClassVar[bool] = True
    task_status: ClassVar[str] = "notifications/tasks"

    def __init__(self, watched: WatchSet, epoch: str, load: LoadTask, rpc_id: RpcId) -> None:
        super().__init__(watched, epoch, load)
        self._about = {SUBSCRIPTION: rpc_id}

    def acknowledged(self) -> bytes:
        """The first message: what of the request is heeded."""
        watched = self.watched
        heeded = {
            "resourceSubscriptions": [*map(session_uri, watched.sessions)],
            "taskIds": [*watched.tasks],
            "toolsListChanged": watched.tool_list,
            "resourcesListChanged": watched.session_list,
        }
        heeded = {name: value for name, value in heeded.items() if value}
        method = "notifications/subscriptions/acknowledged"
        return self._stamped(_notification(method, notifications=heeded))

    def _frame(self, entry: Entry, message: Json) -> bytes:
        return self._stamped(message)

    def _stamped(self, message: Json) -> bytes:
        params = message.get("params", {})
        return data_frame({**message, "params": {**params, "_meta": self._about}})


class Updates:
    """Streams of notifications, and what their clients watch."""

    def __init__(
        self,
        streams: ClientStreams,
        events: EventService,
        tasks: TaskReader,
        resources: SessionResources,
        calls: Calls | None,
    ) -> None:
        self._streams = streams
        self._events = events
        self._tasks = tasks
        self._resources = resources
        self._watches = Watches(calls)

    async def watch(self, request: McpRequest) -> Json:
        """A client up to 2025-11-25 watches a session, or does so no more."""
        principal, mcp_session = request.principal, request.mcp_session
        require(principal, READS)
        if mcp_session is None:
            raise RpcError(INVALID_PARAMS, "only a client with an Mcp-Session-Id watches resources")
        uri = request.message.params.get("uri")
        if request.message.method == "resources/subscribe":
            session_id = await self._resources.check(principal, uri, is_modern=False)
            await self._watches.watch(principal, mcp_session, session_id)
        else:  # which may have been deleted since
            await self._watches.unwatch(principal, mcp_session, session_in(uri))
        return {}

    async def watch_task(self, request: McpRequest, task_id: str) -> None:
        """A client up to 2025-11-25 has made this task."""
        if request.mcp_session is not None:
            await self._watches.watch_task(request.principal, request.mcp_session, task_id)

    async def push(
        self, scope: Scope, receive: Receive, send: Send, mcp_session: str, last: str | None
    ) -> None:
        """What an MCP session watches, from now on or behind the event `last` of this stream."""
        principal: Principal = scope["state"]["principal"]
        require(principal, READS)
        watched = await self._watches.opened(principal, mcp_session)
        watched.tool_list = _sees_agents(principal)
        encoder = UpdatesEncoder(
            watched, self._events.epoch, lambda task_id: self._tasks.task(principal, task_id)
        )
        opening = encoder.place if version_of(scope) == PRIMED else lambda _after: OPENING
        await self._write(scope, receive, send, encoder, opening, last)

    async def listen(self, request: McpRequest) -> None:
        """What a client of 2026-07-28 watches. Nothing that it does not see is promised."""
        principal, wanted = request.principal, request.message.params.get("notifications")
        require(principal, READS)
        if not isinstance(wanted, Mapping):
            raise RpcError(INVALID_PARAMS, "the request has no `notifications`")
        uris, task_ids = _names(wanted, "resourceSubscriptions"), _names(wanted, "taskIds")
        if task_ids:
            request.check_has_tasks()
        watched = WatchSet(
            tool_list=wanted.get("toolsListChanged") is True and _sees_agents(principal),
            session_list=wanted.get("resourcesListChanged") is True,
        )
        for uri in uris:
            with contextlib.suppress(RpcError):
                session_id = await self._resources.check(principal, uri, is_modern=True)
                watched.sessions[session_id] = None
        for task_id in task_ids:
            with contextlib.suppress(RpcError):
                ref = await self._tasks.ref(principal, task_id)
                watched.tasks[task_id_of(ref)] = None

        def load(task_id: str) -> Awaitable[Json]:
            return self._tasks.detailed(principal, task_id, elicits=request.elicits)

        encoder = ListenEncoder(watched, self._events.epoch, load, request.message.id)
        opening = OPENING + encoder.acknowledged()
        await self._write(
            request.scope, request.receive, request.send, encoder, lambda _after: opening, None
        )

    async def _write(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        encoder: UpdatesEncoder,
        opening: Callable[[int], bytes],
        since: str | None,
    ) -> None:
        """Answer with notifications until the client leaves. `opening` makes the first bytes, of
        the position behind which they begin."""
        principal: Principal = scope["state"]["principal"]
        streams, events = self._streams, self._events
        with streams.watch.opening(principal) as place:
            selection = events.select(principal, events=[*_SESSIONS, *sorted(_TOOL_LIST)])
            after, _ = await events.place(principal, since, expired_ok=True, name="Last-Event-ID")
            stream = SseStream(
                events.subscribe(principal, selection, after),
                encoder,
                principal,
                streams.limits,
                scope=scope,
                receive=receive,
                send=send,
            )
            headers = StreamHeaders.of((), streams.limits.heartbeat)
            await stream.run(headers, opening(after), streams.watch, place)


def _sees_agents(principal: Principal) -> bool:
    return principal.allows("agents:read") and principal.allows(WRITES)


def _names(wanted: Mapping[str, Any], name: str) -> list[object]:
    names = wanted.get(name) or []
    if not isinstance(names, list) or len(names) > MOST_WATCHED:
        raise RpcError(INVALID_PARAMS, f"{name} has at most {MOST_WATCHED} strings")
    return names


def _notification(method: str, **params: object) -> Json:
    message: Json = {"jsonrpc": "2.0", "method": method}
    return message | {"params": params} if params else message


def _data(entry: Entry) -> Json:
    data: Json = loads(entry.body)["data"]
    return data
