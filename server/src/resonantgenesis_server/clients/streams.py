"""What the routes of other protocols share: a turn's start, and its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..codec.json import dumps
from ..codec.sse import OPENING
from ..http.auth.authenticator import require
from ..http.limits import RequestLimit
from ..http.sse.stream import Headers, SseEncoder, SseStream, StreamHeaders, session_headers
from ..http.watchdog import StreamWatchdog
from ..log.base import Entry
from ..model.errors import NotFound, SessionNotFound
from ..model.limits import Limits
from ..model.principal import Principal
from ..records.agents import AgentDirectory
from ..records.base import AgentRecord
from ..sessions.range import ReadFrom, expired
from ..sessions.request import TurnRef, TurnRequest
from ..sessions.service import SessionService
from ..sessions.state import SessionState
from .frames import FramesEncoder, TurnFrames
from .names import SessionAlias, check_name

#: Chunks that one read of the log takes.
_PAGE = 2_000


class ClientStreams:
    """Turns of other protocols: they start, are joined and are streamed as ours."""

    def __init__(
        self, service: SessionService, limits: Limits, watch: StreamWatchdog, requests: RequestLimit
    ) -> None:
        self.service = service
        self.limits = limits
        self.watch = watch
        self._requests = requests

    async def take_for(self, scope: Scope) -> None:
        """Count a request of the scope's caller. Raises RateLimited."""
        await self._requests.take_for(scope)

    async def check_agent(self, principal: Principal, agent_id: str) -> None:
        """Raises AgentNotFound for an agent that the caller's organization has not."""
        await self.service.supervisor.agents.resolve(principal.organization_id, agent_id)

    async def find(
        self, principal: Principal, alias: SessionAlias
    ) -> tuple[str, SessionState] | None:
        """The conversation's session, if there is one that the caller sees. The name may be the id
        of a session."""
        check_name(alias.name)
        named = [alias.name, alias.session_id(principal)]
        if principal.session_id is not None:  # whatever the client calls it
            is_other = alias.name.startswith("sess_") and alias.name != principal.session_id
            named = [] if is_other else [principal.session_id]
        for session_id in named:
            try:
                state = await self.service.authorize(principal, session_id)
            except SessionNotFound:
                continue
            info = state.info
            if info is not None and alias.agent_id in {None, info.agent_id}:
                return session_id, state
        return None

    async def start(
        self, scope: Scope, request: TurnRequest, alias: SessionAlias | None, key: str | None
    ) -> TurnRef:
        """Start a turn in the conversation, which is made if it is not there; None: in a session
        without a name. With a key, a repeat joins the turn."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "sessions:write")
        await self.take_for(scope)
        if alias is not None:
            found = await self.find(principal, alias)
            own_id = alias.session_id(principal)
            # The alias alone in the first request and in its repeat, for both are one request.
            session_id = None if found is None or found[0] == own_id else found[0]
            request = replace(request, session_id=session_id, own_id=own_id)
        return await self.service.execute(
            principal, request, key=key, request_id=scope["state"]["request_id"]
        )

    async def write(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ref: TurnRef,
        fold: TurnFrames,
        *,
        skip: int = 0,
        headers: Headers = (),
        opening: bytes = OPENING,
        waits: bool = False,
        after: int | None = None,
    ) -> None:
        """Answer with the frames of a turn from frame `skip` on, until its end; turn 0: with those
        of the session. `after`: the fold takes in all chunks behind this position, and not only
        those of the turn. `waits`: a turn that waits is no end."""
        start = ReadFrom(after=after, turn=ref.turn or None, waits=waits)
        encoder = FramesEncoder(fold, skip)
        await self.follow(
            scope, receive, send, ref, start, encoder, headers=headers, opening=opening
        )

    async def follow(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ref: TurnRef,
        start: ReadFrom,
        encoder: SseEncoder,
        *,
        headers: Headers = (),
        opening: bytes = OPENING,
    ) -> None:
        """Answer with a session's chunks from `start` on, as the encoder writes them."""
        principal: Principal = scope["state"]["principal"]
        with self.watch.opening(principal) as place:
            subscription = await self.service.subscribe(principal, ref.session_id, start)
            if subscription is None:
                raise NotFound("the turn has no chunks")
            stream = SseStream(
                subscription,
                encoder,
                principal,
                self.limits,
                scope=scope,
                receive=receive,
                send=send,
            )
            ours = session_headers(ref.session_id, ref.turn or None, self.service.epoch)
            answer = StreamHeaders.of([*ours, *headers], self.limits.heartbeat)
            await stream.run(answer, opening, self.watch, place)

    def chunks(self, ref: TurnRef) -> AsyncIterator[Entry]:
        """The turn's chunks so far. Raises PositionExpired when some were trimmed."""
        return turn_chunks(self.service, ref)


async def turn_chunks(service: SessionService, ref: TurnRef) -> AsyncIterator[Entry]:
    """See `ClientStreams.chunks`."""
    log = service.states.log
    state = await service.states.load(ref.session_id)
    turn = None if state is None else state.turn(ref.turn)
    after = turn.first - 1 if turn is not None and turn.first else None
    while turn is not None and after is not None:
        page = await log.read(ref.session_id, after, limit=_PAGE)
        if page.info is not None and after + 1 < page.info.earliest:
            raise expired(page.info.earliest, log.epoch)
        for entry in page.entries:
            if turn.last and entry.position > turn.last:
                return
            yield entry
            after = entry.position
        if page.at_end:
            return


async def visible_agents(agents: AgentDirectory, principal: Principal) -> list[AgentRecord]:
    """The agents that the caller sees, by id."""
    found: list[AgentRecord] = []
    cursor: str | None = None
    while True:
        page = await agents.list(principal.organization_id, limit=100, cursor=cursor)
        found += [each for each in page.items if principal.agent_id in {None, each.id}]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def answer_json(
    scope: Scope,
    receive: Receive,
    send: Send,
    value: object,
    *,
    status: int = 200,
    media_type: str = "application/json",
) -> None:
    headers = {"Cache-Control": "no-store"}
    response = Response(dumps(value), status, headers, media_type)
    await response(scope, receive, send)
