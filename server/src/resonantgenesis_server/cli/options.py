"""Options that several commands share."""

from __future__ import annotations

import shlex
import shutil
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..config import CONFIG_VARIABLE, DEFAULT_FILE
from .client import open_client
from .render import show_text
from .target import DEFAULT_DATA, DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, find_target

if TYPE_CHECKING:
    from resonantgenesis import SyncResonantGenesis

PROGRAM = "resonantgenesis"
Url = Annotated[
    str | None,
    typer.Option(help=f"The server's address: else {URL_VARIABLE}, else {DEFAULT_URL}."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help=f"Data directory whose api-key is used when {KEY_VARIABLE} is not set"
        f" (default for a server on this machine: ./{DEFAULT_DATA})."
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help=f"TOML file; else {CONFIG_VARIABLE}, else ./{DEFAULT_FILE} if there is one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines instead of text.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")]


def connect(
    url: str | None, data: Path | None, *, patient: bool = False
) -> AbstractContextManager[SyncResonantGenesis]:
    """A client of the server that the options name; see `open_client`."""
    return open_client(find_target(url, data), patient=patient)


def to_stderr(text: str) -> None:
    """Write a note for the person, which is no part of the output."""
    show_text(Console(stderr=True), f"({text})", "dim")


def program() -> str:
    """The words with which a person starts this program, in a folder with a `.venv` as well."""
    if shutil.which(PROGRAM):
        return PROGRAM
    started = Path(sys.argv[0])
    if started.name != PROGRAM:
        return f"{shlex.quote(sys.executable)} -m resonantgenesis_server"
    inside = started.is_relative_to(Path.cwd())
    return shlex.quote(str(started.relative_to(Path.cwd()) if inside else started))
