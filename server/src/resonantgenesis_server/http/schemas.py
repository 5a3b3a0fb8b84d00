"""Shapes that several resources share on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..feed.filter import MAX_FILTERS, MAX_PATTERN, MAX_PATTERNS
from ..model.limits import MIB
from ..records.base import ListPage

S = TypeVar("S")
T = TypeVar("T")

#: The largest position and the largest number of a turn that a request may name.
MAX_POSITION = 2**31 - 1
#: Text for every store: PostgreSQL has no NUL.
NO_NUL = r"^[^\x00]*$"
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]

#: An object of the client, with any names and values. Its bytes are bounded where it is used, its
#: values by `limits.json_values`. This bound stops the validation early.
JsonObject = Annotated[dict[str, Any], Field(max_length=10_000)]

#: A word of a protocol, and any text; no setting allows a longer one.
Word = Annotated[str, Field(max_length=255)]
LongText = Annotated[str, Field(max_length=MIB)]

#: Of a filter of events. The service checks the patterns and filters themselves.
PatternList = Annotated[
    list[Annotated[str, Field(max_length=MAX_PATTERN)]], Field(max_length=MAX_PATTERNS)
]
FilterObject = Annotated[dict[str, Any], Field(max_length=MAX_FILTERS)]

PageLimit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
PageCursor = Annotated[
    str | None, Query(max_length=512, description="`next_cursor` of the page before.")
]

#: A stream in OpenAPI before 3.2: `schema` describes one event.
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "schema": {
            "type": "object",
            "description": "One server-sent event.",
            "required": ["event", "data"],
            "properties": {
                "id": {"type": "string", "description": "Where to resume: Last-Event-ID."},
                "event": {"type": "string"},
                "data": {"type": "string", "contentMediaType": "application/json"},
            },
        }
    }
}


class Body(BaseModel):
    """A request body. Wrong types are refused, never converted.

    `params.check_known` refuses unknown fields before, unless the client is lenient.
    """

    model_config = ConfigDict(
        strict=True, extra="ignore", json_schema_extra={"additionalProperties": False}
    )


class PageBody(BaseModel, Generic[T]):
    data: list[T]
    next_cursor: str | None = Field(description="Ask with it for the next page; null at the end.")
    has_more: bool


def page_body(page: ListPage[S], body: Callable[[S], T]) -> PageBody[T]:
    """The answer to a request for a list; `body` makes the body of one item."""
    return PageBody(
        data=[body(item) for item in page.items],
        next_cursor=page.next_cursor,
        has_more=page.next_cursor is not None,
    )
