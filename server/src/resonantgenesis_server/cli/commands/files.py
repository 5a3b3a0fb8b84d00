"""`resonantgenesis files …`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console

from .. import values
from ..client import PATIENCE, Patience, items
from ..errors import UsageProblem, using_file
from ..options import AsJson, Data, Limit, Url, connect, to_stderr
from ..render import one_line, show_fields, show_json, show_line, show_rows

#: Takes the number of bytes that are through, and of all bytes, None if unknown.
OnProgress = Callable[[int, int | None], object]

app = typer.Typer(no_args_is_help=True, help="Upload, download, list and delete files.")

_COLUMNS = ("id", "name", "size", "content_type", "created_at")
_SHOWN = ("id", "name", "size", "content_type", "sha256")
_STANDARD = Path("-")
FileId = Annotated[
    str, typer.Argument(metavar="FILE", parser=values.identifier, help="The file's id.")
]


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
    """Upload a file, whole or not at all. A pipe gets its id alone."""
    called = name or path.name
    patience = Patience(PATIENCE, to_stderr, "connection lost, sending it again", reached=False)
    with (
        connect(url, data, patient=True) as client,
        _opened(path, name) as source,
        _bar(called) as on_progress,
    ):
        uploaded = client.files.upload(
            source,
            name=called,
            content_type=content_type,
            subject=subject,
            on_progress=on_progress,
            on_reconnect=patience,
        )
    file = uploaded.raw
    console = Console()
    if as_json:
        show_json(console, file)
    elif console.is_terminal:
        show_fields(console, {field: file.get(field) for field in _SHOWN})
    else:
        show_line(console, str(file["id"]))


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
    """Download a file and write its path. The file is put in its place once it is whole."""
    with connect(url, data) as client:
        file = client.files.get(file_id)
    patience = Patience(PATIENCE, to_stderr, "connection lost, trying again")
    with connect(url, data, patient=True) as client, _bar(file.name) as on_progress:
        if to == _STANDARD:
            for block in client.files.stream(file, on_progress=on_progress, on_reconnect=patience):
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            return
        with using_file(to):
            try:
                target = client.files.download(
                    file, to, replace=force, on_progress=on_progress, on_reconnect=patience
                )
            except FileExistsError as error:
                raise UsageProblem(
                    f"{error.filename} exists; name another path, or --force to replace it"
                ) from error
    show_line(Console(), str(target))


@app.command("ls")
def list_files(
    session: Annotated[str | None, typer.Option(help="Only those made in this session.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Files, newest first."""
    with connect(url, data) as client:
        list_page = partial(client.files.list, session_id=session)
        show_rows(Console(), items(list_page, limit), _COLUMNS, as_json=as_json)


@app.command()
def rm(
    file_ids: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", parser=values.identifier, help="The files' ids."),
    ],
    url: Url = None,
    data: Data = None,
) -> None:
    """Delete files."""
    with connect(url, data) as client:
        for file_id in file_ids:
            client.files.delete(file_id)


@contextlib.contextmanager
def _opened(path: Path, name: str | None) -> Iterator[BinaryIO]:
    """The file, open for reading. Raises UsageProblem."""
    if path == _STANDARD:
        if not name:
            raise UsageProblem("what comes from the standard input needs a --name")
        yield sys.stdin.buffer
        return
    with using_file(path):
        file = path.open("rb")
    with file:
        yield file


@contextlib.contextmanager
def _bar(name: str) -> Iterator[OnProgress | None]:
    """A progress bar on a terminal, removed at the end; None elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich import progress as bars

    columns: list[bars.ProgressColumn] = [
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    ]
    with bars.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(one_line(name, 40), total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size)
