"""`/v1/agents/{agent}/chat`: chats of the AI SDK, of assistant-ui and of Workflow's transport.

A chat is a session. The client sends its whole history with each message; ours is the log, so only
the last message counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...codec.json import dumps, loads
from ...http.api.session_models import ExecuteBody, Reader, Writer, validated
from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.errors import documented_errors
from ...http.idempotency import IdempotencyKey
from ...http.params import QueryParams, text_header
from ...http.routing import api_router, streamed
from ...http.schemas import EVENT_STREAM, Body, JsonObject, LongText, PageLimit, Word
from ...http.sse.stream import Headers
from ...model.errors import Conflict, InvalidRequest
from ...model.principal import Principal
from ...sessions.answers import MAX_REASON, InputRequest
from ...sessions.request import TurnRef
from ...sessions.state import SessionState, digest
from ..names import SessionAlias, digest_key, turn_named
from ..streams import ClientStreams
from .encode import END, HEADERS, UiMessageFrames
from .messages import UiMessageFold, ui_messages

PATH = "/v1/agents/{agent_id}/chat"
_PROTOCOL = "chat"
_BASE = re.compile(r"[1-9][0-9]{0,8}")
_TOOLS = Field(max_length=64)
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

    def content_answer(self) -> InputRequest | None:
        """The same of a part of `content`. A person's approval has no form there: an approved call
        is one that comes without a result."""
        if self.call_id is None or self.type not in {"tool-call", "tool-result"}:
            return None
        if self.type == "tool-call":
            return InputRequest(self.call_id, approved=True)
        output = self.output if isinstance(self.output, dict) else {}
        value = output.get("value")
        if output.get("type") != "error-json":
            return InputRequest(self.call_id, payload=value, has_payload=True)
        reason = value.get("error") if isinstance(value, dict) else value
        return InputRequest(self.call_id, approved=False, reason=str(reason or "")[:MAX_REASON])


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

    def answers(self) -> Iterator[InputRequest]:
        """What the client says to calls of the assistant."""
        if self.role == "user" or isinstance(self.content, str):
            return
        found = [part.answer() for part in self.parts or ()]
        if self.parts is None:
            found = [part.content_answer() for part in self.content or ()]
        yield from (answer for answer in found if answer is not None)


class PageTool(BaseModel):
    """A tool that a page with assistant-ui runs."""

    description: LongText = ""
    parameters: JsonObject = Field(default_factory=dict)


class ChatBody(Body):
    """What `useChat` posts. Its `body` may add fields of an execute, see `_EXECUTE`."""

    id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    thread_id: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, alias="threadId"
    )
    messages: list[ChatMessage] = Field(min_length=1, max_length=100_000)
    #: A list is of a client that has its own form for them.
    tools: Annotated[dict[str, PageTool], _TOOLS] | Annotated[list[Any], _TOOLS] | None = Field(
        default=None, description="assistant-ui's, by name: `client_tools`."
    )
    trigger: Word | None = None
    message_id: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, alias="messageId"
    )

    @property
    def is_of_assistant_ui(self) -> bool:
        return self.messages[-1].parts is None

    @property
    def counts(self) -> bool:
        """Whether the client may count the frames: WorkflowChatTransport does. It leaves out
        `trigger`, which the transport of `useChat` always sends."""
        return self.trigger is None and not self.is_of_assistant_ui

    @property
    def client_tools(self) -> list[dict[str, Any]]:
        """assistant-ui's tools as those of an execute."""
        tools = self.tools if isinstance(self.tools, dict) else {}
        return [
            {"name": name, "description": tool.description, "schema": tool.parameters}
            for name, tool in tools.items()
        ]


class UiMessage(BaseModel):
    """A message as the AI SDK keeps it."""

    id: str
    role: Word
    metadata: dict[str, Any]
    parts: list[dict[str, Any]]


