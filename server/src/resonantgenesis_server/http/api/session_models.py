"""Bodies and parameters of `/v1/sessions`, checked against the limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Header, Path
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from ...agents.engines.http.endpoint import MAX_URL
from ...codec.json import dumps
from ...model.errors import InvalidRequest, PayloadTooLarge
from ...model.limits import MIB, Limits
from ...model.principal import Principal
from ...sessions.answers import MAX_REASON, InputRequest
from ...sessions.request import CreateSpec, IfBusy, OnDisconnect, TurnRequest
from ..auth.authenticator import require, scoped
from ..errors import bad_fields, problem_text
from ..params import check_known
from ..schemas import MAX_POSITION, NO_NUL, Body, JsonObject, Name

PATH = "/v1/sessions"

Reader = Annotated[Principal, Depends(scoped("sessions:read"))]
Writer = Annotated[Principal, Depends(scoped("sessions:write"))]
SessionId = Annotated[str, Path(min_length=1, max_length=128)]
Epoch = Annotated[str | None, Header(alias="X-Log-Epoch", max_length=64)]
Position = Annotated[int, Field(ge=0, le=MAX_POSITION)]
TurnNumber = Annotated[int, Field(ge=1, le=MAX_POSITION)]
AgentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Subject = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
#: Characters. No setting allows more; `request` and `spec` check the settings, which count bytes.
LONGEST_TEXT = MIB
Context = JsonObject | Annotated[str, Field(max_length=LONGEST_TEXT)]


class CallbackBody(Body):
    """Where to tell that a turn waits or is over."""

    callback_url: Annotated[str, Field(min_length=1, max_length=MAX_URL, pattern=NO_NUL)] | None = (
        Field(default=None, description="Needs the scope webhooks:write and a `callback_secret`.")
    )
    callback_secret: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="`whsec_` and base64 of 24 to 64 bytes, which sign what is sent there.",
    )

    def callback(self, principal: Principal) -> tuple[str, str] | None:
        """The address and the secret of the callback that the body asks for. Raises ApiError."""
        if self.callback_url is None:
            if self.callback_secret is not None:
                raise InvalidRequest.field("callback_secret", "needs a callback_url")
            return None
        require(principal, "webhooks:write")
        if self.callback_secret is None:
            raise InvalidRequest.field("callback_secret", "is required with a callback_url")
        return self.callback_url, self.callback_secret


class CreateBody(CallbackBody):
    agent_id: AgentId
    context: Context = Field(default_factory=dict, description="Text is kept as {text: …}.")
    metadata: JsonObject = Field(default_factory=dict)
    subject: Subject | None = Field(default=None, description="The end user it belongs to.")

    def spec(self, limits: Limits) -> CreateSpec:
        """Raises PayloadTooLarge."""
        context = _context(self.context, limits)
        return CreateSpec(self.agent_id, context, _metadata(self.metadata, limits), self.subject)


class ClientToolBody(Body):
    """A tool that the client runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[str, Field(max_length=1_024)] = ""
    schema_: JsonObject = Field(
        default_factory=dict, alias="schema", description="JSON Schema of its arguments."
    )


