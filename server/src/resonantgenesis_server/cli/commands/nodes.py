"""`resonantgenesis nodes`."""

from __future__ import annotations

from rich.console import Console

from ..options import AsJson, Data, Url, connect
from ..render import show_rows

_COLUMNS = (
    "id",
    "name",
    "version",
    "started_at",
    "last_seen_seconds",
    "running_turns",
    "queued_turns",
    "open_streams",
)


def nodes(as_json: AsJson = False, url: Url = None, data: Data = None) -> None:
    """The processes that serve the store, oldest first. Needs the server's bootstrap key."""
    with connect(url, data) as client:
        rows = [node.raw for node in client.nodes.list()]
    show_rows(Console(), rows, _COLUMNS, as_json=as_json)
