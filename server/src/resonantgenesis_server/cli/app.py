"""The command `resonantgenesis`: its commands, its errors in one line, its exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import Abort, TyperException

from ..logging.startup import StartupError
from . import chat, demo, serve
from .commands import (
    agents,
    backup,
    console,
    events,
    files,
    keys,
    nodes,
    organizations,
    sessions,
    store,
    teams,
    tokens,
    usage,
    webhooks,
    workers,
)
from .doctor.command import doctor
from .errors import UNWRITABLE, CliError
from .render import show_text

#: As a shell reports a program that SIGINT ended.
_INTERRUPTED = 130

app = typer.Typer(
    name="resonantgenesis",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="ResonantGenesis Streaming: the server and its command line. New here? Begin with"
    " `resonantgenesis demo`.",
    epilog="Exit codes: 0 done, 1 the server or a turn failed, 2 usage or configuration,"
    " 3 authentication, 4 network, 5 not found.",
)
app.command("serve")(serve.serve)
app.command("config")(serve.show_config)
app.command("demo")(demo.demo)
app.command("doctor")(doctor)
app.command("chat")(chat.chat)
app.command("console")(console.console)
app.add_typer(sessions.app, name="sessions")
app.add_typer(events.app, name="events")
app.add_typer(files.app, name="files")
app.add_typer(agents.app, name="agents")
app.add_typer(teams.app, name="teams")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(tokens.app, name="tokens")
app.add_typer(organizations.app, name="organizations")
app.command("usage")(usage.usage)
app.command("nodes")(nodes.nodes)
app.command("workers")(workers.workers)
app.add_typer(store.app, name="store")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("verify")(backup.verify)


def _show_version(is_set: bool) -> None:
    if is_set:
        from importlib.metadata import version

        typer.echo(f"resonantgenesis {version('resonantgenesis-server')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; `arguments` default to the process's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(words, prog_name="resonantgenesis", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # at the interpreter's end it is too late for a message
    except (CliError, StartupError) as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        # A command without its subcommand has shown its help. No message follows.
        if not (message := error.format_message().strip()):
            return error.exit_code
        return _fail(f"{message} (see `resonantgenesis --help`)", error.exit_code)
    except (Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return _unwritable(error.errno)
    return code if isinstance(code, int) else 0


def _unwritable(number: int) -> int:
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the end
    if number == errno.EPIPE:  # the reader has all that it wanted
        return 1
    reason = os.strerror(number)
    return _fail(f"the output cannot be written ({reason}); make room, or write elsewhere", 1)


def _fail(message: str, code: int) -> int:
    console = Console(stderr=True)
    try:
        show_text(console, "resonantgenesis: " + " ".join(message.split()), "red")
    except OSError:  # a full disk or a closed pipe: the exit code says enough
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the end
    return code
