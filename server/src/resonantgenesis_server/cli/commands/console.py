"""`resonantgenesis console`."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer
from rich.console import Console

from ..options import Data, Url, connect
from ..render import show_line


def console(
    open_it: Annotated[
        bool, typer.Option("--open", help="Open the link in the browser of this machine.")
    ] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """A link that signs in to the server's console, once and within ten minutes."""
    with connect(url, data) as client:
        link = f"{client.base_url}{client.tokens.link().path}"
    if open_it and webbrowser.open(link):
        return
    show_line(Console(), link)
