"""`resonantgenesis store`: the server's stores, made, upgraded and looked at without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import CliError
from ..options import Config

if TYPE_CHECKING:
    from ...config.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The server's store: made, upgraded, checked.")

Store = Annotated[
    str | None,
    typer.Option(
        help="Address of a PostgreSQL database, postgresql://…; better in RESONANTGENESIS_STORE or"
        " its file, since others see a command's arguments.",
        show_default="embedded",
    ),
]
DataDirectory = Annotated[
    Path | None, typer.Option(help="Data directory of an embedded store.", show_default="./data")
]


@app.command()
def init(config: Config = None, store: Store = None, data: DataDirectory = None) -> None:
    """Make an empty store. One that is there is brought to the newest version."""
    _make_or_upgrade(_settings(config, store, data))


@app.command()
def upgrade(config: Config = None, store: Store = None, data: DataDirectory = None) -> None:
    """Bring the store to this program's version."""
    _make_or_upgrade(_settings(config, store, data))


@app.command()
def check(config: Config = None, store: Store = None, data: DataDirectory = None) -> None:
    """Look whether this program can use the store; nothing is changed."""
    from ... import stores

    settings = _settings(config, store, data)
    try:
        report = stores.check(settings)
    except stores.ERRORS as error:
        raise CliError(str(error)) from error
    for line in (*report.lines, *(f"warning: {warning}" for warning in report.warnings)):
        typer.echo(line)


def _make_or_upgrade(settings: Settings) -> None:
    from ... import stores

    try:
        line = stores.make_or_upgrade(settings)
    except stores.ERRORS as error:
        raise CliError(str(error)) from error
    typer.echo(line)


def _settings(config: Path | None, store: str | None, data: Path | None) -> Settings:
    from ...config.load import load_settings

    return load_settings({"store": store, "data": data}, config).settings
