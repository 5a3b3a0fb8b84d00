"""`resonantgenesis workers`."""

from __future__ import annotations

from rich.console import Console

from ..options import AsJson, Data, Url, connect
from ..render import show_rows

_COLUMNS = ("agent_id", "name", "running", "capacity", "draining", "node", "connected_at", "id")


def workers(as_json: AsJson = False, url: Url = None, data: Data = None) -> None:
    """The workers that serve agents, by agent. Needs the scope agents:read."""
    with connect(url, data) as client:
        rows = [worker.raw for worker in client.agents.workers()]
    show_rows(Console(), rows, _COLUMNS, as_json=as_json)
