"""`/langgraph`: agents as assistants, sessions as threads and turns as runs of LangGraph's API."""

from __future__ import annotations

import re
import time
from importlib.metadata import version
from typing import TypeVar

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...codec.json import loads
from ...http.api.session_models import validated
from ...http.body import read_json
from ...http.params import text_header
from ...http.routing import FastRoute, fast_route
from ...http.schemas import Body
from ...http.waiting import waiting
from ...model.errors import AgentNotFound, Conflict, InvalidRequest, NotFound
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...records.base import AgentRecord
from ...sessions.request import TurnRef
from ...sessions.state import TurnState
from ..streams import ClientStreams, answer_json, visible_agents
from . import threads
from .encode import CANCELLED, SILENT, RunInfo, RunStreamFrames
from .messages import Json
from .requests import (
    AssistantQuery,
    CheckpointBody,
    HistoryQuery,
    ThreadBody,
    ThreadQuery,
    ThreadRunBody,
    answers_of,
    modes_of,
)
from .runs import ThreadRuns, caller
from .threads import PATH, THREAD, Thread, ThreadReader

BodyT = TypeVar("BodyT", bound=Body)
#: Seconds that a client may wait for a run, and that a cancelled run has to end.
_ANSWER, _CANCELLED = 3600.0, 5.0
#: Sessions that one search for threads looks at.
_LOOKED, _SESSIONS = 1_000, 100
_EVENT_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
#: Parameters that a client gives more than once.
_LISTS = frozenset({"stream_mode", "select", "namespace", "include"})


