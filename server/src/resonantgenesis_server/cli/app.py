"""The command `resonantgenesis`: its commands, its errors in one line, its exit codes."""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import Abort, TyperException

from ..logging.startup import StartupError
from .errors import UNWRITABLE, CliError
from .render import show_text

#: As a shell reports a program that SIGINT ended.
_INTERRUPTED = 130

#: By its name, in the order of the help: its function, or its group of commands.
_COMMANDS: Mapping[str, str] = {
    "serve": ".serve:serve",
    "config": ".serve:show_config",
    "demo": ".demo:demo",
    "doctor": ".doctor.command:doctor",
    "chat": ".chat:chat",
    "console": ".commands.console:console",
    "sessions": ".commands.sessions:app",
    "events": ".commands.events:app",
    "files": ".commands.files:app",
    "agents": ".commands.agents:app",
    "teams": ".commands.teams:app",
    "keys": ".commands.keys:app",
    "webhooks": ".commands.webhooks:app",
    "tokens": ".commands.tokens:app",
    "organizations": ".commands.organizations:app",
    "rotate-secret": ".commands.rotate_secret:rotate_secret",
    "subjects": ".commands.subjects:app",
    "usage": ".commands.usage:usage",
    "nodes": ".commands.nodes:nodes",
    "workers": ".commands.workers:workers",
    "store": ".commands.store:app",
    "backup": ".commands.backup:backup",
    "restore": ".commands.backup:restore",
    "verify": ".commands.backup:verify",
}


def _show_version(is_set: bool) -> None:
    if is_set:
        from importlib.metadata import version

        typer.echo(f"resonantgenesis {version('resonantgenesis-server')}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def make_app(words: Sequence[str] = ()) -> typer.Typer:
    """The command that the words name, or all commands: to import and build all of them takes
    longer than most commands."""
    app = typer.Typer(
        name="resonantgenesis",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="ResonantGenesis Streaming: the server and its command line. New here? Begin with"
        " `resonantgenesis demo`.",
        epilog="Exit codes: 0 done, 1 the server or a turn failed, 2 usage or configuration,"
        " 3 authentication, 4 network, 5 not found.",
    )
    app.callback()(_options)
    first = next((word for word in words if not word.startswith("-")), None)
    names = list(_COMMANDS) if first is None or first not in _COMMANDS else [first]
    for name in names:
        module, _, attribute = _COMMANDS[name].partition(":")
        command = getattr(importlib.import_module(module, __package__), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, short_help=_in_short(command))(command)
    return app


def _in_short(command: object) -> str:
    """What a command does, up to the details: its line in the list of commands."""
    text = " ".join((inspect.getdoc(command) or "").split())
    return re.split(r"[.:](?: |$)", text)[0] + "."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; `arguments` default to the process's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = make_app(words)(words, prog_name="resonantgenesis", standalone_mode=False)
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
