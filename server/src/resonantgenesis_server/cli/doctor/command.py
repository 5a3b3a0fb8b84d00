"""`resonantgenesis doctor`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import AuthError
from ..options import AsJson, Config, Url
from ..target import DEFAULT_URL, URL_VARIABLE, Key, check_url, find_key, is_loopback
from .findings import Finding, exit_code, fail, show

if TYPE_CHECKING:
    from .probe import Probe


def doctor(
    url: Url = None,
    key: Annotated[
        str | None,
        typer.Option(help="API key; better from RESONANTGENESIS_API_KEY, which nobody else sees."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data directory.", show_default="that of the settings")
    ] = None,
    config: Config = None,
    patience: Annotated[
        float, typer.Option(min=0.1, max=60, help="Seconds that an answer may take.")
    ] = 5.0,
    as_json: AsJson = False,
    healthcheck: Annotated[
        bool,
        typer.Option("--healthcheck", help="Only ask whether the server here lives; 0 or 1."),
    ] = False,
) -> None:
    """Check the configuration, the store, the clock, the open-file limit and the way to the server,
    and whether something on that way holds streams back. The exit code is 1 if a check fails.

    A few events `app.doctor.probe` measure the stream.
    """
    if healthcheck:
        from .healthcheck import answers

        raise typer.Exit(0 if answers(url, config, patience) else 1)
    import asyncio

    from . import machine
    from .probe import Probe

    console = Console()
    findings: list[Finding] = []

    def report(*new: Finding) -> None:
        for finding in new:
            findings.append(finding)
            show(console, finding, as_json=as_json)

    named = url or os.environ.get(URL_VARIABLE)
    address = check_url(named or DEFAULT_URL)
    settings, configuration = machine.configuration(data, config)
    report(*configuration, *machine.store(settings))
    # A key of this machine is not for another one, unless --data names it.
    near = settings.data if is_loopback(address) else data
    try:
        found_key = Key(key, "") if key else find_key(address, near)
    except AuthError as error:
        report(fail("key", str(error), "make the file readable for the user who runs this command"))
        found_key = None
    probe = Probe(address, found_key, patience, bool(named))
    asyncio.run(_ask(probe, report))
    report(machine.clock(settings, probe.ahead), machine.open_files(settings, probe.files))
    raise typer.Exit(exit_code(findings))


async def _ask(probe: Probe, report: Callable[[Finding], None]) -> None:
    async for finding in probe.run():
        report(finding)