class TurnBody(Body):
    """A further turn of a session."""

    replace_turn: TurnNumber | None = Field(
        default=None, description="Regenerates this turn, the last one of the session."
    )
    goal: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)] | None = Field(
        default=None,
        validate_default=True,
        description="Required, unless `replace_turn` names a turn, which has one.",
    )
    stream: bool = False
    context: Context = Field(default_factory=dict, description="Merged into the session's.")
    resume_from: Position | None = Field(
        default=None, description="Join instead: everything up to here is known already."
    )
    max_steps: Annotated[int, Field(ge=1, le=1_000)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    model: Name | None = None
    tools: Annotated[list[Name], Field(max_length=128)] | None = None
    client_tools: Annotated[list[ClientToolBody], Field(max_length=64)] = Field(
        default_factory=list, description="Tools that the client runs, and answers by `input`."
    )
    metadata: JsonObject = Field(default_factory=dict)
    subject: Subject | None = None
    if_busy: IfBusy = "reject"
    on_disconnect: OnDisconnect = "continue"
    compact: bool = False

    @field_validator("goal", mode="before")
    @classmethod
    def _check_goal(cls, goal: object, info: ValidationInfo) -> object:
        if goal is None and info.data.get("replace_turn") is None:
            raise PydanticKnownError("missing")
        return goal

    def request(self, limits: Limits, session_id: str | None = None) -> TurnRequest:
        """Raises PayloadTooLarge."""
        goal = self.goal or ""
        check_goal(goal, limits)
        return TurnRequest(
            goal=goal,
            replace_turn=self.replace_turn or 0,
            session_id=session_id,
            context=_context(self.context, limits),
            resume_from=self.resume_from,
            max_steps=self.max_steps or 0,
            timeout_seconds=self.timeout_seconds or 0.0,
            model=self.model,
            tools=self.tools,
            client_tools=_client_tools(self.client_tools, limits),
            metadata=_metadata(self.metadata, limits),
            subject=self.subject,
            if_busy=self.if_busy,
            on_disconnect=self.on_disconnect,
        )


def check_goal(goal: str, limits: Limits) -> None:
    """Raises PayloadTooLarge."""
    if len(goal.encode("utf-8", "surrogatepass")) > limits.goal:
        raise PayloadTooLarge(
            f"the goal is over {limits.goal} bytes", details={"limit": limits.goal}
        )


class ExecuteBody(TurnBody):
    """A turn of a new session, or of the one that `session_id` names."""

    session_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    agent_id: AgentId | None = Field(
        default=None,
        validate_default=True,
        description="Required, unless `session_id` names a session, which has one.",
    )

    @field_validator("agent_id", mode="before")
    @classmethod
    def _check_agent(cls, agent_id: object, info: ValidationInfo) -> object:
        if agent_id is None and info.data.get("session_id") is None:
            raise PydanticKnownError("missing")
        return agent_id

    def request(self, limits: Limits, session_id: str | None = None) -> TurnRequest:
        """Raises PayloadTooLarge."""
        request = super().request(limits, session_id or self.session_id)
        return replace(request, agent_id=self.agent_id)


class CalledTurnBody(TurnBody, CallbackBody):
    """A further turn of a session, with a callback."""


class CalledExecuteBody(ExecuteBody, CallbackBody):
    """A turn of a new session, or of the one that `session_id` names, with a callback."""


class PostBody(Body):
    """Something to say to the turn that is open."""

    content: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
    message_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")] | None = Field(
        default=None, description="Makes a repeat the same message; the server's own if left out."
    )


class ForkBody(Body):
    turn: Annotated[int, Field(ge=0, le=MAX_POSITION)] | None = Field(
        default=None, description="The last one that ended, if left out; 0: what a fork began with."
    )
    metadata: JsonObject | None = Field(default=None, description="The original's if left out.")

    def checked_metadata(self, limits: Limits) -> dict[str, Any] | None:
        """Raises PayloadTooLarge."""
        return None if self.metadata is None else _metadata(self.metadata, limits)


class EditBody(Body):
    """What a turn that waits shall have instead."""

    goal: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)] | None = None
    model: Name | None = None
    tools: Annotated[list[Name], Field(max_length=128)] | None = None
    metadata: JsonObject | None = None
    max_steps: Annotated[int, Field(ge=1, le=1_000)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None

    def changes(self, limits: Limits) -> dict[str, Any]:
        """The fields that were named. Raises PayloadTooLarge."""
        changes = {name: getattr(self, name) for name in self.model_fields_set}
        check_goal(changes.get("goal") or "", limits)
        _metadata(changes.get("metadata") or {}, limits)
        for name in ("goal", "metadata", "max_steps", "timeout_seconds"):
            if name in changes and changes[name] is None:
                raise InvalidRequest.field(name, "cannot be null")
        return changes


class InputBody(Body):
    """An answer to what a turn asks: `approved`, or `payload`."""

    call_id: Annotated[str, Field(min_length=1, max_length=128, pattern=NO_NUL)]
    approved: bool | None = None
    payload: Any = Field(default=None, description="Any JSON value; null is one.")
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    turn: TurnNumber | None = Field(
        default=None, description="The turn that asked, where several used this call_id."
    )

    def request(self) -> InputRequest:
        return InputRequest(
            self.call_id,
            self.approved,
            self.payload,
            "payload" in self.model_fields_set,
            self.reason,
            self.turn,
        )


class InputResultBody(BaseModel):
    session_id: str
    turn: int
    call_id: str
    status: str = Field(description="That of the session: `waiting` while other asks are open.")


class CancelBody(Body):
    turn: TurnNumber | None = Field(default=None, description="All that run or wait, if left out.")


class CancelByKeyBody(Body):
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]


