"""Bodies of OpenAI's API: the fields that mean something here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from ...http.schemas import Body, JsonObject, LongText, Name, Word
from ...model.errors import InvalidRequest
from ...sessions.answers import MAX_REASON, InputRequest
from ...sessions.request import TurnRef
from ..names import json_or_text
from .completions import call_of

_TEXT_PARTS = {"text", "input_text", "output_text"}


class GivenPart(BaseModel):
    """A part of a message; only text is read."""

    type: Word = ""
    text: LongText | None = None


class GivenMessage(BaseModel):
    """A message, or an answer to what a response asked. Items of other types are ignored."""

    type: Word = "message"
    call_id: Word | None = None
    output: Any = None
    approval_request_id: Word | None = None
    approve: bool | None = None
    reason: Annotated[str, Field(max_length=MAX_REASON)] | None = None
    tool_call_id: Annotated[str, Field(max_length=600)] | None = None
    role: Word | None = None
    content: LongText | Annotated[list[GivenPart], Field(max_length=10_000)] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        parts = self.content or []
        return "".join(part.text or "" for part in parts if part.type in _TEXT_PARTS)

    def answer(self, ask: Mapping[str, Any]) -> InputRequest:
        """What the item says to a call. Raises InvalidRequest."""
        call_id = ask["call_id"]
        if ask["kind"] == "approval":
            if self.approve is None:
                raise InvalidRequest.field("input", "an approval needs `approve`")
            return InputRequest(call_id, approved=self.approve, reason=self.reason or "")
        payload = self.output
        wants_text = (ask.get("schema") or {}).get("type") == "string"
        if isinstance(payload, str) and not wants_text:
            payload = json_or_text(payload)
        return InputRequest(call_id, payload=payload, has_payload=True)


class GivenTool(BaseModel):
    """A tool. Functions are run by the client; others are not for us."""

    type: Word = ""
    name: Word | None = None
    description: LongText | None = None
    parameters: JsonObject | None = None


class GivenFunction(BaseModel):
    """A function in the tools of a chat completion."""

    type: Word = ""
    function: GivenTool | None = None


class ConversationName(BaseModel):
    id: Annotated[str, Field(min_length=1, max_length=255)]


class ResponseBody(Body):
    """A request for a response. Sampling and the like are for the agent to decide."""

    model: Name
    input: LongText | Annotated[list[GivenMessage], Field(min_length=1, max_length=10_000)]
    instructions: LongText | None = None
    stream: bool | None = None
    background: bool | None = None
    conversation: Annotated[str, Field(max_length=255)] | ConversationName | None = None
    previous_response_id: Annotated[str, Field(max_length=255)] | None = None
    tools: list[GivenTool] | None = Field(default=None, max_length=1_000)
    metadata: JsonObject | None = None
    user: Annotated[str, Field(max_length=200)] | None = None

    @property
    def answers(self) -> dict[str, GivenMessage]:
        """What the input says at its end to calls, by call; approvals by their request's id."""
        found: dict[str, GivenMessage] = {}
        for item in reversed(self.input if isinstance(self.input, list) else ()):
            if item.role is not None:
                break
            if item.type == "function_call_output" and item.call_id:
                found[item.call_id] = item
            elif item.type == "mcp_approval_response" and item.approval_request_id:
                found[item.approval_request_id] = item
        return found

    @property
    def functions(self) -> list[dict[str, Any]] | None:
        """The tools that the client runs, as those of an execute."""
        return _client_tools(tool for tool in self.tools or () if tool.type == "function")

    @property
    def conversation_id(self) -> str | None:
        found = self.conversation
        return found.id if isinstance(found, ConversationName) else found


class StreamOptions(BaseModel):
    include_usage: bool | None = None


class CompletionBody(Body):
    """A request for a chat completion."""

    model: Name
    messages: list[GivenMessage] = Field(min_length=1, max_length=10_000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[GivenFunction] | None = Field(default=None, max_length=1_000)
    metadata: JsonObject | None = None
    user: Annotated[str, Field(max_length=200)] | None = None

    @property
    def functions(self) -> list[dict[str, Any]] | None:
        """The tools that the client runs, as those of an execute."""
        return _client_tools(each.function for each in self.tools or () if each.function)

    def answers(self) -> tuple[TurnRef, dict[str, GivenMessage]] | None:
        """The turn that the messages of tools at the end answer, and what they say, by call. Raises
        InvalidRequest."""
        found: dict[str, GivenMessage] = {}
        turns: set[TurnRef] = set()
        for message in reversed(self.messages):
            if message.role != "tool":
                break
            named = call_of(message.tool_call_id or "")
            if named is None:
                raise InvalidRequest.field("messages", "a tool_call_id has to be the server's")
            turns.add(named[0])
            found[named[1]] = GivenMessage(output=message.text)
        if len(turns) > 1:
            raise InvalidRequest.field("messages", "the tools have to answer one completion")
        return (turns.pop(), found) if turns else None


class ConversationBody(Body):
    metadata: JsonObject | None = None


def _client_tools(tools: Iterable[GivenTool]) -> list[dict[str, Any]] | None:
    found = [
        fields_of(name=tool.name, description=tool.description, schema=tool.parameters)
        for tool in tools
    ]
    return found or None


def split(
    messages: Sequence[GivenMessage], name: str
) -> tuple[str, list[tuple[str, str]], str | None]:
    """The goal, the turns before it as pairs of a goal and its output, and the instructions.

    `name` is that of the field. Raises InvalidRequest if the user says nothing at the end.
    """
    turns: list[tuple[str, str]] = []
    asked: list[str] = []
    answered: list[str] = []
    for message in messages:
        if message.role == "user":
            if answered:
                turns.append((_joined(asked), _joined(answered)))
                asked, answered = [], []
            asked.append(message.text)
        elif message.role == "assistant" and asked:
            answered.append(message.text)
    goal = "" if answered else _joined(asked)
    if not goal:
        raise InvalidRequest.field(name, "the last message has to be text from the user")
    said = [each.text for each in messages if each.role in {"system", "developer"}]
    return goal, turns, _joined(said) or None


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text)


def fields_of(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
