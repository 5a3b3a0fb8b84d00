"""`resonantgenesis agents …`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from ..client import items
from ..options import AsJson, Data, Url, connect
from ..render import show_rows

app = typer.Typer(no_args_is_help=True, help="Show the server's agents.")

_COLUMNS = ("id", "name", "engine", "source")


@app.command("list")
def list_agents(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 200,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """The agents there are, by id."""
    with connect(url, data) as client:
        show_rows(Console(), items(client.agents.list, limit), _COLUMNS, as_json=as_json)
