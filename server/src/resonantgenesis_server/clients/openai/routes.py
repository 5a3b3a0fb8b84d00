"""`/openai/v1`: agents as models of OpenAI's API.

A response is a turn, and a conversation is a session. Nothing is stored beside them: their ids say
which is meant.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...codec.json import dumps, loads
from ...http.api.session_models import ExecuteBody, validated
from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.params import text_header
from ...http.routing import FastRoute, fast_route
from ...http.waiting import waiting
from ...model.errors import AgentNotFound, ApiError, Conflict, InvalidRequest, NotFound, SessionBusy
from ...model.ids import new_id
from ...model.principal import Principal
from ...records.agents import AgentDirectory
from ...sessions.request import TurnRef, TurnRequest
from ...sessions.state import TurnState
from ..names import SessionAlias, digest_key, turn_named
from ..streams import ClientStreams, answer_json, visible_agents
from .completions import CompletionFrames
from .requests import (
    CompletionBody,
    ConversationBody,
    GivenMessage,
    ResponseBody,
    fields_of,
    split,
)
from .responses import Json, ResponseFrames, ResponseInfo, approval_id, response_id

PATH = "/openai/v1"
_PROTOCOL = "openai"
#: Seconds that a client may wait for a whole answer, and that a cancelled turn has to end.
_ANSWER, _CANCELLED = 3600.0, 5.0
_PAGE, _MOST_ITEMS = 20, 100
_CREATED = 10  # hexadecimal digits of a conversation's time
_CONVERSATION = re.compile(r"conv_([0-9a-f]{10})[0-9a-z]{20}")
_RESPONSE = re.compile(r"resp_([^.]+\.[0-9]+)(?:\.([1-9][0-9]{0,5}))?")
#: How often OpenAI's SDKs have sent the request before.
_RETRIES = b"x-stainless-retry-count"


class OpenAiRoutes:
    """The routes of OpenAI's API."""

    def __init__(self, streams: ClientStreams, agents: AgentDirectory) -> None:
        self._streams = streams
        self._service = streams.service
        self._agents = agents

    def routes(self) -> list[FastRoute]:
        table: list[tuple[str, str, ASGIApp]] = [
            ("GET", "/models", self.models),
            ("GET", "/models/{model}", self.model),
            ("POST", "/chat/completions", self.complete),
            ("POST", "/responses", self.respond),
            ("GET", "/responses/{response_id}", self.retrieve),
            ("DELETE", "/responses/{response_id}", self.delete),
            ("POST", "/responses/{response_id}/cancel", self.cancel),
            ("GET", "/responses/{response_id}/input_items", self.input_items),
            ("POST", "/conversations", self.create_conversation),
            ("GET", "/conversations/{conversation_id}", self.conversation),
            ("DELETE", "/conversations/{conversation_id}", self.delete_conversation),
            ("GET", "/conversations/{conversation_id}/items", self.items),
        ]
        counted = {self.respond, self.complete}  # they count by themselves
        return [
            fast_route(method, PATH + path, _telling_retries(app), counted=app not in counted)
            for method, path, app in table
        ]

    # -- models ----------------------------------------------------------------------------

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = _caller(scope, "agents:read")
        agents = await visible_agents(self._agents, principal)
        found = [_model(agent.id, agent.created_at) for agent in agents]
        await answer_json(scope, receive, send, {"object": "list", "data": found})

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal, model = _caller(scope, "agents:read"), scope["path_params"]["model"]
        if principal.agent_id not in {None, model}:
            raise AgentNotFound("there is no such agent")
        agent = await self._agents.get(principal.organization_id, model)
        await answer_json(scope, receive, send, _model(agent.id, agent.created_at))

    # -- responses -------------------------------------------------------------------------

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /responses."""
        value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
        body = validated(ResponseBody, value, lenient=True)
        if body.answers:
            principal = _caller(scope, "sessions:write")
            await self._streams.take_for(scope)
            ref = await self._asking(principal, body)
            part = await self._answer(scope, ref, body.answers)
        else:
            ref, part = await self._execute(scope, value, body), 0
        fold = await self._fold(ref, part, background=bool(body.background))
        if body.stream:
            await self._streams.write(scope, receive, send, ref, fold)
            return
        if not body.background:
            await self._wait(scope, receive, ref)
        await answer_json(scope, receive, send, await self._folded(ref, fold))

    async def _execute(self, scope: Scope, value: Json, body: ResponseBody) -> TurnRef:
        past: list[tuple[str, str]] = []
        said = None
        if isinstance(body.input, str):
            goal = body.input
        else:
            goal, past, said = split(body.input, "input")
        conversation = _conversation(body.conversation_id)
        session_id = None
        if body.previous_response_id is not None:
            before, _ = await self._ref(_caller(scope, "sessions:read"), body.previous_response_id)
            session_id = before.session_id
        in_session = conversation is not None or session_id is not None
        request = replace(
            self._request(body.model, goal, body.metadata, body.user, body.functions),
            session_id=session_id,
            # The session has the turns before.
            past=[] if in_session else past,
            instructions="\n\n".join(filter(None, [body.instructions, said])) or None,
        )
        return await self._start(scope, value, request, conversation)

    async def _answer(self, scope: Scope, ref: TurnRef, said: Mapping[str, GivenMessage]) -> int:
        """Give these answers to the turn that asks. Returns the part of the turn that follows; the
        same answers again have the same part."""
        principal: Principal = scope["state"]["principal"]
        part = waits = 0
        async for entry in self._streams.chunks(ref):
            if entry.kind == "input_required" and _answers_to(said, loads(entry.body)):
                part = waits + 1
            waits += entry.kind == "waiting"
        if not part:
            raise Conflict("the conversation asks nothing that the input answers")
        session = await self._service.get(principal, ref.session_id)
        asks = session.get("waiting", ()) if part == waits else ()
        given = [(ask, _answers_to(said, ask)) for ask in asks]
        missing = [ask["call_id"] for ask, item in given if item is None]
        if missing:
            raise InvalidRequest.field("input", f"needs an answer to {', '.join(missing)} too")
        for ask, item in given:
            if item is not None:
                answer, request_id = item.answer(ask), _request_id(scope)
                await self._service.input(principal, ref.session_id, answer, request_id=request_id)
        return part

    async def _asking(self, principal: Principal, body: ResponseBody) -> TurnRef:
        """The turn that the input answers."""
        if body.previous_response_id is not None:
            return (await self._ref(principal, body.previous_response_id))[0]
        conversation = _conversation(body.conversation_id)
        if conversation is None:
            raise InvalidRequest.field(
                "previous_response_id", "or a conversation has to name what the input answers"
            )
        found = await self._streams.find(principal, conversation)
        turn = None if found is None else found[1].waiting or found[1].current
        if found is None or turn is None:
            raise Conflict("the conversation asks nothing")
        return TurnRef(found[0], turn.turn)

    async def retrieve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /responses/{id}, as an object or as events from one on."""
        principal = _caller(scope, "sessions:read")
        ref, part = await self._ref(principal, scope["path_params"]["response_id"])
        query, fold = scope["state"]["query"], await self._fold(ref, part)
        if query.text("stream", 10) not in {"true", "1"}:
            response = await self._folded(ref, fold)
            if part and not fold.has_begun:
                raise NotFound("no such response")
            await answer_json(scope, receive, send, response)
            return
        after = query.number("starting_after", 0)
        skip = 0 if after is None else after + 1
        past = await self._past(ref, part)
        if past is None:
            await self._streams.write(scope, receive, send, ref, fold, skip=skip)
            return
        body = b"".join(past[skip:])
        await Response(body, media_type="text/event-stream")(scope, receive, send)

    async def _past(self, ref: TurnRef, part: int) -> list[bytes] | None:
        """The events of a part that ended where the turn waited, if the turn went on; None for the
        last part. Raises NotFound for a part that never was."""
        if (await self._turn(ref)).waits is None and not part:
            return None  # nearly always
        fold = await self._fold(ref, part)
        found: list[bytes] = []
        waits, goes_on = 0, False
        async for entry in self._streams.chunks(ref):
            found += fold.frames(entry.kind, loads(entry.body))
            goes_on = waits > part or (waits == part + 1 and entry.kind != "waiting")
            waits += entry.kind == "waiting"
        if part and not fold.has_begun:
            raise NotFound("no such response")
        return found if goes_on else None

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = _caller(scope, "sessions:write")
        ref, part = await self._ref(principal, scope["path_params"]["response_id"])
        await self._service.cancel(principal, ref.session_id, ref.turn)
        await self._service.result(ref, _CANCELLED)
        fold = await self._fold(ref, part)
        await answer_json(scope, receive, send, await self._folded(ref, fold))

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Delete the response's session, if it has no other."""
        principal = _caller(scope, "sessions:write")
        ref, part = await self._ref(principal, scope["path_params"]["response_id"])
        state = await self._service.authorize(principal, ref.session_id)
        if len(state.turns) > 1:
            raise InvalidRequest.field(
                "response_id", "is part of a conversation; delete the conversation"
            )
        await self._service.delete(principal, ref.session_id, request_id=_request_id(scope))
        name = response_id(ref.session_id, ref.turn, part)
        found = {"id": name, "object": "response", "deleted": True}
        await answer_json(scope, receive, send, found)

    async def input_items(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = _caller(scope, "sessions:read")
        ref, _ = await self._ref(principal, scope["path_params"]["response_id"])
        await answer_json(scope, receive, send, _page([await self._asked(ref)], has_more=False))

    # -- conversations ---------------------------------------------------------------------

    async def create_conversation(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A name; the session is made with the first response, which knows its agent."""
        _caller(scope, "sessions:write")
        value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
        body = validated(ConversationBody, value, lenient=True)
        made = f"{int(time.time()):0{_CREATED}x}{new_id('')[1:]}"
        await answer_json(scope, receive, send, _described(f"conv_{made}", body.metadata))

    async def conversation(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = _caller(scope, "sessions:read")
        name = scope["path_params"]["conversation_id"]
        await self._session_of(principal, name)
        await answer_json(scope, receive, send, _described(name, None))

    async def delete_conversation(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = _caller(scope, "sessions:write")
        name = scope["path_params"]["conversation_id"]
        session_id = await self._session_of(principal, name)
        if session_id is not None:
            await self._service.delete(principal, session_id, request_id=_request_id(scope))
        found = {"id": name, "object": "conversation.deleted", "deleted": True}
        await answer_json(scope, receive, send, found)

    async def items(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The conversation's items, newest first unless `order=asc`."""
        principal = _caller(scope, "sessions:read")
        query = scope["state"]["query"]
        session_id = await self._session_of(principal, scope["path_params"]["conversation_id"])
        limit = min(query.number("limit", 1) or _PAGE, _MOST_ITEMS)
        after = query.text("after", 300)
        items: list[Json] = []
        passed = after is None
        if session_id is not None:
            async for item in self._items(principal, session_id, query.text("order", 4) == "asc"):
                if passed:
                    items.append(item)
                    if len(items) > limit:
                        break
                passed = passed or item["id"] == after
        await answer_json(scope, receive, send, _page(items[:limit], has_more=len(items) > limit))

    async def _items(
        self, principal: Principal, session_id: str, oldest_first: bool
    ) -> AsyncIterator[Json]:
        state = await self._service.authorize(principal, session_id)
        turns = list(state.turns) if oldest_first else list(reversed(state.turns))
        for turn in turns:
            ref = TurnRef(session_id, turn.turn)
            response = await self._folded(ref, await self._fold(ref, None))
            found = [await self._asked(ref), *response["output"]]
            for item in found if oldest_first else reversed(found):
                yield item

    # -- chat completions ------------------------------------------------------------------

    async def complete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /chat/completions. The request has the conversation, so each is a session. Only the
        messages of tools at its end go on with a turn."""
        value = await read_json(scope, receive, self._streams.limits, self._streams.watch)
        body = validated(CompletionBody, value, lenient=True)
        answers = body.answers()
        if answers is None:
            ref, part = await self._begin(scope, value, body), 0
        else:
            ref, said = answers
            principal = _caller(scope, "sessions:write")
            await self._streams.take_for(scope)
            await self._service.authorize(principal, ref.session_id)
            part = await self._answer(scope, ref, said)
        created = int((await self._turn(ref)).queued_at)
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        fold = CompletionFrames(ref, part, body.model, created, with_usage=with_usage)
        if body.stream:
            await self._streams.write(scope, receive, send, ref, fold)
            return
        await self._wait(scope, receive, ref)
        async for entry in self._streams.chunks(ref):
            fold.frames(entry.kind, loads(entry.body))
        answer = fold.completion()
        if "error" in answer:  # of the turn, which a repeat would only show again
            scope["state"]["headers"].append((b"x-should-retry", b"false"))
        await answer_json(scope, receive, send, answer, status=500 if "error" in answer else 200)

    async def _begin(self, scope: Scope, value: Json, body: CompletionBody) -> TurnRef:
        goal, past, said = split(body.messages, "messages")
        conversation = _conversation(text_header(scope, b"x-session-id"))
        request = replace(
            self._request(body.model, goal, body.metadata, body.user, body.functions),
            past=[] if conversation is not None else past,
            instructions=said,
        )
        return await self._start(scope, value, request, conversation)

    # -- inside ----------------------------------------------------------------------------

    def _request(
        self,
        model: str,
        goal: str,
        metadata: Mapping[str, Any] | None,
        user: str | None,
        tools: list[dict[str, Any]] | None = None,
    ) -> TurnRequest:
        fields = fields_of(
            agent_id=model, goal=goal, metadata=metadata, subject=user, client_tools=tools
        )
        return validated(ExecuteBody, fields).request(self._streams.limits)

    async def _start(
        self, scope: Scope, value: Json, request: TurnRequest, conversation: SessionAlias | None
    ) -> TurnRef:
        """Start the turn of a request. OpenAI's SDKs send a request again by themselves, without an
        Idempotency-Key, but with a count. So a first one gives its turn to a key of its body, and
        one that is sent again joins the turn of that key."""
        key, count = text_header(scope, b"idempotency-key"), text_header(scope, _RETRIES)
        if key is None and count is not None:
            key = digest_key(_PROTOCOL, [scope["path"], dumps(value).decode()])
            request = replace(request, renews_key=count == "0")
        return await self._streams.start(scope, request, conversation, key)

    async def _wait(self, scope: Scope, receive: Receive, ref: TurnRef) -> dict[str, Any]:
        async with waiting(scope, receive, self._streams.watch) as caller:
            return await self._service.result(ref, _ANSWER, caller)

    async def _ref(self, principal: Principal, name: str) -> tuple[TurnRef, int]:
        """The turn of a response's id, and which part of it. Raises NotFound."""
        match = _RESPONSE.fullmatch(name)
        named = None if match is None else turn_named(match[1])
        if match is None or named is None:
            raise NotFound("no such response")
        state = await self._service.authorize(principal, named[0])
        if state.turn(named[1]) is None:
            raise NotFound("no such response")
        return TurnRef(*named), int(match[2] or 0)

    async def _turn(self, ref: TurnRef) -> TurnState:
        state = await self._service.states.load(ref.session_id)
        turn = None if state is None else state.turn(ref.turn)
        if turn is None:
            raise NotFound("the session was deleted")
        return turn

    async def _fold(
        self, ref: TurnRef, part: int | None, *, background: bool = False
    ) -> ResponseFrames:
        turn = await self._turn(ref)
        request = await self._service.supervisor.history.request(ref.session_id, turn)
        return ResponseFrames(
            ResponseInfo(
                ref.session_id,
                ref.turn,
                request.agent_id or "",
                int(turn.queued_at),
                background,
                request.metadata,
                request.instructions,
                part,
                frozenset(tool["name"] for tool in request.client_tools),
            )
        )

    async def _folded(self, ref: TurnRef, fold: ResponseFrames) -> Json:
        async for entry in self._streams.chunks(ref):
            fold.frames(entry.kind, loads(entry.body))
        return fold.response()

    async def _asked(self, ref: TurnRef) -> Json:
        """The user's message of a turn."""
        turn = await self._turn(ref)
        request = await self._service.supervisor.history.request(ref.session_id, turn)
        return {
            "id": f"msg_{ref.session_id}.{ref.turn}.user",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": request.goal}],
        }

    async def _session_of(self, principal: Principal, name: str) -> str | None:
        """The session of a conversation; None if it has no response yet. Raises NotFound."""
        conversation = _conversation(name)
        found = None if conversation is None else await self._streams.find(principal, conversation)
        if found is None and _created(name) is None:
            raise NotFound("no such conversation")
        return None if found is None else found[0]


def _answers_to(said: Mapping[str, GivenMessage], ask: Mapping[str, Any]) -> GivenMessage | None:
    """What the input says to an ask."""
    call_id: str = ask["call_id"]
    return said.get(approval_id(call_id) if ask["kind"] == "approval" else call_id)


def _telling_retries(app: ASGIApp) -> ASGIApp:
    """Tell OpenAI's SDKs whether to send a request again. By themselves they repeat every 409, and
    after a SESSION_BUSY they would find a session that is free."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ApiError as error:
            again = error.retryable and not isinstance(error, SessionBusy)
            headers = scope["state"]["headers"]
            headers.append((b"x-should-retry", b"true" if again else b"false"))
            if again and error.retry_after is not None:
                headers.append((b"retry-after-ms", b"%d" % (1000 * error.retry_after)))
            raise

    return told


def _conversation(name: str | None) -> SessionAlias | None:
    """A conversation's session: `conv_sess_…` is that session."""
    if name is None:
        return None
    return SessionAlias(_PROTOCOL, None, name.removeprefix("conv_"))


def _created(name: str) -> int | None:
    """When a conversation of this name was made; None for a name that we did not make."""
    match = _CONVERSATION.fullmatch(name)
    return None if match is None else int(match[1], 16)


def _described(name: str, metadata: Mapping[str, Any] | None) -> Json:
    return {
        "id": name,
        "object": "conversation",
        "created_at": _created(name) or 0,
        "metadata": dict(metadata or {}),
    }


def _model(agent_id: str, created_at: float) -> Json:
    return {"id": agent_id, "object": "model", "created": int(created_at), "owned_by": "agents"}


def _page(items: Sequence[Json], *, has_more: bool) -> Json:
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _caller(scope: Scope, needs: str) -> Principal:
    principal: Principal = scope["state"]["principal"]
    require(principal, needs)
    return principal


def _request_id(scope: Scope) -> str:
    found: str = scope["state"]["request_id"]
    return found
