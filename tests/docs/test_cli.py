"""The page on the command line names every command that there is, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from resonantgenesis_server.cli.app import make_app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def commands_of(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(group, "commands"):
        yield " ".join(path)
        return
    for name, command in group.commands.items():
        yield from commands_of(command, (*path, name))


def test_every_command_is_described() -> None:
    commands = set(commands_of(typer.main.get_command(make_app())))
    rows = re.findall(r"^\| (`.+?`) \| [A-Z]", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    shown = re.findall(r"`([^`]+)`", " ".join(rows))
    for command in commands:
        assert any(f"{line} ".startswith(f"{command} ") for line in shown), command
    for line in shown:
        assert any(f"{line} ".startswith(f"{command} ") for command in commands), line
