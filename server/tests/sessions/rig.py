"""Everything of a node but its sockets, over a file of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from resonantgenesis_server.agents.base import Agent, ResolvedAgent
from resonantgenesis_server.calls import Calls
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.feed.remote import RemoteStreams, SpreadStreams, remote_streams
from resonantgenesis_server.feed.shares import SHARED
from resonantgenesis_server.files.service import FileService
from resonantgenesis_server.log.base import Entry, OnCommit
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.spread import SpreadLog
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.errors import AgentNotFound
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.records.base import (
    ListPage,
    ListPlace,
    Organization,
    SessionRecord,
    StoreUnusable,
)
from resonantgenesis_server.records.sessions import DELETED
from resonantgenesis_server.sessions.adoption import Adoption
from resonantgenesis_server.sessions.answers import InputRequest
from resonantgenesis_server.sessions.expiry import Expiry
from resonantgenesis_server.sessions.files import SessionFiles
from resonantgenesis_server.sessions.host import no_files
from resonantgenesis_server.sessions.idempotency import TurnIdempotency
from resonantgenesis_server.sessions.ownership import NodeOwner, Ownership, SoleOwner
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.request import CreateSpec, TurnRef, TurnRequest
from resonantgenesis_server.sessions.service import SessionService
from resonantgenesis_server.sessions.session_list import SessionList
from resonantgenesis_server.sessions.state import SessionState
from resonantgenesis_server.sessions.supervisor import Supervisor

from .agents import Stubborn, standard_agents

Json = dict[str, Any]
ME = Principal("org", "key", frozenset({"*"}))
#: Of a node among others, in seconds.
BEAT, TTL = 0.05, 0.6
LogWrapper = Callable[[Any], Any]


@dataclass
class Rows:
    """The records' list of sessions, kept in memory; `broken` makes it fail."""

    rows: dict[str, SessionRecord] = field(default_factory=dict)
    kept: dict[str, ListPlace] = field(default_factory=dict)
    broken: bool = False
    writes: int = 0

    def _check(self) -> None:
        self.writes += 1
        if self.broken:
            raise StoreUnusable("the records are broken")

    async def upsert_many(
        self,
        rows: Sequence[SessionRecord],
        places: Sequence[ListPlace] = (),
        *,
        anew: bool = False,
    ) -> None:
        await asyncio.sleep(0)
        self._check()
        for row in rows:
            existing = self.rows.get(row.id)
            if anew or existing is None or existing.updated_at <= row.updated_at:
                self.rows[row.id] = row
        self.kept |= {place.organization_id: place for place in places}

    async def places(self) -> Sequence[ListPlace]:
        return list(self.kept.values())

    async def having(self, organization_ids: Sequence[str]) -> Sequence[str]:
        return [each for each in organization_ids if self.rows]

    async def get(self, organization_id: str, session_id: str) -> SessionRecord | None:
        return self.rows.get(session_id)

    async def list(self, organization_id: str, **asked: Any) -> ListPage[SessionRecord]:
        status, search = asked.get("status"), asked.get("search")
        rows = (row for row in self.rows.values() if row.status != DELETED)
        found = [row for row in rows if status in {None, row.status}]
        return ListPage([row for row in found if search is None or search.finds(row)])

    async def delete(self, session_ids: Sequence[str]) -> None:
        self._check()
        for session_id in session_ids:
            self.rows.pop(session_id, None)

    async def last_used_before(self, time: float, limit: int = 100) -> Sequence[SessionRecord]:
        rows = [row for row in self.rows.values() if row.status != DELETED]
        return [row for row in rows if row.updated_at < time and row.wakes_at is None][:limit]

    async def expired(self, now: float, limit: int = 100) -> tuple[Sequence[str], float | None]:
        waiting = sorted(
            (row.wakes_at, row.id) for row in self.rows.values() if row.wakes_at is not None
        )
        due = [name for wakes_at, name in waiting[:limit] if wakes_at <= now]
        return due, None if due or not waiting else waiting[0][0]

    async def deleted(self, *, after: str = "", limit: int = 100) -> Sequence[SessionRecord]:
        rows = [row for row in self.rows.values() if row.status == DELETED and row.id > after]
        return sorted(rows, key=lambda row: row.id)[:limit]