#: Fields of an execute that mean the same here. `tools` is missing: assistant-ui's have another
#: form.
_EXECUTE = (
    "client_tools", "context", "if_busy", "max_steps", "metadata", "model", "on_disconnect",
    "subject", "timeout_seconds",
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

        @router.get(
            PATH + "/{chat_id}/messages",
            response_model=list[UiMessage],
            responses=documented_errors(404),
            operation_id="chat_messages",
        )
        async def messages(
            agent_id: AgentId,
            chat_id: ChatId,
            principal: Reader,
            limit: PageLimit = 50,
            cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,4}\.[0-9]{1,10}$")] = None,
            replaced: Annotated[bool, Query(description="Also what was regenerated.")] = False,
        ) -> Response:
            """The newest messages of a chat, or those before the cursor, the oldest first."""
            chat = SessionAlias(_PROTOCOL, agent_id, chat_id)
            return await self._messages(principal, chat, limit, cursor, replaced=replaced)

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
        if body.client_tools:
            fields.setdefault("client_tools", body.client_tools)
        asked = {"agent_id": agent_id, "goal": message.text, **fields}
        request = validated(ExecuteBody, asked).request(limits)
        answers = _answers(body.messages)
        if answers:
            if chat is None:
                raise InvalidRequest.field("id", "is required: an answer names its chat")
            await self._go_on(scope, receive, send, chat, body, answers)
            return
        # A client that posts a request again has lost the answer, and must not ask twice.
        key = text_header(scope, b"idempotency-key")
        again = [agent_id, name or "", message.id or "", message.text]
        if chat is not None and body.trigger == "regenerate-message":
            replaced = await self._regenerated(scope, chat, body.message_id, message.text)
            request = replace(request, replace_turn=replaced)
            again = [agent_id, chat.name, f"regenerate {replaced}"] if replaced else again
        if key is None and chat is not None and all(again):
            key = digest_key(_PROTOCOL, again)
        ref = await self._streams.start(scope, request, chat, key)
        await self._write(scope, receive, send, ref, counted=body.counts)

    async def _regenerated(
        self, scope: Scope, chat: SessionAlias, message_id: str | None, goal: str
    ) -> int:
        """The turn that the client wants anew; 0 if its message has not arrived yet. Raises
        Conflict for another one than the last."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "sessions:write")
        found = await self._streams.find(principal, chat)
        turns = [] if found is None else [each for each in found[1].turns if not each.withdrawn]
        if found is None or not turns:
            return 0
        named = turn_named((message_id or "").removeprefix("msg_").removesuffix(".goal"))
        if named is not None and named[0] == found[0]:
            return named[1]
        last = turns[-1]
        if last.goal_digest == digest(goal):
            return last.replaces if last.is_open and last.replaces else last.turn
        if any(each.goal_digest == digest(goal) for each in turns):
            raise Conflict("only the last answer of a chat can be regenerated")
        return 0

    async def _messages(
        self,
        principal: Principal,
        chat: SessionAlias,
        limit: int,
        cursor: str | None,
        *,
        replaced: bool,
    ) -> Response:
        await self._streams.check_agent(principal, chat.agent_id or "")
        found = await self._streams.find(principal, chat)
        messages: list[dict[str, Any]] = []
        headers = {"Cache-Control": "no-store"}
        if found is not None:
            page = await self._streams.service.conversations.messages(
                principal, found[0], limit=limit, cursor=cursor, fold_of=UiMessageFold
            )
            messages = ui_messages(page.messages, replaced=replaced)
            if page.next_cursor is not None:
                headers["X-Next-Cursor"] = page.next_cursor
        return Response(dumps(messages), media_type="application/json", headers=headers)

    async def _go_on(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        chat: SessionAlias,
        body: ChatBody,
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
        # assistant-ui adds a result to those that it has; the AI SDK replaces what it has.
        with_result = [each.call_id for each in answers.values() if not each.approved]
        settled = frozenset(with_result if body.is_of_assistant_ui else ())
        skip = (await self._count(ref, sdk, settled))[1]
        if state.waiting is not None:
            session = await self._streams.service.get(principal, session_id)
            for ask in session.get("waiting", ()):
                answer = answers.get(ask["call_id"])
                if answer is not None:
                    request_id = scope["state"]["request_id"]
                    await self._streams.service.input(
                        principal, session_id, answer, request_id=request_id
                    )
        await self._write(
            scope, receive, send, ref, base=skip, counted=body.counts, settled=settled
        )

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET …/chat/{chat_id}/stream."""
        principal: Principal = scope["state"]["principal"]
        index = _start_index(scope["state"]["query"])
        chat_id, agent_id = scope["path_params"]["chat_id"], scope["path_params"]["agent_id"]
        require(principal, "sessions:read")
        await self._streams.check_agent(principal, agent_id)
        name, base = _run_and_base(chat_id)
        run = turn_named(name)
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
            start = 0 if index is None else base  # without an index the whole answer is meant
            counted = index is not None
            await self._write(
                scope, receive, send, ref, base=start, skip=index or 0, counted=counted
            )
            return
        await self._streams.take_for(scope)  # the whole turn is read for it
        count, _ = await self._count(ref, _sdk(scope["state"]["query"]))
        tail = (b"x-workflow-stream-tail-index", b"%d" % max(count - 1, 0))
        await self._write(scope, receive, send, ref, skip=max(count + index, 0), headers=[tail])

    async def _write(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ref: TurnRef,
        *,
        base: int = 0,
        skip: int = 0,
        counted: bool = True,
        settled: frozenset[str] = frozenset(),
        headers: Headers = (),
    ) -> None:
        """Write the frames of the turn without the first `base + skip`. The client counts from
        `base`, which is in the name of the run: its count begins with the answer to a POST."""
        run = f"{ref.session_id}.{ref.turn}" + (f"~{base}" if base else "")
        sdk = _sdk(scope["state"]["query"])
        fold = UiMessageFrames(ref.session_id, ref.turn, sdk, counted=counted, settled=settled)
        own = [*HEADERS, (b"x-workflow-run-id", run.encode()), *headers]
        await self._streams.write(scope, receive, send, ref, fold, skip=base + skip, headers=own)

    async def _count(
        self, ref: TurnRef, sdk: int, settled: frozenset[str] = frozenset()
    ) -> tuple[int, int]:
        """The number of the turn's frames so far, without the last line; and of all frames up to
        the last stop of the turn."""
        fold = UiMessageFrames(ref.session_id, ref.turn, sdk, settled=settled)
        count = every = stopped = 0
        async for entry in self._streams.chunks(ref):
            frames = fold.frames(entry.kind, loads(entry.body))
            count += sum(frame != END for frame in frames)
            every += len(frames)
            if entry.kind == "waiting":
                stopped = every
        return count, stopped


def _run_and_base(name: str) -> tuple[str, int]:
    """The parts of a run's name, `{session}.{turn}~{base}`."""
    run, _, base = name.partition("~")
    return (run, int(base)) if _BASE.fullmatch(base) else (name, 0)


def _answers(messages: Sequence[ChatMessage]) -> dict[str, InputRequest]:
    """What the client says to calls behind the last message of the user, by call. assistant-ui
    sends a result in a message behind that of its call."""
    found: dict[str, InputRequest] = {}
    for message in reversed(messages):
        if message.role == "user":
            break
        for answer in message.answers():
            found.setdefault(answer.call_id, answer)
    return found


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
