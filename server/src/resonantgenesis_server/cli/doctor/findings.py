"""The findings of the doctor, and their lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.console import Console

from ..render import show_json, show_line


class Level(StrEnum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check; `next` is the next step, unless all is well."""

    check: str
    level: Level
    message: str
    next: str = ""


def ok(check: str, message: str) -> Finding:
    return Finding(check, Level.OK, message)


def warn(check: str, message: str, todo: str) -> Finding:
    return Finding(check, Level.WARN, message, todo)


def fail(check: str, message: str, todo: str) -> Finding:
    return Finding(check, Level.FAIL, message, todo)


def show(console: Console, finding: Finding, *, as_json: bool) -> None:
    """A line for the finding, and one for the next step."""
    if as_json:
        show_json(console, asdict(finding))
        return
    style = _STYLES[finding.level] if console.is_terminal else None
    text = " ".join(finding.message.split())
    show_line(console, f"{finding.level:<4}  {finding.check:<13}  {text}", style)
    if finding.next:
        show_line(console, f"{'':<21}-> {' '.join(finding.next.split())}")


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything failed."""
    return int(any(finding.level is Level.FAIL for finding in findings))
