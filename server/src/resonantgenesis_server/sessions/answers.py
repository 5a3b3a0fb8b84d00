"""Answers to what turns ask: the answer of a client, held against its ask, and as it is stored."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from ..agents.base import Answer
from ..codec.json import dumps
from ..model.errors import InvalidRequest, PayloadTooLarge
from ..model.limits import Limits
from .state import OpenAsk

#: Characters of a reason.
MAX_REASON = 4_000
#: Bytes of JSON of an `input` chunk around its payload.
_FRAME = 2_048


@dataclass(frozen=True, slots=True)
class InputRequest:
    """A client's answer. `turn` is the turn that asked; None: the one that waits, else the newest
    with such a call. `payload` counts if `has_payload`, since null is a value."""

    call_id: str
    approved: bool | None = None
    payload: Any = None
    has_payload: bool = False
    reason: str = ""
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class InputResult:
    """The answer that stands, and the status of the session after it."""

    session_id: str
    turn: int
    call_id: str
    status: str


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """An answer for the log. Answers of clients with equal `digest` say the same, whatever their
    reasons."""

    call_id: str
    status: Literal["answered", "expired", "cancelled"]
    approved: bool | None = None
    payload: Any = None
    has_payload: bool = False
    reason: str = ""

    @classmethod
    def of(cls, request: InputRequest) -> NewAnswer:
        return cls(
            request.call_id,
            "answered",
            request.approved,
            request.payload,
            request.has_payload,
            request.reason,
        )

    @property
    def digest(self) -> str:
        said = [self.status, self.approved, self.has_payload, self.payload]
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    def fields(self) -> dict[str, Any]:
        """The fields that the answer gives to its chunk."""
        fields: dict[str, Any] = {}
        if self.approved is not None:
            fields["approved"] = self.approved
        if self.has_payload:
            fields["payload"] = self.payload
        if self.reason:
            fields["reason"] = self.reason
        return fields


def answer_in(body: Mapping[str, Any]) -> Answer:
    """The answer in the body of an `input` chunk, as agents see it."""
    return Answer(
        body["call_id"],
        body["status"],
        body.get("approved"),
        body.get("payload"),
        body.get("reason", ""),
    )


def check_answer(
    request: InputRequest, ask: OpenAsk, asked: Mapping[str, Any], limits: Limits
) -> NewAnswer:
    """The answer, if it is one to this ask, whose chunk is `asked`. Raises InvalidRequest and
    PayloadTooLarge."""
    if len(request.reason) > MAX_REASON:
        raise InvalidRequest.field("reason", f"has at most {MAX_REASON} characters")
    if ask.kind == "approval":
        if request.approved is None:
            raise InvalidRequest.field("approved", "is required: the ask is an approval")
        if request.has_payload:
            raise InvalidRequest.field("payload", "an approval has none")
        return NewAnswer.of(request)
    if request.approved is False:
        if request.has_payload:
            raise InvalidRequest.field("payload", "a refusal (approved: false) has none")
        return NewAnswer.of(request)
    if not request.has_payload:
        raise InvalidRequest.field("payload", "is required, or approved: false to decline")
    size, limit = len(dumps(request.payload)), limits.chunk - _FRAME
    if size > limit:
        raise PayloadTooLarge(
            f"the payload takes {size} bytes; at most {limit} fit", details={"limit": limit}
        )
    schema = asked.get("schema")
    if ask.kind == "input" and schema is not None:
        json_schema = importlib.import_module("..codec.json_schema", __package__)
        problems = json_schema.problems_of(schema, request.payload)
        if problems:
            fields = {f"payload{place}": problem for place, problem in problems.items()}
            said = "; ".join(f"{name}: {problem}" for name, problem in fields.items())
            raise InvalidRequest(said[:1_000], details={"fields": fields})
    return NewAnswer.of(request)
