"""`resonantgenesis agents …` and `resonantgenesis keys …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from .options import AsJson, Data, Url, connect
from .output import show_fields, show_json, show_line, show_rows

agents_app = typer.Typer(no_args_is_help=True, help="Show the server's agents.")
keys_app = typer.Typer(no_args_is_help=True, help="Make API keys.")

_COLUMNS = ("id", "name", "engine", "source")
#: What an application needs to run turns and watch them, and no more.
_SCOPES = ["agents:read", "events:read", "sessions:read", "sessions:write"]


@agents_app.command("list")
def list_agents(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 200,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """The agents there are, by id."""
    with connect(url, data) as client:
        rows = client.pages("/v1/agents", {}, limit)
        show_rows(Console(), rows, _COLUMNS, as_json=as_json)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What it is for.")] = "cli",
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"May be given several times; default: {', '.join(_SCOPES)}."),
    ] = None,
    expires_in: Annotated[
        int | None, typer.Option(min=1, help="Seconds until it ends; default: never.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Make a key. It is shown once; in a pipe the key alone is written."""
    body: dict[str, Any] = {"name": name, "scopes": scope or _SCOPES}
    if expires_in is not None:
        body["expires_in"] = expires_in
    with connect(url, data) as client:
        made = client.call("POST", "/v1/keys", body)
    console = Console()
    if as_json:
        show_json(console, made)
    elif console.is_terminal:
        show_fields(console, {name: made.get(name) for name in ("id", "name", "scopes", "key")})
        show_line(console, "Keep the key now: it is not shown again.", "yellow")
    else:
        show_line(console, str(made["key"]))
