"""The server's answers to those who run it, beside `models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .models import Field, Model, Page


class Erased(Model):
    """What one call has deleted. `has_more`: call again; nothing is deleted twice.

    `files` are those of no session, `usage` counts turns that name nobody any more, `requests` the
    kept answers of idempotency keys. Events may name the subject until `named_until`.
    """

    sessions = Field(0)
    files = Field(0)
    usage = Field(0)
    requests = Field(0)
    has_more = Field(False)
    named_until = Field[str | None](None)


class Tool(Model):
    """A tool that agents may use. `source` is `built-in`, `function` or `mcp`; `server` the MCP
    server's name. `needs_approval` None: it depends on the arguments. `problem` is why it cannot be
    used now."""

    name = Field("")
    description = Field("")
    parameters = Field[dict[str, Any] | None](None)
    source = Field("")
    server = Field[str | None](None)
    timeout_seconds = Field(0.0)
    needs_approval = Field[bool | None](None)
    problem = Field[str | None](None)


class NodeMetrics(Model):
    """What a node does now. Counts only grow while it lives: rates are differences over
    `uptime_seconds`. Histograms are {bounds, counts}: seconds, and the values up to each of them,
    then all values."""

    node = Field("")
    uptime_seconds = Field(0.0)
    open_streams = Field(0)
    viewers = Field[dict[str, int] | None](None)
    open_turns = Field[dict[str, int] | None](None)
    ended_turns = Field[dict[str, int] | None](None)
    chunks = Field(0)
    first_chunk = Field[dict[str, Any] | None](None)
    append_to_socket = Field[dict[str, Any] | None](None)
    limits_hit = Field[dict[str, int] | None](None)


class LiveMetrics(Page[NodeMetrics]):
    """The figures of all nodes; `waiting_turns` of the store wait for answers."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw, NodeMetrics)
        self.waiting_turns = int(raw.get("waiting_turns") or 0)
