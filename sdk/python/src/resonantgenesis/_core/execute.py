"""From the arguments of an execute to its plan, and from a followed turn to its result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

from ..errors import InternalError
from ..models import Chunk, TurnResult
from .messages import Call, error_from_chunk, make, new_key, without_none
from .progress import ResumePoint
from .stream_plan import StreamPlan, execute_path


class ExecuteOptions(TypedDict, total=False):
    """Options of an execute beside agent, goal and context (PROTOCOL.md, section 4).

    `timeout_seconds` bounds the turn. `if_busy`: reject, enqueue or interrupt. `on_disconnect`:
    continue or cancel. `idempotency_key`: the turn's name for 24 h, made up if not given.
    `client_tools`: tools that the client runs, each {name, description, schema}.
    `replace_turn` regenerates this turn, the last one; with the goal "", its own goal.
    `callback_url` is told when the turn waits or is over, signed with the `callback_secret`; see
    `new_webhook_secret`.
    """

    max_steps: int
    timeout_seconds: float
    model: str
    tools: Sequence[Any]
    client_tools: Sequence[Mapping[str, Any]]
    metadata: Mapping[str, Any]
    subject: str
    if_busy: Literal["reject", "enqueue", "interrupt"]
    on_disconnect: Literal["continue", "cancel"]
    idempotency_key: str
    replace_turn: int
    callback_url: str
    callback_secret: str


class StreamOptions(ExecuteOptions, total=False):
    """Further options of a streamed execute (PROTOCOL.md, section 4).

    `resume_from`: everything up to there has been received, 0 starts anew. `compact`: text that
    waits in the log comes merged. `raise_on_error`: an `error` chunk raises (the default) or is
    a chunk like the others.
    """

    resume_from: int | None
    compact: bool
    raise_on_error: bool


class QueuedChanges(TypedDict, total=False):
    """What a turn that waits shall have instead."""

    goal: str
    metadata: Mapping[str, Any]
    model: str | None
    tools: Sequence[str] | None
    max_steps: int
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Execution:
    """An execute whose session may not exist yet; `scope` tells its session from others."""

    fields: Mapping[str, Any]
    idempotency_key: str | None = None
    resume_from: int | None = None
    compact: bool = False
    raise_on_error: bool = True
    scope: str | None = None

    def body(self, session_id: str | None) -> dict[str, Any]:
        """The request's body, `stream` aside."""
        return without_none(**self.fields, session_id=session_id)

    @property
    def task(self) -> tuple[str, ...]:
        """The fields that two executes must share to mean one turn."""
        fields = self.fields
        context = json.dumps(fields.get("context"), sort_keys=True, default=repr)
        return (fields.get("agent_id") or "", fields.get("goal", ""), context, self.scope or "")

    @property
    def may_resume(self) -> bool:
        """Whether to look for a stream that broke off; an own key names another turn."""
        return self.resume_from is not None and self.idempotency_key is None

    def plan(self, session_id: str | None, broken: ResumePoint | None = None) -> StreamPlan:
        """Plan the stream: take `broken` over where it was left, or begin anew."""
        position = self.resume_from or 0
        if broken is None:
            key = self.idempotency_key or new_key()
            resume_point = ResumePoint(
                idempotency_key=key, session_id=session_id, position=position
            )
        else:
            resume_point = replace(broken, position=position, settled=False, broken=False)
            # Its old reader may still hold the stream.
            broken.settled = True
        return StreamPlan(
            body=self.body(session_id),
            resume_point=resume_point,
            resume_from=self.resume_from or None,
            compact=self.compact,
            raise_on_error=self.raise_on_error,
            recalled=broken is not None and broken.session_id is not None,
        )


def execution(
    agent_id: str | None,
    goal: str,
    context: str | Mapping[str, Any] | None,
    scope: str | None,
    options: Mapping[str, object],
) -> Execution:
    """Check the arguments of an execute. Raises ValueError and TypeError."""
    given: dict[str, Any] = dict(options)
    resume_from = given.pop("resume_from", None)
    if resume_from is not None and resume_from < 0:
        raise ValueError("resume_from must be 0 or more")
    unknown = given.keys() - StreamOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"execute has no parameter {', '.join(sorted(unknown))}")
    goal_or_none = None if not goal and given.get("replace_turn") else goal
    return Execution(
        idempotency_key=given.pop("idempotency_key", None),
        resume_from=resume_from,
        compact=given.pop("compact", False),
        raise_on_error=given.pop("raise_on_error", True),
        scope=scope,
        fields=without_none(
            agent_id=agent_id, goal=goal_or_none, context=context_of(context), **given
        ),
    )


def context_of(context: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A context as the server keeps it: text becomes `{"text": …}`."""
    return {"text": context} if isinstance(context, str) else context


def execute_call(execution: Execution, session_id: str | None) -> Call[TurnResult]:
    """An execute without a stream; the result's `status` is running if it takes longer (202)."""
    body = {**execution.body(session_id), "stream": False}
    return Call(make(execute_path(body), body, execution.idempotency_key), TurnResult)


def follow_plan(running: TurnResult) -> StreamPlan:
    """Plan to join the turn that a 202 named, until it ends."""
    resume_point = ResumePoint(session_id=running.session_id, turn=running.turn)
    return StreamPlan(
        resume_point=resume_point, turn=running.turn, compact=True, raise_on_error=False
    )


class TurnCollector:
    """Builds the result of a turn from its chunks."""

    def __init__(self) -> None:
        self._error: dict[str, Any] | None = None
        self._result: TurnResult | None = None
        self._asks: dict[str, dict[str, Any]] = {}

    def add(self, chunk: Chunk) -> None:
        """Add the next chunk of the turn."""
        if chunk.type == "error":
            names = ("code", "message", "retryable", "retry_after")
            self._error = {name: chunk.raw[name] for name in names if name in chunk.raw}
        elif chunk.type == "input_required" and chunk.call_id is not None:
            self._asks[chunk.call_id] = {**chunk.raw}
        elif chunk.type == "input" and chunk.call_id is not None:
            self._asks.pop(chunk.call_id, None)
        elif chunk.type == "waiting":
            asks = list(self._asks.values())
            raw = {**chunk.raw, "status": "waiting", "waiting": asks}
            self._result = TurnResult(without_none(**{**raw, "type": None}))
        elif chunk.type == "done":
            steps = chunk.usage.steps if chunk.usage else None
            self._result = TurnResult(
                without_none(**{**chunk.raw, "type": None}, steps=steps, error=self._error)
            )

    def result(self) -> TurnResult:
        """The result. Raises InternalError if the log ended without one."""
        if self._result is None:
            raise InternalError("the log does not hold the end of the turn", retryable=False)
        return self._result


def checked(result: TurnResult, raise_on_error: bool) -> TurnResult:
    """`result`, or its error raised, as a stream raises its `error` chunk."""
    if raise_on_error and (result.error or result.status in ("failed", "timeout")):
        raw = result.error or {"code": "TIMEOUT" if result.status == "timeout" else "AGENT_FAILED"}
        raise error_from_chunk(raw, session_id=result.session_id, position=result.position)
    return result


def join_plan(
    session_id: str,
    *,
    resume_from: int | None,
    turn: int | None,
    follow: bool,
    compact: bool,
    raise_on_error: bool,
) -> StreamPlan:
    """Plan to watch a session."""
    return StreamPlan(
        resume_point=ResumePoint(session_id=session_id, turn=turn, position=resume_from or 0),
        resume_from=resume_from,
        turn=turn,
        follow=follow,
        compact=compact,
        raise_on_error=raise_on_error,
    )
