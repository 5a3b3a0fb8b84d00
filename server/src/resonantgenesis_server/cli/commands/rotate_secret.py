"""`resonantgenesis rotate-secret`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import UsageProblem
from ..options import AsJson, Data, Url, connect
from ..render import show_json, show_line
from .subjects import Yes, confirm


def rotate_secret(
    status: Annotated[
        bool, typer.Option("--status", help="Only look: nothing is changed.")
    ] = False,
    retire: Annotated[
        bool,
        typer.Option(
            "--retire",
            help="End the former secret: tokens that it signed end, and keys that were not used"
            " since the rotation are revoked.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Put another secret in the place of the server's own, while all nodes serve. What the former
    one has made stays valid until --retire. Needs the server's bootstrap key."""
    if status and retire:
        raise UsageProblem("give --status or --retire, not both")
    with connect(url, data) as client:
        if retire:
            known: dict[str, Any] = client.request("GET", "/v1/secret")
            count = known["unused_keys"]["count"]
            confirm(f"{count} keys were not used since the rotation and will end. Go on?", yes)
            answer = client.request("POST", "/v1/secret/retire", body={})
        elif status:
            answer = client.request("GET", "/v1/secret")
        else:
            answer = client.request("POST", "/v1/secret/rotate", body={})
    console = Console()
    if as_json:
        show_json(console, answer)
        return
    if retire:
        keys = answer["revoked_keys"]
        show_line(console, f"the former secret has ended; {keys['count']} keys ended with it")
    else:
        keys = answer["unused_keys"]
        show_line(console, f"secret {answer['id']}, since {answer['rotated_at'] or 'the start'}")
        show_line(console, f"{answer['former']} former; {keys['count']} keys were not used since")
    for key in keys["first"]:
        show_line(console, f"{key['id']} {key['organization_id']} {key['name']}")
