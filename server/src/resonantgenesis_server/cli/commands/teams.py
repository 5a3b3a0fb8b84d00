"""`resonantgenesis teams …`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from .. import values
from ..client import items
from ..options import AsJson, Data, Limit, Url, connect
from ..render import show_json, show_line, show_rows

app = typer.Typer(no_args_is_help=True, help="List, create and delete teams of agents.")

_COLUMNS = ("id", "name", "strategy", "lead")


class Strategy(StrEnum):
    """How the members share a turn."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    HIERARCHICAL = "hierarchical"


@app.command("list")
def list_teams(
    limit: Limit = 200,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """The teams there are, by id."""
    with connect(url, data) as client:
        show_rows(Console(), items(client.teams.list, limit), _COLUMNS, as_json=as_json)


@app.command()
def create(
    members: Annotated[
        list[str], typer.Argument(metavar="AGENT[=ROLE]...", help="Agents, in their order.")
    ],
    team_id: Annotated[
        str | None, typer.Option("--id", help="Its id; default: made by the server.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name; default: the id.")] = None,
    strategy: Annotated[
        Strategy, typer.Option(help="How the members share a turn.")
    ] = Strategy.SEQUENTIAL,
    lead: Annotated[str | None, typer.Option(help="The member that gives tasks.")] = None,
    goes_on: Annotated[
        bool, typer.Option("--continue", help="Go on when a member fails; default: fail.")
    ] = False,
    defaults: Annotated[
        str | None, typer.Option(metavar="JSON", help="Its defaults, e.g. '{\"max_steps\": 50}'.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Create a team and print its id. `chat` and every client take it as an agent."""
    named = [member.partition("=") for member in members]
    fields: dict[str, Any] = {
        "id": team_id,
        "name": name or team_id or "team",
        "strategy": strategy.value,
        "members": [{"agent_id": agent, "role": role or None} for agent, _, role in named],
        "lead": lead,
        "on_failure": "continue" if goes_on else "fail",
        "defaults": None if defaults is None else values.json_value(defaults),
    }
    with connect(url, data) as client:
        made = client.teams.create(**{k: v for k, v in fields.items() if v is not None})
    if as_json:
        show_json(Console(), made.raw)
    else:
        show_line(Console(), made.id)


@app.command()
def delete(
    team_id: Annotated[str, typer.Argument(metavar="ID", help="The team's id.")],
    url: Url = None,
    data: Data = None,
) -> None:
    """Delete a team. Its members and its sessions stay."""
    with connect(url, data) as client:
        client.teams.delete(team_id)
    show_line(Console(), f"deleted {team_id}")
