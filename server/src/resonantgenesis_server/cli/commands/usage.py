"""`resonantgenesis usage`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .. import values
from ..client import items
from ..options import AsJson, Data, Url, connect, to_stderr
from ..render import safe, show_rows

if TYPE_CHECKING:
    from resonantgenesis import UsageReport

_SUMS = ("turns", "input_tokens", "output_tokens", "steps", "duration_ms")


class By(StrEnum):
    """The groups of the server."""

    DAY = "day"
    AGENT = "agent"
    KEY = "key"
    SUBJECT = "subject"
    SESSION = "session"
    TURN = "turn"


_COLUMNS: dict[By, tuple[str, ...]] = {
    By.DAY: ("day", *_SUMS),
    By.AGENT: ("agent_id", *_SUMS),
    By.KEY: ("key_id", *_SUMS),
    By.SUBJECT: ("subject", *_SUMS),
    By.SESSION: ("session_id", "agent_id", *_SUMS),
    By.TURN: ("session_id", "turn", "agent_id", "status", *_SUMS[1:], "ended_at"),
}


def usage(
    by: Annotated[By, typer.Option(help="What one line is about.")] = By.DAY,
    since: Annotated[
        str | None, typer.Option(help="From when: 2h, 3d, a time or a day; else the last 30 days.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Until when; else now.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only turns of this agent.")] = None,
    key: Annotated[str | None, typer.Option(help="Only turns that this key started.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only turns of this subject.")] = None,
    session: Annotated[str | None, typer.Option(help="Only turns of this session.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many lines at most.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Tokens, steps and time of turns. A terminal also gets the sum of all lines, those beyond
    --limit included."""
    first = None if since is None else values.place(since, "--since")
    last = None if until is None else values.place(until, "--until")
    console = Console()
    reports: list[UsageReport] = []
    with connect(url, data) as client:

        def report(**page: Any) -> UsageReport:
            answer = client.usage.report(
                by.value,
                since=first,
                until=last,
                agent_id=agent,
                key_id=key,
                subject=subject,
                session_id=session,
                **page,
            )
            reports.append(answer)
            return answer

        rows = items(report, limit)
        if console.is_terminal and not as_json:
            rows = _with_total(rows, reports, _COLUMNS[by][0])
        show_rows(console, rows, _COLUMNS[by], as_json=as_json)
    if not as_json and reports and reports[0].budget:
        to_stderr(_budget(reports[0].budget))


def _with_total(
    rows: Iterator[dict[str, Any]], reports: list[UsageReport], first: str
) -> Iterator[dict[str, Any]]:
    yield from rows
    yield {**reports[0].totals.raw, first: "total"}


def _budget(budget: dict[str, Any]) -> str:
    used, of = budget.get("used_tokens"), budget.get("monthly_tokens")
    return safe(
        f"{used} of {of} tokens of {budget.get('month')} are used;"
        f" the next begin at {budget.get('resets_at')}"
    )
