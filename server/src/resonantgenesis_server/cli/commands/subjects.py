"""`resonantgenesis subjects …`, and how the command line erases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..errors import UsageProblem
from ..options import AsJson, Data, Url, connect
from ..render import show_json, show_line

if TYPE_CHECKING:
    from resonantgenesis import Erased

app = typer.Typer(
    no_args_is_help=True,
    help="What belongs to one end user. Needs the scope subjects:write.",
)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can answer.")]


@app.command()
def delete(
    subject: Annotated[str, typer.Argument(help="The end user, as tokens and sessions name it.")],
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Delete the sessions and files of an end user, take the name from the usage, and report what
    was deleted. Run it again after a break: nothing is deleted twice. Events that name the user go
    when their time is over."""
    confirm(f"All sessions and files of {subject} will be deleted for good. Go on?", yes)
    with connect(url, data) as client:
        erased = erase(lambda: client.subjects.delete(subject))
    show_erased(erased, f"subject {subject}", as_json=as_json)


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost. Raises UsageProblem where nobody can be asked."""
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageProblem("this deletes for good; give --yes where nobody can be asked")
    typer.confirm(question, abort=True, err=True)


def erase(some: Callable[[], Erased]) -> dict[str, Any]:
    """Call `some` until nothing is left; what was erased in all."""
    total: dict[str, int] = {}
    while True:
        erased = some()
        counts = dict(erased.raw)
        has_more, named_until = counts.pop("has_more"), counts.pop("named_until", None)
        total = {name: total.get(name, 0) + count for name, count in counts.items()}
        if not has_more:
            return {**total, "named_until": named_until}


def show_erased(erased: dict[str, Any], whose: str, *, as_json: bool) -> None:
    if as_json:
        show_json(Console(), erased)
        return
    show_line(
        Console(),
        f"deleted {whose}: {erased['sessions']} sessions, {erased['files']} other files;"
        f" {erased['usage']} turns in the usage name nobody any more",
    )
    if erased["named_until"] is not None:
        show_line(
            Console(),
            f"events cannot be changed: those up to now may name {whose} until they are trimmed,"
            f" after {erased['named_until']}",
        )
