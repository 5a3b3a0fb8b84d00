"""`resonantgenesis store`: the server's stores, made, upgraded and looked at without a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import CliError, NetworkError, UsageProblem
from ..options import Config, to_stderr

if TYPE_CHECKING:
    from ...config.settings import Settings
    from ...store_copy import Copied, Report, StorePlace

app = typer.Typer(no_args_is_help=True, help="The server's store: made, upgraded, checked, copied.")

Store = Annotated[
    list[str] | None,
    typer.Option(
        help="Address of a PostgreSQL database, postgresql://…; better in RESONANTGENESIS_STORE or"
        " its file, since others see a command's arguments; repeatable, in the store's order.",
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
def compact(config: Config = None, store: Store = None, data: DataDirectory = None) -> None:
    """Give the disk back what deletions have freed, while the server is stopped. A running server
    uses that space itself. It needs as much free space as the store has."""
    from ... import stores

    try:
        line = stores.compact(_settings(config, store, data))
    except stores.ERRORS as error:
        raise _failed(error) from error
    typer.echo(line)


@app.command()
def check(config: Config = None, store: Store = None, data: DataDirectory = None) -> None:
    """Look whether this program can use the store; nothing is changed."""
    from ... import stores

    settings = _settings(config, store, data)
    try:
        report = stores.check(settings)
    except stores.ERRORS as error:
        raise _failed(error) from error
    for line in (*report.lines, *(f"warning: {warning}" for warning in report.warnings)):
        typer.echo(line)


@app.command()
def copy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help="sqlite:DIR or postgresql://…; several databases as one word, by comma.",
        ),
    ],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="An empty one, or one whose copy broke off.")
    ],
    files: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|s3://BUCKET/PREFIX",
            help="Copy the content of files as well, to here.",
            show_default="it stays where it is",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Copy everything from a stopped store into an empty one, and compare both. Positions and
    cursors stay valid. Repeat the command to go on with a copy that broke off. The exit code is 1
    if the content of a file could not be read."""
    import asyncio

    from ... import store_copy, stores
    from ...files.base import BlobError

    try:
        places = store_copy.StorePlace.parse(source), store_copy.StorePlace.parse(target)
    except ValueError as error:
        raise UsageProblem(f"FROM or TO {error}") from error
    settings = _settings(config, None, places[0].data)
    try:
        with progress() as report:
            copied = asyncio.run(_copy(*places, settings, files, report))
    except (*stores.ERRORS, BlobError) as error:
        raise _failed(error) from error
    typer.echo(
        f"copied and compared {copied.streams} streams, {copied.entries} entries and"
        f" {copied.rows} records"
    )
    for line in (*copied.lines, *(f"warning: {warning}" for warning in copied.warnings)):
        typer.echo(line)
    if lost := len(copied.warnings):
        raise CliError(
            f"{lost} files have no content in the new store, since it could not be read; all else"
            " is there"
        )


async def _copy(
    source: StorePlace, target: StorePlace, settings: Settings, files: str | None, report: Report
) -> Copied:
    from ... import store_copy, stores

    secret = None if settings.secret is None else settings.secret.get_secret_value()
    async with contextlib.AsyncExitStack() as stack:
        blobs = None
        if files is not None:
            old, _ = await stores.open_blobs(settings.model_copy(update={"files_presigned": 0}))
            stack.push_async_callback(old.close)
            new, _ = await stores.open_blobs(
                settings.model_copy(update={"files_presigned": 0, "files": files})
            )
            stack.push_async_callback(new.close)
            blobs = old, new
        copied = await store_copy.copy_store(
            source, target, secret=secret, report=report, files=blobs
        )
    where = files or settings.files or str(settings.data / "files")
    copied.lines.append(
        f"the content of files lies in {where}: set RESONANTGENESIS_FILES to it on every node"
    )
    return copied


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Bars on a terminal, else a line for each phase."""
    console = Console(stderr=True)
    if not console.is_terminal:
        said: set[str] = set()

        def say(phase: str, done: int, total: int) -> None:
            if done >= total and phase not in said:
                said.add(phase)
                to_stderr(f"{phase}: {done} of {total}")

        yield say
        return
    from rich import progress as bars

    columns: list[bars.ProgressColumn] = [
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    ]
    with bars.Progress(*columns, console=console) as progress:
        tasks: dict[str, bars.TaskID] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
            progress.update(tasks[phase], completed=done, total=total)

        yield show


def _make_or_upgrade(settings: Settings) -> None:
    from ... import stores

    try:
        line = stores.make_or_upgrade(settings)
    except stores.ERRORS as error:
        raise _failed(error) from error
    typer.echo(line)


def _failed(error: Exception) -> CliError:
    cause = error.__cause__
    if not isinstance(cause, OSError):  # as a TimeoutError is
        return CliError(str(error))
    reason = str(cause) or "no answer in time"
    return NetworkError(
        f"{error} ({reason}); see whether it runs, and whether --store or RESONANTGENESIS_STORE"
        " names it"
    )


def _settings(config: Path | None, store: list[str] | None, data: Path | None) -> Settings:
    from ...config.load import load_settings

    return load_settings({"store": store or None, "data": data}, config).settings
