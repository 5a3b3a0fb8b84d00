"""`/v1/agents/{agent}/chat`: chats of the AI SDK, of assistant-ui and of Workflow's transport.

A chat is a session. The client sends its whole history with each message; ours is the log, so only
the last message counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...codec.json import loads
from ...http.api.session_models import ExecuteBody, validated
from ...http.api.sessions import Reader, Writer
from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.errors import documented_errors
from ...http.idempotency import IdempotencyKey
from ...http.params import QueryParams, text_header
from ...http.routing import api_router, streamed
from ...http.schemas import EVENT_STREAM, Body, LongText, Word
from ...model.errors import Conflict, InvalidRequest
from ...model.principal import Principal
from ...sessions.answers import MAX_REASON, InputRequest
from ...sessions.request import TurnRef
from ...sessions.state import SessionState
from ..streams import ClientStreams, SessionAlias, digest_key, turn_named
from .encode import END, HEADERS, UiMessageFrames

PATH = "/v1/agents/{agent_id}/chat"
_PROTOCOL = "chat"
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,8}")

AgentId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Sdk = Annotated[str | None, Query(max_length=2, description="5 for clients of version 5.")]
ChatId = Annotated[str, Path(min_length=1, max_length=255)]


class Approval(BaseModel):
    """A person's answer to an approval."""

    approved: bool | None = None
    reason: str | None = Field(default=None, max_length=2_000)


class ChatPart(BaseModel):
    """A part of a message: text, or a call of a tool with what the client says to it."""

    model_config = ConfigDict(populate_by_name=True)

    type: Word
    text: LongText | None = None
    call_id: Word | None = Field(default=None, alias="toolCallId")
    state: Word | None = None
    approval: Approval | None = None
    output: Any = None
    error: LongText | None = Field(default=None, alias="errorText")

    def answer(self) -> InputRequest | None:
        """What the client says to this call; None if it says nothing."""
        if self.call_id is None:
            return None
        if self.state == "approval-responded" and self.approval is not None:
            reason = self.approval.reason or ""
            return InputRequest(self.call_id, approved=bool(self.approval.approved), reason=reason)
        if self.state == "output-available":
            return InputRequest(self.call_id, payload=self.output, has_payload=True)
        if self.state == "output-error":
            return InputRequest(
                self.call_id, approved=False, reason=(self.error or "")[:MAX_REASON]
            )
        return None


Parts = Annotated[list[ChatPart], Field(max_length=10_000)]


class ChatMessage(BaseModel):
    """A message as the AI SDK (`parts`) or assistant-ui (`content`) sends it."""

    id: str | None = Field(default=None, max_length=255)
    role: Word
    parts: Parts | None = None
    content: LongText | Parts | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        parts = self.parts or self.content or []
        return "".join(part.text or "" for part in parts if part.type == "text")


class ChatBody(Body):
    """What `useChat` posts. Its `body` may add fields of an execute, see `_EXECUTE`."""

    id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    thread_id: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, alias="threadId"
    )
    messages: list[ChatMessage] = Field(min_length=1, max_length=100_000)
    trigger: Word = "submit-message"


#: Fields of an execute that mean the same here. `tools` is missing: clients send their own there.
_EXECUTE = (
    "context", "if_busy", "max_steps", "metadata", "model", "on_disconnect", "subject",
    "timeout_seconds",
)  # fmt: skip


