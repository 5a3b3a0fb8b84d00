"""`resonantgenesis serve` and `resonantgenesis config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .errors import UsageProblem
from .options import AsJson, Config, to_stderr
from .render import show_rows


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0: any free one.", show_default="8080")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Chain of certificates, to speak TLS; PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key; PEM.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data directory, made if missing.", show_default="./data")
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|s3://BUCKET/PREFIX",
            help="Where the content of files lies.",
            show_default="files in the data directory",
        ),
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of a PostgreSQL database; better in a variable or a file, since others"
            " see a command's arguments; repeatable, to spread sessions over several.",
            show_default="embedded in the data directory",
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Processes that serve the port; more than one need --store.",
            show_default="1",
        ),
    ] = None,
    config: Config = None,
    agent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODULE:ATTRIBUTE",
            help="An agent in Python, from the current directory or Python's path; repeatable.",
        ),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="Start the agents again when their files change; for development."
        ),
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="An origin whose pages may call with credentials; repeatable."),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(help="What running turns get when the server stops.", show_default="20"),
    ] = None,
    engine_workers: Annotated[
        int | None,
        typer.Option(help="Processes that ask models for the server.", show_default="0"),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", show_default="info")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="text or json.", show_default="text")
    ] = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM."""
    arguments = {
        "host": host,
        "port": port,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "data": data,
        "files": files,
        "store": store or None,
        "workers": workers,
        "agents": _agents(agent) if agent else None,
        "cors_origins": cors_origin or None,
        "drain_seconds": drain_seconds,
        "engine_workers": engine_workers,
        "log_level": log_level,
        "log_format": log_format,
    }
    raise typer.Exit(_serve(arguments, config, reload=reload))


def _serve(arguments: dict[str, Any], config: Path | None, *, reload: bool) -> int:
    from ..workers.main import importing, serve_here

    with importing():
        from ..config.load import load_settings, worker_count
    settings = load_settings(arguments, config).settings
    count = worker_count(settings)
    if count == 1 and not reload:
        return serve_here(arguments, config)
    with importing():
        from ..workers.parent import serve_with_workers
    return serve_with_workers(arguments, config, settings, count, reload=reload)


def show_config(
    config: Config = None,
    as_json: AsJson = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only tell what is wrong with them; the exit code is 2 then."),
    ] = False,
) -> None:
    """Show the settings in effect and where each comes from, secrets masked."""
    from ..config.load import check_settings, load_settings, unknown_variables, without_effect

    loaded = load_settings(config=config)
    if check:
        check_settings(loaded.settings)
        if loaded.settings.tls_cert and loaded.settings.tls_key:
            from ..http.serving.tls import Certificate

            Certificate(loaded.settings.tls_cert, loaded.settings.tls_key)
        return
    columns = ("setting", "value", "source")
    rows = (dict(zip(columns, row, strict=True)) for row in loaded.effective())
    show_rows(Console(), rows, columns, as_json=as_json)
    for each in unknown_variables():
        to_stderr(without_effect(*each))


def _agents(references: list[str]) -> dict[str, str]:
    agents: dict[str, str] = {}
    for text in references:
        name, equals, reference = text.partition("=")
        if not equals or not reference:
            raise UsageProblem(f"--agent {text}: write it as NAME=MODULE:ATTRIBUTE")
        if name in agents:
            raise UsageProblem(f"--agent {text}: there is one named {name!r} already")
        agents[name] = reference
    return agents
