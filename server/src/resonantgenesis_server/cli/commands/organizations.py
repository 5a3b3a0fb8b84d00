"""`resonantgenesis organizations …`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .. import values
from ..client import items
from ..options import AsJson, Data, Limit, Url, connect
from ..render import show_rows
from .export import export
from .keys import ExpiresIn, Name, ScopesOption, lifetime, show_new_key, show_secret
from .subjects import Yes, confirm, erase, show_erased

app = typer.Typer(
    no_args_is_help=True,
    help="Tenants of one server, sealed off from each other. Needs the server's bootstrap key,"
    " except to export one's own.",
)

_COLUMNS = ("id", "name", "created_at", "disabled_at")
Id = Annotated[
    str,
    typer.Argument(metavar="ORGANIZATION", parser=values.identifier, help="The organization's id."),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Make an organization and its first key, which is shown only this once. A pipe gets the key
    alone."""
    with connect(url, data) as client:
        created = client.organizations.create(name).raw
    if as_json:
        show_secret(created, "key", (), as_json=True)
        return
    shown = {"id": created["id"], "name": created["name"], "key": created["key"]["key"]}
    show_secret(shown, "key", tuple(shown), as_json=False)


@app.command("list")
def list_organizations(
    limit: Limit = 200, as_json: AsJson = False, url: Url = None, data: Data = None
) -> None:
    """All organizations of the server, oldest first."""
    with connect(url, data) as client:
        show_rows(Console(), items(client.organizations.list, limit), _COLUMNS, as_json=as_json)


@app.command()
def disable(organization: Id, url: Url = None, data: Data = None) -> None:
    """Disable an organization: its credentials open nothing until it is enabled again. Its streams
    and sockets end within 2 seconds. Nothing is deleted."""
    with connect(url, data) as client:
        client.organizations.update(organization, disabled=True)


@app.command()
def enable(organization: Id, url: Url = None, data: Data = None) -> None:
    """Let the credentials of a disabled organization work again."""
    with connect(url, data) as client:
        client.organizations.update(organization, disabled=False)


@app.command()
def delete(
    organization: Id,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Disable an organization, then delete all that it has: sessions, events, files, keys, agents,
    usage. Run it again after a break, until it says that the organization is gone."""
    with connect(url, data) as client:
        named = client.organizations.get(organization)
        confirm(f"All data of {named.name} ({organization}) will be deleted for good. Go on?", yes)
        erased = erase(lambda: client.organizations.delete(organization))
    show_erased(erased, f"organization {organization}", as_json=as_json)


app.command("export")(export)


@app.command()
def rename(
    organization: Id,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    url: Url = None,
    data: Data = None,
) -> None:
    """Give an organization another name."""
    with connect(url, data) as client:
        client.organizations.update(organization, name=name)


@app.command()
def key(
    organization: Id,
    name: Name = "cli",
    scope: ScopesOption = None,
    expires_in: ExpiresIn = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Make a key in an organization, for example if all its keys are lost. Without --scope the
    key has every scope."""
    seconds = lifetime(expires_in)
    with connect(url, data) as client:
        created = client.organizations.create_key(
            organization, name, scope or ["*"], expires_in=seconds
        )
    show_new_key(created.raw, as_json=as_json)
