"""`resonantgenesis tokens …`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .. import values
from ..options import AsJson, Data, Url, connect
from ..render import show_fields, show_json
from .keys import show_secret

app = typer.Typer(
    no_args_is_help=True, help="Make client tokens, and change the key that signs them."
)

_SCOPES = ["sessions:read", "sessions:write"]
_SHOWN = ("token", "scopes", "subject", "session_id", "agent_id", "expires_at")


@app.command()
def create(
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help=f"What it may do; give it once for each. Without it: {', '.join(_SCOPES)}.",
        ),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="The end user: the token sees only what is theirs.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="Only for this session.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only for this agent.")] = None,
    expires_in: Annotated[
        str, typer.Option(metavar="TIME", help="How long it is valid: 1h, 30m, or seconds.")
    ] = "1h",
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Make a short-lived token for a browser or an app. A pipe gets the token alone."""
    seconds = values.duration(expires_in, "--expires-in")
    with connect(url, data) as client:
        created = client.tokens.create(
            scope or _SCOPES,
            subject=subject,
            session_id=session,
            agent_id=agent,
            ttl_seconds=seconds,
        )
    show_secret(created.raw, "token", _SHOWN, as_json=as_json)


@app.command()
def rotate(
    end_tokens: Annotated[
        bool,
        typer.Option(
            "--end-tokens",
            help="End every token that is out, of every organization, and what they hold open:"
            " for a secret that leaked.",
        ),
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Sign tokens with a new key from now on, while the server runs. Tokens that are out stay valid
    until they expire. Needs the server's bootstrap key."""
    with connect(url, data) as client:
        key = client.tokens.rotate(end_tokens=end_tokens).raw
    console = Console()
    if as_json:
        show_json(console, key)
    else:
        show_fields(console, {name: key.get(name) for name in ("id", "created_at", "former")})
