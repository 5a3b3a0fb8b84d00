"""`resonantgenesis files …`."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..errors import UsageProblem
from ..options import AsJson, Data, Url, connect, to_stderr
from ..render import one_line, show_fields, show_json, show_line, show_rows
from ..transfers import FILES, Moved, Outgoing, file_path

app = typer.Typer(no_args_is_help=True, help="Upload, download, list and delete files.")

_COLUMNS = ("id", "name", "size", "content_type", "created_at")
_SHOWN = ("id", "name", "size", "content_type", "sha256")
_STANDARD = Path("-")
_NO_NAMES = frozenset({"", ".", ".."})
FileId = Annotated[str, typer.Argument(metavar="FILE", help="The file's id.")]


@app.command()
def put(
    path: Annotated[Path, typer.Argument(help="What to upload; `-`: the standard input.")],
    name: Annotated[str | None, typer.Option(help="What to call it; else as it is here.")] = None,
    content_type: Annotated[
        str | None, typer.Option("--type", help="Its content type; else by the name's ending.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="The end user it belongs to.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Upload a file, whole or not at all. In a pipe its id alone is written."""
    with connect(url, data, to_stderr) as client, _outgoing(path, name) as (file, size):
        called = name or path.name
        outgoing = Outgoing(file, called, size, content_type, subject)
        with _bar(called, size) as moved:
            made = client.transfers().upload(outgoing, moved)
    console = Console()
    if as_json:
        show_json(console, made)
    elif console.is_terminal:
        show_fields(console, {field: made.get(field) for field in _SHOWN})
    else:
        show_line(console, str(made["id"]))


@app.command()
def get(
    file_id: FileId,
    to: Annotated[
        Path,
        typer.Argument(help="Where to: a path, a directory, or `-` for the standard output."),
    ] = Path(),
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there already.")
    ] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Download a file; it is in its place once it is whole. Writes where it is."""
    with connect(url, data, to_stderr) as client:
        file = client.call("GET", file_path(file_id))
        called = _local_name(str(file["name"]))
        with _bar(called, int(file["size"])) as moved:
            if to == _STANDARD:
                client.transfers().download(file, sys.stdout.buffer, moved)
                sys.stdout.buffer.flush()
                return
            target = to / called if to.is_dir() else to
            if target.exists() and not force:
                raise UsageProblem(f"{target} exists; name another path, or --force to replace it")
            with _beside(target) as part:
                client.transfers().download(file, part, moved)
    show_line(Console(), str(target))


@app.command("ls")
def list_files(
    session: Annotated[str | None, typer.Option(help="Only those made in this session.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Files, newest first."""
    with connect(url, data) as client:
        rows = client.pages(FILES, {"session_id": session}, limit)
        show_rows(Console(), rows, _COLUMNS, as_json=as_json)


@app.command()
def rm(
    file_ids: Annotated[list[str], typer.Argument(metavar="FILE...", help="The files' ids.")],
    url: Url = None,
    data: Data = None,
) -> None:
    """Delete files."""
    with connect(url, data) as client:
        for file_id in file_ids:
            client.call("DELETE", file_path(file_id))


@contextlib.contextmanager
def _outgoing(path: Path, name: str | None) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file and its size. Raises UsageProblem."""
    if path == _STANDARD:
        if not name:
            raise UsageProblem("what comes from the standard input needs a --name")
        yield sys.stdin.buffer, None
        return
    with _told(path):
        file = path.open("rb")
    with file:
        yield file, path.stat().st_size


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `target` when the block is over, and is gone if it fails."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with _told(target):
            file = part.open("xb")
        with file:
            yield file
        with _told(target):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageProblem(f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _bar(name: str, size: int | None) -> Iterator[Moved]:
    """A progress bar on the terminal, which leaves when it is done; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _unseen
        return
    columns: list[Any] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(one_line(name, 40), total=size)
        yield lambda done: progress.update(task, completed=done)


def _unseen(_: int) -> None:
    """For a bar that nobody sees."""


def _local_name(name: str) -> str:
    """What the file is called here: never a path, whatever the server says."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "")
    return "download" if last in _NO_NAMES else last
