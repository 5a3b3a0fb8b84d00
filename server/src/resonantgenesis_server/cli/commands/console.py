"""`resonantgenesis console`."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import httpx
import typer
from rich.console import Console

from ..client import CALL_PATIENCE
from ..errors import CliError
from ..options import Data, Url, connect
from ..render import show_line
from ..target import is_loopback


def console(
    open_it: Annotated[
        bool, typer.Option("--open", help="Open the link in the browser of this machine.")
    ] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """A link that signs in to the server's console, once and within ten minutes."""
    with connect(url, data) as client:
        made = client.tokens.link()
        if not _has_console(client.base_url):
            raise CliError(
                f"the server at {client.base_url} has no console: its installation is from a"
                " repository whose pages are not built; run `make site` there"
            )
        link = f"{client.base_url}{made.path}"
    if open_it and webbrowser.open(link):
        return
    show_line(Console(), link)


def _has_console(url: str) -> bool:
    """False if the server says that it has none; what lies between may answer anything."""
    try:
        answer = httpx.get(f"{url}/console/", timeout=CALL_PATIENCE, trust_env=not is_loopback(url))
    except httpx.HTTPError:
        return True
    return answer.status_code != httpx.codes.NOT_FOUND