class TurnUsage(BaseModel):
    input_tokens: int
    output_tokens: int
    steps: int
    duration_ms: int


class TurnError(BaseModel):
    code: str
    message: str
    retryable: bool
    request_id: str | None = Field(
        default=None,
        description="Of the request that asked for the turn: the server's log has more under it.",
    )
    retry_after: float | None = None


class AskBody(BaseModel):
    """What a turn waits for. A list of sessions shows no `args`, `message` and `schema`."""

    call_id: str
    kind: Literal["approval", "input", "tool"]
    tool: str | None = None
    args: dict[str, Any] | None = None
    message: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    expires_at: str


class TurnResult(BaseModel):
    """How a turn ended, or what it waits for; without `output` while it runs or is queued."""

    session_id: str
    turn: int
    status: str
    output: str | None = None
    output_truncated: bool | None = None
    error: TurnError | None = None
    steps: int | None = None
    usage: TurnUsage | None = None
    position: int | None = None
    waiting: list[AskBody] | None = None


class ForkedFrom(BaseModel):
    """The conversation begins with that of this session, up to the turn."""

    session_id: str
    turn: int


class SessionItem(BaseModel):
    """A session in a list."""

    session_id: str
    agent_id: str
    subject: str | None
    status: str
    turns: int
    first_goal: str | None = Field(
        default=None, description="The beginning of its first turn's goal."
    )
    waiting: list[AskBody] | None = Field(default=None, description="Its open asks.")
    metadata: dict[str, Any]
    created_at: str
    updated_at: str


class SessionBody(SessionItem):
    """A session by itself."""

    context: dict[str, Any] | None = None
    forked_from: ForkedFrom | None = None
    turn: int | None = Field(default=None, description="The turn that `output` is of.")
    output: str | None = None
    output_truncated: bool | None = None
    position: int | None = Field(default=None, description="What `output` reaches to.")


class CancelResult(BaseModel):
    session_id: str
    cancelled: list[int] = Field(description="The turns that this call concerned.")
    status: str


class PollResult(BaseModel):
    events: list[dict[str, Any]]
    position: int
    status: str
    done: bool


class StepBody(BaseModel):
    turn: int
    step: int
    name: str
    status: str
    duration_ms: int | None = None
    detail: str | None = None
    finish_reason: str | None = None
    position: int


BodyT = TypeVar("BodyT", bound=Body)


def validated(kind: type[BodyT], value: object, *, lenient: bool = False) -> BodyT:
    """The body, validated as the framework does it. `lenient`: unknown fields pass. Raises
    InvalidRequest."""
    if not lenient:
        check_known(kind, value)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise bad_fields(
            (".".join(str(part) for part in problem["loc"]) or "body", problem_text(problem))
            for problem in error.errors(include_url=False, include_input=False)
        ) from None


def _context(value: Context, limits: Limits) -> dict[str, Any]:
    context = {"text": value} if isinstance(value, str) else value
    _check_size("context", context, limits.context)
    return context


def _metadata(value: dict[str, Any], limits: Limits) -> dict[str, Any]:
    _check_size("metadata", value, limits.context)
    return value


def _client_tools(tools: list[ClientToolBody], limits: Limits) -> list[dict[str, Any]]:
    """Raises InvalidRequest for two of one name, and PayloadTooLarge."""
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidRequest.field("client_tools", "two have the same name")
    plain = [
        {"name": tool.name, "description": tool.description, "schema": tool.schema_}
        for tool in tools
    ]
    if plain and len(dumps(plain)) > limits.context:
        raise PayloadTooLarge(
            f"the client_tools are over {limits.context} bytes", details={"limit": limits.context}
        )
    return plain


def _check_size(name: str, value: dict[str, Any], limit: int) -> None:
    if value and len(dumps(value)) > limit:
        raise PayloadTooLarge(f"the {name} is over {limit} bytes", details={"limit": limit})