class LangGraphRoutes:
    """The routes of LangGraph's API."""

    def __init__(self, streams: ClientStreams, agents: AgentDirectory) -> None:
        self._streams = streams
        self._service = streams.service
        self._agents = agents
        self._reader = ThreadReader(streams.service)
        self._runs = ThreadRuns(streams, self._reader)

    def routes(self) -> list[FastRoute]:
        thread, assistant = "/threads/{thread_id}", "/assistants/{assistant_id}"
        run = thread + "/runs/{run_id}"
        table: list[tuple[str, str, ASGIApp]] = [
            ("POST", "/assistants/search", self.search_assistants),
            ("GET", assistant, self.assistant),
            ("GET", assistant + "/graph", self.graph),
            ("GET", assistant + "/schemas", self.schemas),
            ("POST", "/threads", self.create_thread),
            ("POST", "/threads/search", self.search_threads),
            ("GET", thread, self.thread),
            ("PATCH", thread, self.update_thread),
            ("DELETE", thread, self.delete_thread),
            ("POST", thread + "/copy", self.copy_thread),
            ("GET", thread + "/state", self.state),
            ("GET", thread + "/state/{checkpoint_id}", self.state),
            ("GET", thread + "/history", self.history),
            ("POST", thread + "/history", self.history),
            ("GET", thread + "/runs", self.runs),
            ("GET", run, self.run),
            ("GET", run + "/stream", self.join_stream),
            ("GET", run + "/join", self.join),
            ("POST", run + "/cancel", self.cancel),
        ]
        starts: list[tuple[str, ASGIApp]] = [
            ("", self.create_run),
            ("/stream", self.stream_run),
            ("/wait", self.wait_run),
        ]
        open_to_all: list[tuple[str, ASGIApp]] = [("/ok", self.ok), ("/info", self.info)]
        return [
            *(fast_route("GET", PATH + path, app) for path, app in open_to_all),
            *(fast_route(method, PATH + path, app, lists=_LISTS) for method, path, app in table),
            # These count by themselves.
            *(
                fast_route("POST", f"{PATH}{owner}/runs{path}", app, counted=False, lists=_LISTS)
                for owner in ("", thread)
                for path, app in starts
            ),
        ]

    async def ok(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer_json(scope, receive, send, {"ok": True})

    async def info(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = {"version": version("resonantgenesis-server"), "flags": {"assistants": True}}
        await answer_json(scope, receive, send, found)

    # -- assistants ------------------------------------------------------------------------

    async def search_assistants(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = caller(scope, "agents:read")
        query = await self._read(scope, receive, AssistantQuery)
        agents = [
            _assistant(agent)
            for agent in await visible_agents(self._agents, principal)
            if query.graph_id in {None, agent.id} and (query.name or "") in (agent.name or agent.id)
        ]
        shown = agents[query.offset : query.offset + query.limit]
        await answer_json(scope, receive, send, shown)

    async def assistant(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer_json(scope, receive, send, _assistant(await self._agent(scope)))

    async def graph(self, scope: Scope, receive: Receive, send: Send) -> None:
        agent = await self._agent(scope)
        await answer_json(scope, receive, send, threads.graph_json(agent.id))

    async def schemas(self, scope: Scope, receive: Receive, send: Send) -> None:
        agent = await self._agent(scope)
        await answer_json(scope, receive, send, threads.schemas_json(agent.id))

    async def _agent(self, scope: Scope) -> AgentRecord:
        principal, agent_id = caller(scope, "agents:read"), scope["path_params"]["assistant_id"]
        if principal.agent_id not in {None, agent_id}:
            raise AgentNotFound("there is no such agent")
        return await self._agents.get(principal.organization_id, agent_id)

    # -- threads ---------------------------------------------------------------------------

    async def create_thread(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A name, and with `metadata.graph_id` a session. Else the first run makes the session,
        since it knows its agent."""
        principal = caller(scope, "sessions:write")
        body = await self._read(scope, receive, ThreadBody)
        thread_id = body.thread_id or threads.new_name()
        if not threads.is_uuid(thread_id):
            raise InvalidRequest.field("thread_id", "must be a UUID")
        thread = await self._runs.find(principal, thread_id)
        if thread is not None and body.if_exists != "do_nothing":
            raise Conflict("there is a thread of this id; if_exists: do_nothing returns it")
        metadata = {name: of for name, of in (body.metadata or {}).items() if of is not None}
        agent_id = metadata.get("graph_id")
        if thread is None and isinstance(agent_id, str):
            thread = await self._runs.make(scope, thread_id, agent_id, metadata)
        if thread is None:
            found = threads.empty_thread(thread_id, metadata, time.time())
        else:
            found = await self._reader.describe(principal, thread)
        await answer_json(scope, receive, send, found)

    async def search_threads(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The threads, newest first."""
        principal = caller(scope, "sessions:read")
        query = await self._read(scope, receive, ThreadQuery)
        if query.values:
            raise InvalidRequest.field("values", "is not searched; search by metadata or ids")
        found: list[Json] = []
        passed = looked = 0
        cursor: str | None = None
        while len(found) < query.limit and looked < _LOOKED:
            page = await self._service.list_sessions(
                principal, agent_id=None, status=None, limit=_SESSIONS, cursor=cursor
            )
            for session in page.items:
                thread = threads.thread_json(threads.name_of(session, principal), session)
                if len(found) < query.limit and _matches(thread, query):
                    passed += 1
                    if passed > query.offset:
                        found.append(await self._shown(principal, thread, session, query))
            looked += len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
        await answer_json(scope, receive, send, found)

    async def _shown(
        self, principal: Principal, thread: Json, session: Json, query: ThreadQuery
    ) -> Json:
        if query.select is None or any(name.startswith("values") for name in query.select):
            state = await self._service.states.load(session["session_id"])
            if state is not None and state.turns:
                known = Thread(thread["thread_id"], session["session_id"], state)
                thread = await self._reader.describe(principal, known)
        wanted = {name.partition(".")[0] for name in query.select or thread}
        return {name: of for name, of in thread.items() if name in wanted | {"thread_id"}}

    async def thread(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = caller(scope, "sessions:read")
        thread_id, thread = await self._runs.named(scope, principal)
        if thread is None:
            found = threads.empty_thread(thread_id, None, time.time())
        else:
            found = await self._reader.describe(principal, thread)
        await answer_json(scope, receive, send, found)

    async def update_thread(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = caller(scope, "sessions:write")
        thread_id, thread = await self._runs.named(scope, principal)
        body = await self._read(scope, receive, ThreadBody)
        if thread is None:
            found = threads.empty_thread(thread_id, body.metadata, time.time())
        else:
            found = await self._reader.describe(principal, thread)
            if not (body.metadata or {}).items() <= found["metadata"].items():
                raise Conflict("a session's metadata does not change; give it with the thread")
        await answer_json(scope, receive, send, found)

    async def delete_thread(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = caller(scope, "sessions:write")
        _, thread = await self._runs.named(scope, principal)
        if thread is not None:
            request_id = scope["state"]["request_id"]
            await self._service.delete(principal, thread.session_id, request_id=request_id)
        await Response(status_code=204)(scope, receive, send)

    async def copy_thread(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A fork, with a name of its own."""
        principal = caller(scope, "sessions:write")
        _, thread = await self._runs.named(scope, principal)
        thread_id = threads.new_name()
        if thread is None:
            found = threads.empty_thread(thread_id, None, time.time())
        else:
            info = thread.state.info
            metadata = {**({} if info is None else info.metadata), THREAD: thread_id}
            fork_id = threads.alias_of(thread_id).session_id(principal)
            state = await self._service.forks.fork(
                principal, thread.session_id, None, metadata,
                request_id=scope["state"]["request_id"], fork_id=fork_id,
            )  # fmt: skip
            found = await self._reader.describe(principal, Thread(thread_id, fork_id, state))
        await answer_json(scope, receive, send, found)

    async def state(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = caller(scope, "sessions:read")
        thread_id, thread = await self._runs.named(scope, principal)
        checkpoint = scope["path_params"].get("checkpoint_id")
        before = None
        if thread is not None and checkpoint is not None:
            before = _turn_behind(thread, checkpoint) + 1
        found = []
        if thread is not None:
            found = await self._reader.states(principal, thread, limit=1, before=before)
        await answer_json(scope, receive, send, next(iter(found), threads.empty_state(thread_id)))

    async def history(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = caller(scope, "sessions:read")
        _, thread = await self._runs.named(scope, principal)
        if scope["method"] == "GET":
            limit = scope["state"]["query"].number("limit", 1) or 10
            query = validated(HistoryQuery, {"limit": limit})
        else:
            query = await self._read(scope, receive, HistoryQuery)
        given = query.before
        name = given.checkpoint_id if isinstance(given, CheckpointBody) else given
        found: list[Json] = []
        if thread is not None:
            before = None if name is None else _turn_behind(thread, name)
            found = await self._reader.states(principal, thread, limit=query.limit, before=before)
        await answer_json(scope, receive, send, found)

    # -- runs ------------------------------------------------------------------------------

    async def create_run(self, scope: Scope, receive: Receive, send: Send) -> None:
        thread, ref, _, _ = await self._start(scope, receive)
        self._name(scope, thread, ref)
        await answer_json(scope, receive, send, await self._run_json(thread, ref.turn))

    async def stream_run(self, scope: Scope, receive: Receive, send: Send) -> None:
        thread, ref, body, skip = await self._start(scope, receive)
        subgraphs = bool(body.stream_subgraphs)
        await self._stream(scope, receive, send, thread, ref, body.modes(), subgraphs, skip)

    async def wait_run(self, scope: Scope, receive: Receive, send: Send) -> None:
        thread, ref, _, _ = await self._start(scope, receive)
        await self._wait(scope, receive, send, thread, ref)

    async def runs(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The runs of a thread, newest first."""
        principal, query = caller(scope, "sessions:read"), scope["state"]["query"]
        _, thread = await self._runs.named(scope, principal)
        limit, offset = query.number("limit", 1) or 10, query.number("offset", 0) or 0
        status = query.text("status", 20)
        found: list[Json] = []
        for turn in reversed(() if thread is None else thread.state.turns):
            if thread is not None and status in {None, threads.run_status(turn)}:
                found.append(await self._run_json(thread, turn.turn))
            if len(found) >= offset + min(limit, _LOOKED):
                break
        await answer_json(scope, receive, send, found[offset:])

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        thread, ref = await self._ref(scope, "sessions:read")
        await answer_json(scope, receive, send, await self._run_json(thread, ref.turn))

    async def join_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A run's events behind the one that the client has, or from the first."""
        thread, ref = await self._ref(scope, "sessions:read")
        query = scope["state"]["query"]
        modes = modes_of(
            [name for name in (query.text("stream_mode", 300) or "").split(",") if name]
        )
        subgraphs = query.text("stream_subgraphs", 5) == "true"
        last = text_header(scope, b"last-event-id") or "-1"
        skip = 0
        if last != "-1":
            skip = await self._count(ref, self._runs.info(thread, ref), modes, subgraphs, last)
        await self._stream(scope, receive, send, thread, ref, modes, subgraphs, skip)

    async def join(self, scope: Scope, receive: Receive, send: Send) -> None:
        thread, ref = await self._ref(scope, "sessions:read")
        await self._wait(scope, receive, send, thread, ref)

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        thread, ref = await self._ref(scope, "sessions:write")
        query = scope["state"]["query"]
        if query.text("action", 20) not in {None, "interrupt"}:
            raise InvalidRequest.field(
                "action", "is interrupt; a run's chunks are never taken back"
            )
        await self._service.cancel(scope["state"]["principal"], thread.session_id, ref.turn)
        if query.text("wait", 5) in {"1", "true"}:
            await self._service.result(ref, _CANCELLED)
            await Response(status_code=204)(scope, receive, send)
        else:
            await answer_json(scope, receive, send, {}, status=202)

    # -- inside ----------------------------------------------------------------------------

    async def _start(
        self, scope: Scope, receive: Receive
    ) -> tuple[Thread, TurnRef, ThreadRunBody, int]:
        """Start a run, or go on with the one that asks; with the number of its events so far."""
        principal = caller(scope, "sessions:write")
        body = await self._read(scope, receive, ThreadRunBody)
        modes = body.modes()
        body.check()
        key = text_header(scope, b"idempotency-key")
        thread_id = scope["path_params"].get("thread_id") or threads.new_name(key)
        if body.command is None or not body.command.resumes:
            return *await self._runs.start(scope, thread_id, body, key), body, 0
        thread, ref, asks = await self._runs.waiting(scope, thread_id)
        answers = answers_of(body.command.resume, asks)
        info, subgraphs = self._runs.info(thread, ref), bool(body.stream_subgraphs)
        skip = await self._count(ref, info, modes, subgraphs, None)
        await self._runs.answer(scope, ref, answers)
        return await self._runs.there(principal, thread_id), ref, body, skip

    async def _stream(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        thread: Thread,
        ref: TurnRef,
        modes: frozenset[str],
        subgraphs: bool,
        skip: int,
    ) -> None:
        info, after = self._runs.info(thread, ref), None
        if "values" in modes:
            info, after = await self._runs.whole(scope["state"]["principal"], thread, ref, info)
        path = self._name(scope, thread, ref)
        # A mode without events, since none would mean all.
        place = f"{path}/stream?stream_mode={','.join(sorted(modes)) or SILENT[0]}"
        place += "&stream_subgraphs=true" if subgraphs else ""
        fold = RunStreamFrames(info, modes, subgraphs=subgraphs)
        headers = [(b"location", place.encode())]
        await self._streams.write(
            scope, receive, send, ref, fold, skip=skip, headers=headers, after=after
        )

    async def _count(
        self, ref: TurnRef, info: RunInfo, modes: frozenset[str], subgraphs: bool, last: str | None
    ) -> int:
        """The number of the turn's events up to the one with the id `last`; None: so far."""
        place = None if last is None else _EVENT_ID.fullmatch(last)
        if last is not None and place is None:
            raise InvalidRequest.field("Last-Event-ID", "is not the id of an event of a run")
        end = None if place is None else (int(place[1]), int(place[2]))
        fold = RunStreamFrames(info, modes, subgraphs=subgraphs)
        count = number = 0
        async for entry in self._streams.chunks(ref):
            number += 1
            if end is not None and number > end[0]:
                break
            for frame in fold.frames(entry.kind, loads(entry.body)):
                index = int(frame[frame.index(b"-") + 1 : frame.index(b"\n")])
                count += end is None or (number, index) <= end
        return count

    async def _wait(
        self, scope: Scope, receive: Receive, send: Send, thread: Thread, ref: TurnRef
    ) -> None:
        """Answer with the values behind the run."""
        path = self._name(scope, thread, ref)
        scope["state"]["headers"].append((b"location", f"{path}/join".encode()))
        async with waiting(scope, receive, self._streams.watch) as caller:
            result = await self._service.result(ref, _ANSWER, caller)
        found = await self._reader.values(scope["state"]["principal"], thread, ref.turn)
        error = result.get("error")
        if error is not None:
            found["__error__"] = {"error": error["code"], "message": error["message"]}
        elif result["status"] == "cancelled":
            found["__error__"] = CANCELLED
        await answer_json(scope, receive, send, found)

    def _name(self, scope: Scope, thread: Thread, ref: TurnRef) -> str:
        """Say in a header which run the answer is about; returns its path."""
        path = f"/threads/{thread.thread_id}/runs/{threads.run_id(ref.session_id, ref.turn)}"
        scope["state"]["headers"].append((b"content-location", path.encode()))
        return path

    async def _run_json(self, thread: Thread, number: int) -> Json:
        turn: TurnState = thread.state.turns[number - 1]
        history = self._service.supervisor.history
        request = await history.request(thread.session_id, turn)
        return threads.run_json(thread, turn, request.metadata)

    async def _ref(self, scope: Scope, needs: str) -> tuple[Thread, TurnRef]:
        """The run of the path. Raises NotFound."""
        place, principal = scope["path_params"], caller(scope, needs)
        thread = await self._runs.there(principal, place["thread_id"])
        turn = threads.turn_of(place["run_id"], thread.session_id)
        if thread.state.turn(turn) is None:
            raise NotFound("the thread has no such run")
        return thread, TurnRef(thread.session_id, turn)

    async def _read(self, scope: Scope, receive: Receive, kind: type[BodyT]) -> BodyT:
        value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
        return validated(kind, value, lenient=True)


def _turn_behind(thread: Thread, checkpoint: str) -> int:
    """The turn of a checkpoint. Raises NotFound."""
    for turn in thread.state.turns:
        if threads.checkpoint_id(thread.session_id, turn.turn) == checkpoint.lower():
            return turn.turn
    raise NotFound("the thread has no such checkpoint")


def _matches(thread: Json, query: ThreadQuery) -> bool:
    metadata = {name: of for name, of in (query.metadata or {}).items() if of is not None}
    return (
        query.status in {None, thread["status"]}
        and (query.ids is None or thread["thread_id"] in query.ids)
        and all(thread["metadata"].get(name) == of for name, of in metadata.items())
    )


def _assistant(agent: AgentRecord) -> Json:
    return threads.assistant_json(agent.id, agent.name, agent.created_at, agent.updated_at)
