"""Spans of what the server does: turns, calls of models and tools, appends, requests, deliveries.

Names and attributes are those of OpenTelemetry's semantic conventions for generative AI, 0.1.0.
Nothing is imported and every function returns at once unless `begin` was called. No function is
called for a token: spans are per turn, per call and per slow append.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from prometheus_client.core import Metric

#: W3C's form of a place in a trace.
TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
#: Seconds after which the append of chunks has a span of its own. Each turn has hundreds of them.
SLOW_APPEND = 0.05


class Span:
    """A span that is recorded nowhere; `otel` has the one that is. In a `with` block it is the
    parent of the spans that the block begins; an exception that leaves the block is its error."""

    __slots__ = ()

    @property
    def log_fields(self) -> Mapping[str, str]:
        """The fields of log lines."""
        return {}

    def set(self, **attributes: Any) -> None:
        """Attributes by their names, with `__` for a dot. None is left out."""

    def show(self, **attributes: Callable[[], Any]) -> None:
        """Like `set`, for what people and models have said; each is called only where that is
        asked for."""

    def fail(self, code: str) -> None:
        """The span ends with an error of this code."""

    def end(self) -> None:
        """The span is over. Its `with` block does it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the span."""


class Spans:
    """What makes and sends spans. To be closed."""

    #: Whether spans show what people and models have said.
    shows_content: bool

    def open(self, name: str, kind: str, attributes: Mapping[str, Any], parent: str | None) -> Span:
        """`parent`: a traceparent; None: the current span; empty: none."""
        raise NotImplementedError

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> Span:
        raise NotImplementedError

    def current(self) -> Span:
        raise NotImplementedError

    def link(self, traceparent: str) -> None:
        raise NotImplementedError

    def append(self, began: float, ended: float, entries: int) -> None:
        raise NotImplementedError

    def headers(self) -> Mapping[str, str]:
        raise NotImplementedError

    def tell(self, families: Callable[[], Iterable[Metric]]) -> None:
        raise NotImplementedError


_NONE = Span()
_spans: Spans | None = None


def begin(spans: Spans | None) -> None:
    """Make spans from now on; None: make none."""
    global _spans  # noqa: PLW0603
    _spans = spans


def are_on() -> bool:
    return _spans is not None


def turn(agent_id: str, session_id: str, number: int, parent: str) -> Span:
    """A run of a turn's agent; a turn that waits has several. `parent` is that of its request."""
    if _spans is None:
        return _NONE
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": agent_id,
        "gen_ai.conversation.id": session_id,
        "resonantgenesis.turn": number,
    }
    return _spans.open(f"invoke_agent {agent_id}", "internal", attributes, parent)


def model(name: str, provider: str, session_id: str, agent_id: str) -> Span:
    """A call of a model."""
    if _spans is None:
        return _NONE
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": name,
        "gen_ai.request.stream": True,
        "gen_ai.agent.name": agent_id,
        "gen_ai.conversation.id": session_id,
    }
    return _spans.open(f"chat {name}", "client", attributes, None)


def tool(name: str, call_id: str | None, session_id: str, agent_id: str) -> Span:
    """A call of a tool."""
    if _spans is None:
        return _NONE
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call_id,
        "gen_ai.agent.name": agent_id or None,
        "gen_ai.conversation.id": session_id or None,
    }
    return _spans.open(f"execute_tool {name}", "internal", attributes, None)


def append(entries: int) -> Span:
    """The append of a turn's end."""
    if _spans is None:
        return _NONE
    return _spans.open("append", "internal", {"resonantgenesis.entries": entries}, None)


def appended(began: float, ended: float, entries: int) -> None:
    """An append of chunks that took long, between two times of the wall clock in seconds."""
    if _spans is not None:
        _spans.append(began, ended, entries)


def delivery(event_type: str, event_id: str, parent: str) -> Span:
    """An attempt to deliver an event to a webhook."""
    if _spans is None:
        return _NONE
    attributes = {
        "messaging.operation.type": "send",
        "messaging.message.id": event_id,
        "resonantgenesis.event.type": event_type,
    }
    return _spans.open(f"send {event_type}", "client", attributes, parent)


def subscribe(session_id: str) -> Span:
    """A socket begins to read a session."""
    if _spans is None:
        return _NONE
    return _spans.open("subscribe", "internal", {"gen_ai.conversation.id": session_id}, "")


def request(method: str, path: str, headers: Mapping[str, str]) -> Span:
    """A request; its headers say whether it belongs to a trace."""
    return _NONE if _spans is None else _spans.request(method, path, headers)


def messages(role: str, text: str) -> str:
    """One message of a text, in the JSON of the conventions."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def current() -> Span:
    return _NONE if _spans is None else _spans.current()


def link(traceparent: str) -> None:
    """Link the current span to another one: that of a viewer to the turn that it reads."""
    if _spans is not None and traceparent:
        _spans.link(traceparent)


def headers() -> Mapping[str, str]:
    """The headers with which a request to others belongs to the current span's trace."""
    return {} if _spans is None else _spans.headers()


def traceparent() -> str:
    """The place of the current span in W3C's form; empty if there is none."""
    return headers().get("traceparent", "")


def tell(families: Callable[[], Iterable[Metric]]) -> None:
    """Send these metrics as well, as they are when they are sent."""
    if _spans is not None:
        _spans.tell(families)
