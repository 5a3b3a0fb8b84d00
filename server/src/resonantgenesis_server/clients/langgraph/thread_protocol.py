"""LangGraph's thread protocol: commands to a thread, and one endless stream of its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from starlette.types import Receive, Scope, Send

from ...http.api.session_models import LONGEST_TEXT, validated
from ...http.body import read_json
from ...http.routing import FastRoute, fast_route
from ...http.schemas import Body, JsonObject, Word
from ...model.errors import (
    ApiError,
    Conflict,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    SessionBusy,
)
from ...sessions.range import ReadFrom
from ...sessions.request import TurnRef
from ..streams import ClientStreams, answer_json
from . import threads
from .messages import Json
from .requests import ThreadRunBody, answers_of
from .runs import ThreadRuns, caller
from .thread_events import ThreadEncoder, ThreadFilter, position_of, seq_of
from .threads import PATH, Thread, ThreadReader

_LARGEST_ID = 2**53 - 1
Seq = Annotated[int, Field(ge=0, le=_LARGEST_ID)]
Names = Annotated[list[Word], Field(max_length=100)]


class CommandMessage(Body):
    """A command to a thread."""

    id: Seq
    method: Word
    params: JsonObject = Field(default_factory=dict)


class RunStartParams(ThreadRunBody):
    """A run to start, with the names that this protocol has for it."""

    def check(self) -> None:
        super().check()
        configured = (self.config or {}).get("configurable")
        if isinstance(configured, Mapping) and configured.get("checkpoint_id"):
            raise InvalidRequest.field("forkFrom", "a run begins behind the newest one only")


class InterruptResponse(Body):
    interrupt_id: Word
    response: Any = None


class RespondParams(Body):
    """An answer to one interrupt, or to several."""

    interrupt_id: Word | None = None
    response: Any = None
    responses: Annotated[list[InterruptResponse], Field(max_length=100)] | None = None
    update: Any = None
    goto: Any = None

    def resume(self) -> dict[str, Any]:
        """The answers by interrupt. Raises InvalidRequest."""
        for name in ("update", "goto"):
            if getattr(self, name):
                raise InvalidRequest.field(name, "is not offered here; leave it out")
        if self.responses is not None:
            return {each.interrupt_id: each.response for each in self.responses}
        return {self.interrupt_id or "": self.response}


class InjectedMessage(Body):
    role: Word
    content: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]


class InjectParams(Body):
    message: InjectedMessage


class EventStreamBody(Body):
    """The events that a client asks for."""

    channels: Names
    namespaces: Annotated[list[Names], Field(max_length=1_000)] | None = None
    depth: Annotated[int, Field(ge=0, le=100)] | None = None
    since: Seq | None = None

    def filter(self) -> ThreadFilter:
        spaces = None if self.namespaces is None else tuple(map(tuple, self.namespaces))
        since = -1 if self.since is None else self.since
        return ThreadFilter(frozenset(self.channels), spaces, self.depth, since)


class ThreadProtocol:
    """The two routes of the thread protocol."""

    def __init__(self, streams: ClientStreams) -> None:
        self._streams = streams
        self._reader = ThreadReader(streams.service)
        self._runs = ThreadRuns(streams, self._reader)
        self._commands = {
            "run.start": self._start,
            "input.respond": self._respond,
            "input.inject": self._inject,
        }

    def routes(self) -> list[FastRoute]:
        thread = PATH + "/threads/{thread_id}"
        return [
            fast_route("POST", thread + "/stream/events", self.events),
            # Counts by itself.
            fast_route("POST", thread + "/commands", self.command, counted=False),
        ]

    async def command(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do what a command says. What is wrong with it is a message of the protocol."""
        caller(scope, "sessions:write")
        value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
        command = validated(CommandMessage, value, lenient=True)
        try:
            run = self._commands.get(command.method, self._refuse)
            result, told = await run(scope, command.params)
            found: Json = {"type": "success", "result": result}
            found["meta"] = {"applied_through_seq": seq_of(told)}
        except ApiError as error:
            if error.status in {401, 403, 429} or error.status >= 500:
                raise
            found = {"type": "error", "error": _code(error), "message": str(error)}
        await answer_json(scope, receive, send, {**found, "id": command.id})

    async def _refuse(self, scope: Scope, _params: Json) -> tuple[Json, int]:
        await self._streams.take_for(scope)
        raise MethodNotAllowed("this command is not offered here")

    async def _start(self, scope: Scope, params: Json) -> tuple[Json, int]:
        thread_id = scope["path_params"]["thread_id"]
        body = validated(RunStartParams, params, lenient=True)
        body.check()
        before = await self._runs.find(scope["state"]["principal"], thread_id)
        told = 0 if before is None else before.state.told
        _, ref = await self._runs.start(scope, thread_id, body, None)
        return {"run_id": threads.run_id(ref.session_id, ref.turn)}, told

    async def _respond(self, scope: Scope, params: Json) -> tuple[Json, int]:
        resume = validated(RespondParams, params, lenient=True).resume()
        thread, ref, asks = await self._runs.waiting(scope, scope["path_params"]["thread_id"])
        unknown = resume.keys() - {ask["call_id"] for ask in asks}
        if unknown or not resume:
            raise Conflict("the thread has no such open interrupt")
        told = thread.state.told
        await self._runs.answer(scope, ref, answers_of(resume, asks))
        return {}, told

    async def _inject(self, scope: Scope, params: Json) -> tuple[Json, int]:
        """Say something to the run that is under way."""
        principal = scope["state"]["principal"]
        await self._streams.take_for(scope)
        message = validated(InjectParams, params, lenient=True).message
        thread = await self._runs.there(principal, scope["path_params"]["thread_id"])
        conversations = self._streams.service.conversations
        try:
            await conversations.post(principal, thread.session_id, message.content)
        except Conflict as error:  # no run is under way
            raise NotFound(error.message) from None
        return {}, thread.state.told

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The events behind `since`; without it from the run under way on, or from the newest."""
        principal = caller(scope, "sessions:read")
        value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
        body = validated(EventStreamBody, value, lenient=True)
        thread = await self._runs.there(principal, scope["path_params"]["thread_id"])
        turn, after = _beginning(thread, body.since)
        before = await self._reader.before(principal, thread, turn)

        async def goals(first: int) -> Mapping[int, Json]:
            state = await self._streams.service.authorize(principal, thread.session_id)
            return await self._runs.goals(thread.session_id, state.turns[first - 1 :])

        encoder = ThreadEncoder(thread, turn, before, body.filter(), goals)
        start = ReadFrom(after=after, follow=True)
        ref = TurnRef(thread.session_id, 0)
        await self._streams.follow(scope, receive, send, ref, start, encoder)


def _beginning(thread: Thread, since: int | None) -> tuple[int, int]:
    """The turn whose events come first, and the position behind which its chunks are."""
    state = thread.state
    if since is None:
        chosen = state.first_open or next(iter(state.turns[-1:]), None)
    else:
        place = position_of(since)
        chosen = next((each for each in state.turns if not each.last or each.last >= place), None)
    if chosen is None:
        return len(state.turns) + 1, state.told
    return chosen.turn, chosen.first - 1 if chosen.first else state.told


def _code(error: ApiError) -> str:
    """The protocol's word for what is wrong."""
    if isinstance(error, MethodNotAllowed):
        return "not_supported"
    if isinstance(error, NotFound):
        return "no_such_run"
    if isinstance(error, Conflict) and not isinstance(error, SessionBusy):
        return "no_such_interrupt"
    return "invalid_argument"
