"""`resonantgenesis agents …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from .. import values
from ..client import items
from ..options import AsJson, Data, Limit, Url, connect
from ..render import show_json, show_line, show_rows

app = typer.Typer(no_args_is_help=True, help="List, create and delete agents.")

_COLUMNS = ("id", "name", "engine", "source")


@app.command("list")
def list_agents(
    limit: Limit = 200,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """The agents there are, by id."""
    with connect(url, data) as client:
        show_rows(Console(), items(client.agents.list, limit), _COLUMNS, as_json=as_json)


@app.command()
def create(
    agent_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Its id; default: made by the server.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name; default: the id.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="What runs it: llm, guide, worker, or http.", show_default="llm, or http"
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the agent is, for the engine http."),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="whsec_…", help="What signs its requests. Without it the server makes one."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="PROVIDER:MODEL, for the engine llm.")] = None,
    instructions: Annotated[str | None, typer.Option(help="What it is told to do.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option(help="A tool; may be repeated. Default: all of the server.")
    ] = None,
    defaults: Annotated[
        str | None, typer.Option(metavar="JSON", help="Its defaults, e.g. '{\"max_steps\": 5}'.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Create an agent and print its id.

    The secret of an endpoint is shown this once, behind the id.
    """
    engine = engine or ("llm" if endpoint is None else "http")
    fields: dict[str, Any] = {
        "id": agent_id,
        "name": name or agent_id or engine,
        "url": endpoint,
        "secret": secret,
        "engine": engine,
        "model": model,
        "instructions": instructions,
        "tools": tool or None,
        "defaults": None if defaults is None else values.json_value(defaults),
    }
    with connect(url, data) as client:
        made = client.agents.create(**{k: v for k, v in fields.items() if v is not None})
    if as_json:
        show_json(Console(), made.raw)
        return
    show_line(Console(), made.id)
    if made.secret is not None:
        show_line(Console(), made.secret)


@app.command()
def delete(
    agent_id: Annotated[str, typer.Argument(metavar="ID", help="The agent's id.")],
    url: Url = None,
    data: Data = None,
) -> None:
    """Delete an agent. Its sessions stay."""
    with connect(url, data) as client:
        client.agents.delete(agent_id)
    show_line(Console(), f"deleted {agent_id}")
