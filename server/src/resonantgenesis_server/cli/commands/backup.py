"""`resonantgenesis backup`, `restore` and `verify`, of an embedded store."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from ..errors import CliError
from ..options import Config
from ..render import show_json
from .store import progress

if TYPE_CHECKING:
    from ...backup.make import Made, Report
    from ...backup.restore import Restored
    from ...backup.verify import Verified
    from ...config.settings import Settings

T = TypeVar("T")

_POSTGRES = (
    "the store is on PostgreSQL: back the database up with its own tools (pg_dump, base backups),"
    " and the content of files with those of their storage; see the page PostgreSQL"
)
DataDirectory = Annotated[
    Path | None, typer.Option(help="The server's data directory.", show_default="./data")
]
Place = Annotated[
    str, typer.Argument(metavar="DIR|s3://BUCKET/PREFIX", help="Where the backups lie.")
]
Chosen = Annotated[
    str | None,
    typer.Option("--backup", metavar="NAME", help="Which backup.", show_default="the newest"),
]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON.")]


def backup(
    place: Place,
    data: DataDirectory = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Remove older backups, so that this many stay."),
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Back the embedded store up, while its server runs: both databases as they are at one
    instant, the server's secret and first key, and the content of files that does not lie there
    yet. The exit code is 1 if content of a file could not be read."""
    from ... import stores
    from ...backup.make import make_backup, require_store

    settings = _settings(config, data)
    _refuse_own(place, settings)

    async def make(report: Report) -> Made:
        require_store(settings.data)  # first: what is opened below makes folders
        async with contextlib.AsyncExitStack() as stack:
            target = await stores.open_backup_place(place, make=True)
            stack.push_async_callback(target.close)
            files = await stores.blobs_alone(settings)
            stack.push_async_callback(files.close)
            return await make_backup(settings.data, files, target, keep=keep, report=report)

    made = _run(make)
    manifest = made.manifest
    if as_json:
        counts = {"files": len(manifest.files), "copied": made.copied, "removed": made.removed}
        show_json(
            Console(),
            {
                "name": manifest.name,
                "epoch": manifest.epoch,
                "streams": manifest.streams,
                "entries": manifest.entries,
                **counts,
            },
        )
    else:
        typer.echo(
            f"backup {manifest.name}: {manifest.streams} streams, {manifest.entries} entries,"
            f" {len(manifest.files)} files ({made.copied} new)"
        )
        if made.removed:
            typer.echo(f"removed {made.removed} older backups")
        if "secret" not in manifest.parts:
            typer.echo("the server's secret is in its settings: keep it apart from this backup")
    _warn(made.warnings, "files are not in the backup, since their content could not be read")


def restore(
    place: Place,
    data: DataDirectory = None,
    chosen: Chosen = None,
    config: Config = None,
) -> None:
    """Fill an empty data directory from a backup. The log gets a new epoch: clients that were
    ahead of the backup get POSITION_EXPIRED, and nobody takes a position for another. A restore
    that was killed is run again."""
    from ... import stores
    from ...backup.restore import restore as fill

    settings = _settings(config, data)

    async def run(report: Report) -> Restored:
        target = await stores.open_backup_place(place)
        try:
            return await fill(
                target,
                chosen,
                settings.data,
                lambda: stores.blobs_alone(settings),
                report=report,
            )
        finally:
            await target.close()

    restored = _run(run)
    manifest = restored.manifest
    typer.echo(
        f"restored backup {manifest.name} of {manifest.made_at}: {manifest.streams} streams,"
        f" {manifest.entries} entries; the log's epoch is {restored.epoch}"
    )
    if not restored.has_secret:
        typer.echo("set RESONANTGENESIS_SECRET to the secret of the store before you start it")
    typer.echo(f"start the server with --data {settings.data}")
    _warn(restored.warnings, "files have no content; all else is there")


def verify(
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR|s3://BUCKET/PREFIX", help="A place with backups, or a data directory."
        ),
    ],
    chosen: Chosen = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Read a backup, or a data directory, to its end: the integrity of both databases, positions
    without gaps, counts, and the digest of every file. The exit code is 1 if something is not
    whole."""
    from ... import stores
    from ...backup.verify import verify_backup, verify_data

    is_data = "://" not in place and (Path(place).expanduser() / "log.db").exists()
    settings = _settings(config, Path(place).expanduser()) if is_data else None

    async def run(report: Report) -> Verified:
        if settings is not None:
            files = await stores.blobs_alone(settings)
            try:
                return await verify_data(settings.data, files, report=report)
            finally:
                await files.close()
        source = await stores.open_backup_place(place)
        try:
            return await verify_backup(source, chosen, report=report)
        finally:
            await source.close()

    verified = _run(run)
    if as_json:
        show_json(
            Console(),
            {
                "what": verified.what,
                "streams": verified.streams,
                "entries": verified.entries,
                "files": verified.files,
                "problems": verified.problems,
            },
        )
    else:
        typer.echo(
            f"{verified.what}: {verified.streams} streams, {verified.entries} entries,"
            f" {verified.files} files"
        )
    for problem in () if as_json else verified.problems:
        typer.echo(f"problem: {problem}")
    if verified.problems:
        raise CliError(f"{verified.what} is not whole; restore another backup")


def _run(work: Callable[[Report], Awaitable[T]]) -> T:
    import asyncio

    from ... import stores
    from ...files.base import BlobError

    async def run(report: Report) -> T:
        return await work(report)

    try:
        with progress() as report:
            return asyncio.run(run(report))
    except (*stores.ERRORS, BlobError) as error:
        raise CliError(str(error)) from error


def _refuse_own(place: str, settings: Settings) -> None:
    """Raise CliError for a place that the server itself uses."""
    if "://" in place:
        is_own = place.rstrip("/") == settings.files.rstrip("/")
    else:
        folder = Path(place).expanduser().resolve()
        own = (settings.data.resolve(), Path(settings.files or settings.data).resolve())
        is_own = any(folder.is_relative_to(each) or folder / "files" == each for each in own)
    if is_own:
        raise CliError(f"{place} is where the server keeps its own data; name another place")


def _warn(warnings: list[str], what: str) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}")
    if warnings:
        raise CliError(f"{len(warnings)} {what}")


def _settings(config: Path | None, data: Path | None) -> Settings:
    from ...config.load import load_settings

    settings = load_settings({"data": data}, config).settings
    if settings.store:
        raise CliError(_POSTGRES)
    return settings