class Orgs:
    """The only one."""

    async def all(self, **_asked: Any) -> ListPage[Organization]:
        return ListPage([Organization("org", "org", 0.0)])


class Rig:
    """Opened as often as a test likes: each time a new process as far as the store can tell.

    `url` names the database of its log; without one the log is a file in `directory`.
    """

    def __init__(
        self,
        directory: Path,
        url: str | None = None,
        *,
        rows: Rows | None = None,
        shared: bool = False,
        **limits: Any,
    ) -> None:
        self.shared = shared
        self.directory = directory
        self.url = url
        self.stubborn = Stubborn()
        self.agents: dict[str, Agent] = {**standard_agents(), "stubborn": self.stubborn}
        self.defaults: Mapping[str, Any] = {}
        self.limits = replace(Limits(cancel_grace=0.3, disconnect_grace=0.2), **limits)
        self.rows = rows or Rows()
        self.files: FileService | None = None
        self.before_commit: OnCommit = lambda _stream, _entries: None
        #: Seconds that the store's clock is ahead.
        self.ahead = 0.0

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        if agent_id not in self.agents:
            raise AgentNotFound("no such agent")
        return ResolvedAgent(self.agents[agent_id], "be kind", "a-model", None, self.defaults)

    async def open(self, wrap: LogWrapper = lambda log: log, *, sweep: bool = True) -> Any:
        SHARED._accounts.clear()  # each test has a loop of its own, and locks belong to one
        self.hub = Hub()
        supervisor: Supervisor | None = None

        def committed(stream: str, entries: Sequence[Entry]) -> None:
            self.before_commit(stream, entries)
            if supervisor is not None:
                supervisor.committed(stream, entries)
                session_list.committed(stream, entries)
            if self.remote is None:
                self.hub.publish(stream, entries)
            else:
                self.remote.committed(stream, entries)

        self.remote: RemoteStreams | SpreadStreams | None = None
        self.log = await self._open_log(committed)
        log = wrap(self.log)
        session_list = self.session_list = SessionList(
            self.rows,
            Orgs(),
            log,
            None if isinstance(self.log, SqliteLog) or not self.shared else self.log,
        )
        fence = await self.log.next_fence()
        calls = None
        ownership: Ownership = SoleOwner(fence)
        if self.shared:
            assert not isinstance(self.log, SqliteLog)
            ownership, calls = NodeOwner(self.log, fence), Calls(self.log.nodes)
        supervisor = self.supervisor = Supervisor(
            log,
            self.hub,
            ownership=ownership,
            limits=self.limits,
            agents=self,
            files=no_files if self.files is None else partial(SessionFiles, self.files),
            changed=self.session_list.changed,
            now=self.now,
        )
        self.keys = TurnIdempotency(
            self.log, supervisor.states.load, ownership, window=self.limits.idempotency_window
        )
        self.service = SessionService(
            supervisor, self.keys, self.session_list, self.rows, calls=calls
        )
        if self.shared:
            parts, place_of = self.log.parts, self.log.place_of
            self.remote = remote_streams(parts, place_of, self.hub, supervisor.gone)
            self.hub.source = self.remote
            self.remote.start()
            self.adoption = Adoption(self.log.nodes, supervisor.sweep, self.session_list.node_gone)
            self.adoption.start()
        self.session_list.start()  # type: ignore[arg-type]
        swept = await self.sweep() if sweep else None
        assert await self.session_list.ready(20.0)  # as a server does before it serves
        return swept

    async def _open_log(self, committed: OnCommit) -> SqliteLog | PostgresLog | SpreadLog:
        if self.url is not None:
            times = {"beat_seconds": BEAT, "ttl": TTL} if self.shared else {}
            if len(urls := self.url.split()) > 1:
                return await SpreadLog.open(urls, on_commit=committed, **times)
            return await PostgresLog.open(self.url, on_commit=committed, **times)
        return await SqliteLog.open(self.directory / "log.db", on_commit=committed)

    async def sweep(self) -> tuple[int, int]:
        if self.shared:
            return await self.adoption.adopt()
        return await self.supervisor.sweep(await self.log.pending())

    async def close(self) -> None:
        self.stubborn.released = True
        await self._leave_others()
        await self.supervisor.close()
        await self.session_list.close()
        await self.log.close()

    async def _leave_others(self) -> None:
        if self.remote is not None:
            await self.remote.close()
            await self.adoption.close()

    async def crash(self) -> None:
        """Drop the process: its turns end nowhere, its file stays."""
        await self._leave_others()
        for session in self.supervisor._active.values():
            if session.pump is not None:
                session.pump.cancel()
        await self.log.close()
        self.supervisor.stopped.set()
        await self.supervisor.close()
        self.rows.broken = True
        with contextlib.suppress(StoreUnusable):  # what it had not written is lost
            await self.session_list.close()
        self.rows.broken = False

    # -- short words -----------------------------------------------------------------------

    async def execute(
        self,
        goal: str = "a goal",
        agent: str | None = "echo",
        *,
        session: str | None = None,
        key: str | None = None,
        who: Principal = ME,
        **fields: Any,
    ) -> TurnRef:
        agent_id = None if session is not None and agent == "echo" else agent
        request = TurnRequest(goal, agent_id, session_id=session, **fields)
        return await self.service.execute(who, request, key=key, request_id="req_1")

    def now(self) -> float:
        return time.time() + self.ahead

    async def input(
        self, session: str, call_id: str, who: Principal = ME, turn: int | None = None, **said: Any
    ) -> Json:
        """Answer an ask: `approved`, or `payload`."""
        request = InputRequest(call_id, has_payload="payload" in said, turn=turn, **said)
        return await self.service.input(who, session, request, request_id="req_2")

    async def until_status(self, session: str, status: str) -> SessionState:
        """Return once the session has this status."""
        async with asyncio.timeout(10):
            while (state := await self.state(session)).status != status:
                await asyncio.sleep(0.005)
        return state

    async def expire(self) -> float:
        """What the timer of the store does."""
        await self.session_list.settle()
        return await Expiry(self.rows, self.service.expire, self.now).look()  # type: ignore[arg-type]

    async def create(self, agent: str = "echo", who: Principal = ME, **fields: Any) -> str:
        made = await self.service.create(who, CreateSpec(agent, **fields), request_id="req_1")
        return str(made["session_id"])

    async def result(self, ref: TurnRef, seconds: float = 10) -> Json:
        return await self.service.result(ref, seconds)

    async def run(self, goal: str = "a goal", agent: str | None = "echo", **fields: Any) -> Json:
        return await self.result(await self.execute(goal, agent, **fields))

    async def cancel(self, session: str, turn: int | None = None) -> Json:
        return await self.service.cancel(ME, session, turn)

    async def get(self, session: str) -> Json:
        return await self.service.get(ME, session)

    async def state(self, session: str) -> SessionState:
        state = await self.supervisor.states.load(session)
        assert state is not None
        return state

    async def chunks(self, session: str, after: int = 0) -> list[Json]:
        """All that the log holds, as JSON with position."""
        page = await self.log.read(session, after, limit=100_000, max_bytes=1 << 30)
        return [orjson.loads(e.body) | {"position": e.position} for e in page.entries]

    async def watch(self, session: str, place: ReadFrom | None = None) -> list[Json]:
        """What a viewer gets from this place until its stream ends."""
        view = await self.service.subscribe(ME, session, place or ReadFrom())
        seen: list[Json] = []
        if view is not None:
            async with asyncio.timeout(20):
                async for entries in view.batches(5):
                    seen += [orjson.loads(e.body) | {"position": e.position} for e in entries]
        return seen

    async def until_head(self, session: str, position: int) -> None:
        """Return once the session's log reaches this position."""
        view = await self.service.subscribe(ME, session, ReadFrom(after=0, follow=True))
        assert view is not None
        async with asyncio.timeout(10):
            async for entries in view.batches(5):
                if entries and entries[-1].position >= position:
                    return


def text_of(chunks: Sequence[Json]) -> str:
    return "".join(c["content"] for c in chunks if c["type"] == "text")


def kinds(chunks: Sequence[Json]) -> list[str]:
    return [c["type"] for c in chunks]


def assert_sound(chunks: Sequence[Json], first: int = 1) -> None:
    """Positions are dense, and every turn has one `done`, after all of its other chunks."""
    assert [c["position"] for c in chunks] == list(range(first, first + len(chunks)))
    turns = [c["turn"] for c in chunks if c["type"] == "done"]
    assert turns == list(range(turns[0], turns[0] + len(turns))) if turns else True
