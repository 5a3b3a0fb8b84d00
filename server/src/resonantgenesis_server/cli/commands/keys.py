"""`resonantgenesis keys …`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from ...model.principal import METRICS, RESOURCES, SERVE
from .. import values
from ..client import items
from ..options import AsJson, Data, Limit, Url, connect, to_stderr
from ..render import show_fields, show_json, show_line, show_rows

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

#: The scopes with which an application runs turns and watches them.
SCOPES = ["agents:read", "events:read", "sessions:read", "sessions:write"]
_COLUMNS = ("id", "name", "scopes", "created_at", "expires_at", "revoked_at")

Name = Annotated[str, typer.Option(help="What the key is for, to find it in the list.")]
ScopesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help=f"What it may do; give it once for each. One of {', '.join(RESOURCES)}, with"
        f" `:read` or `:write`, or `{SERVE}`, `{METRICS}`, or `*` for everything."
        f" Without it: {', '.join(SCOPES)}.",
    ),
]
ExpiresIn = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="How long it is valid: 90d, 12h, or seconds. Without it: for ever."
    ),
]


@app.command()
def create(
    name: Name = "cli",
    scope: ScopesOption = None,
    expires_in: ExpiresIn = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Make a key, which is shown only this once. It can do no more than the key that makes it.

    A pipe gets the key alone, as in KEY=$(resonantgenesis keys create --name app).
    """
    seconds = lifetime(expires_in)
    with connect(url, data) as client:
        created = client.keys.create(name, scope or SCOPES, expires_in=seconds)
    show_new_key(created.raw, as_json=as_json)


@app.command("list")
def list_keys(
    limit: Limit = 200, as_json: AsJson = False, url: Url = None, data: Data = None
) -> None:
    """The keys of the organization, newest first, without their secrets."""
    with connect(url, data) as client:
        show_rows(Console(), items(client.keys.list, limit), _COLUMNS, as_json=as_json)


@app.command()
def revoke(
    key_ids: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", parser=values.identifier, help="The keys' ids."),
    ],
    url: Url = None,
    data: Data = None,
) -> None:
    """Revoke keys for good. From now on the keys and their tokens open nothing. Their streams and
    sockets end within 2 seconds. Running turns go on."""
    with connect(url, data) as client:
        for key_id in key_ids:
            client.keys.revoke(key_id)


def lifetime(expires_in: str | None) -> int | None:
    """Seconds of `--expires-in`; None: for ever. Raises UsageProblem."""
    return None if expires_in is None else values.duration(expires_in, "--expires-in")


def show_new_key(created: dict[str, Any], *, as_json: bool) -> None:
    """Show a new key; a terminal also gets its fields."""
    show_secret(created, "key", ("id", "name", "scopes", "expires_at", "key"), as_json=as_json)


def show_secret(
    created: dict[str, Any], secret: str, shown: Sequence[str], *, as_json: bool
) -> None:
    """Show a new credential, its only time; a pipe gets the field `secret` alone."""
    console = Console()
    if as_json:
        show_json(console, created)
    elif console.is_terminal:
        show_fields(console, {name: created.get(name) for name in shown})
        to_stderr(f"keep the {secret} now: it is not shown again")
    else:
        show_line(console, str(created[secret]))