class ChatRoutes:
    """The routes of chats."""

    def __init__(self, streams: ClientStreams) -> None:
        self._streams = streams

    def router(self) -> APIRouter:
        router = api_router(tag="clients")
        frames = {"description": "The UI message stream.", "content": EVENT_STREAM}

        @streamed(
            router,
            "POST",
            PATH,
            self.post,
            counted=False,
            response_class=Response,
            responses={200: frames, **documented_errors(404, 409, body=True)},
            operation_id="chat",
        )
        def post(
            agent_id: AgentId,
            body: ChatBody,
            principal: Writer,
            sdk: Sdk = None,
            key: IdempotencyKey = None,
        ) -> None:
            """Answer the last message of a chat of the AI SDK."""

        @streamed(
            router,
            "GET",
            PATH + "/{chat_id}/stream",
            self.resume,
            counted=False,
            response_class=Response,
            responses={
                200: frames,
                204: {"description": "Nothing runs."},
                **documented_errors(404),
            },
            operation_id="resume_chat",
        )
        def resume(
            agent_id: AgentId,
            chat_id: ChatId,
            principal: Reader,
            sdk: Sdk = None,
            startIndex: Annotated[int | None, Query()] = None,  # noqa: N803 - the client's name
        ) -> None:
            """Read the running answer of a chat from its start, or from a frame on."""

        return router

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST …/chat."""
        limits = self._streams.limits
        value = await read_json(scope, receive, limits, self._streams.watch)
        body = validated(ChatBody, value, lenient=True)
        agent_id = scope["path_params"]["agent_id"]
        message = next((each for each in reversed(body.messages) if each.role == "user"), None)
        if message is None:
            raise InvalidRequest.field("messages", "none is from the user")
        name = body.id or body.thread_id
        chat = None if name is None else SessionAlias(_PROTOCOL, agent_id, name)
        fields = {field: value[field] for field in _EXECUTE if value.get(field) is not None}
        asked = {"agent_id": agent_id, "goal": message.text, **fields}
        request = validated(ExecuteBody, asked).request(limits)
        answers = _answers(body.messages[-1])
        if chat is not None and answers:
            await self._go_on(scope, receive, send, chat, answers)
            return
        key = text_header(scope, b"idempotency-key")
        if key is None and name and message.id and body.trigger == "submit-message":
            # A client that posts a message again has lost the answer, and must not ask twice.
            key = digest_key(_PROTOCOL, [agent_id, name, message.id, message.text])
        ref = await self._streams.start(scope, request, chat, key)
        await self._write(scope, receive, send, ref)

    async def _go_on(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        chat: SessionAlias,
        answers: Mapping[str, InputRequest],
    ) -> None:
        """Answer what the chat's turn asks, and write what comes after it."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "sessions:write")
        await self._streams.take_for(scope)
        found = await self._streams.find(principal, chat)
        if found is None or found[1].current is None:
            raise Conflict("the chat asks nothing")
        session_id, state = found
        turn = state.waiting or state.current
        if turn is None:
            raise Conflict("the chat asks nothing")
        ref, sdk = TurnRef(session_id, turn.turn), _sdk(scope["state"]["query"])
        skip = (await self._count(ref, sdk))[1]
        if state.waiting is not None:
            session = await self._streams.service.get(principal, session_id)
            for ask in session.get("waiting", ()):
                answer = answers.get(ask["call_id"])
                if answer is not None:
                    request_id = scope["state"]["request_id"]
                    await self._streams.service.input(
                        principal, session_id, answer, request_id=request_id
                    )
        await self._write(scope, receive, send, ref, skip)

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET …/chat/{chat_id}/stream."""
        principal: Principal = scope["state"]["principal"]
        index = _start_index(scope["state"]["query"])
        chat_id, agent_id = scope["path_params"]["chat_id"], scope["path_params"]["agent_id"]
        require(principal, "sessions:read")
        await self._streams.check_agent(principal, agent_id)
        run = turn_named(chat_id)
        chat = SessionAlias(_PROTOCOL, agent_id, run[0] if run else chat_id)
        found = await self._streams.find(principal, chat)
        if found is None:
            # A page asks for a chat before its first message.
            await Response(status_code=204)(scope, receive, send)
            return
        session_id, state = found
        number = _turn_to_read(state, run, index)
        if number is None:
            await Response(status_code=204)(scope, receive, send)
            return
        ref = TurnRef(session_id, number)
        if index is None or index >= 0:
            await self._write(scope, receive, send, ref, index or 0)
            return
        await self._streams.take_for(scope)  # the whole turn is read for it
        count, _ = await self._count(ref, _sdk(scope["state"]["query"]))
        tail = (b"x-workflow-stream-tail-index", b"%d" % max(count - 1, 0))
        await self._write(scope, receive, send, ref, max(count + index, 0), [tail])

    async def _write(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ref: TurnRef,
        skip: int = 0,
        more: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        run = f"{ref.session_id}.{ref.turn}".encode()
        headers = [*HEADERS, (b"x-workflow-run-id", run), *(more or ())]
        fold = UiMessageFrames(ref.session_id, ref.turn, _sdk(scope["state"]["query"]))
        await self._streams.write(scope, receive, send, ref, fold, skip=skip, headers=headers)

    async def _count(self, ref: TurnRef, sdk: int) -> tuple[int, int]:
        """The number of the turn's frames so far, without the last line; and of all frames up to
        the last stop of the turn."""
        fold = UiMessageFrames(ref.session_id, ref.turn, sdk)
        count = every = stopped = 0
        async for entry in self._streams.chunks(ref):
            frames = fold.frames(entry.kind, loads(entry.body))
            count += sum(frame != END for frame in frames)
            every += len(frames)
            if entry.kind == "waiting":
                stopped = every
        return count, stopped


def _answers(message: ChatMessage) -> dict[str, InputRequest]:
    """What the client says to calls of the assistant's message, by call."""
    if message.role != "assistant":
        return {}
    found = [part.answer() for part in message.parts or ()]
    return {answer.call_id: answer for answer in found if answer is not None}


def _sdk(query: QueryParams) -> int:
    """The version of the client's SDK; only 5 needs to be named."""
    return 5 if query.text("sdk", 2) == "5" else 6


def _start_index(query: QueryParams) -> int | None:
    text = query.text("startIndex", 12)
    if text is None:
        return None
    if _WHOLE_NUMBER.fullmatch(text) is None:
        raise InvalidRequest.field("startIndex", "must be a whole number of at most 8 digits")
    return int(text)


def _turn_to_read(
    state: SessionState, run: tuple[str, int] | None, index: int | None
) -> int | None:
    """The turn that the client means; None if it has nothing to read."""
    if run is not None:
        return run[1] if state.turn(run[1]) is not None else None
    if state.open_turns:
        return state.open_turns[0].turn
    # Without an index the client asks only for what runs.
    return state.turns[-1].turn if index is not None and state.turns else None
