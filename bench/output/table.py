"""One scenario as rows of text: what the terminal and RESULTS.md show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from .ratios import Spread, number, ratios, spread, values_of, verdicts

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A value beside the compared one, shown where a scenario has it."""

    name: str
    title: str
    show: Callable[[float], str] = number


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %"


COLUMNS = (
    Column("first_p99_ms", "p99 ms"),
    Column("p50_ms", "latency p50 ms"),
    Column("p99_ms", "p99 ms"),
    Column("cpu_us", "CPU µs each"),
    Column("cpu_cores", "cores"),
    Column("caught_up_ms", "caught up ms"),
    Column("idle_cores", "cores while idle"),
    Column("connect_us", "CPU µs to connect"),
    Column("took_ms", "took ms"),
    Column("frames", "frames"),
    Column("bytes_each", "bytes each"),
    Column("grown_mb", "memory grown MB"),
    Column("viewers", "viewers"),
    Column("share", "of the load", _percent),
    Column("cpu_us_whole", "CPU µs at full load"),
    Column("share_whole", "of the full load", _percent),
    Column("generator_share", "generator / server", _percent),
)


def columns_of(scenario: Result) -> list[Column]:
    runs = [run for peer in scenario["peers"].values() for run in peer["runs"]]
    present = {name for run in runs for name in run["values"]}
    return [each for each in COLUMNS if each.name in present and each.name != scenario["value"]]


def _range(found: Spread | None) -> str:
    if found is None:
        return ""
    if found.count == 1:
        return number(found.middle)
    return f"{number(found.low)} / {number(found.middle)} / {number(found.high)}"


def header_of(scenario: Result) -> list[str]:
    compared = f"{scenario['unit']} (min / med / max)"
    return ["server", compared, "ours / it", *(each.title for each in columns_of(scenario))]


def rows_of(scenario: Result, titles: dict[str, str]) -> list[list[str]]:
    """One row a peer; one that was not measured says why."""
    rows = []
    columns = columns_of(scenario)
    for name, peer in scenario["peers"].items():
        row = [titles.get(name, name)]
        if not peer["runs"]:
            why = peer["absent"] or "; ".join(dict.fromkeys(peer["failures"])) or "not measured"
            rows.append([*row, f"absent: {why}" if peer["absent"] else f"failed: {why}"])
            continue
        compared = spread(values_of(scenario, name, scenario["value"]))
        ratio = None if name == "ours" else ratios(scenario, name)
        row += [_range(compared), _range(ratio)]
        for column in columns:
            found = spread(values_of(scenario, name, column.name))
            row.append("" if found is None else column.show(found.middle))
        rows.append(row)
    return rows


def problems_of(scenario: Result, titles: dict[str, str]) -> list[str]:
    """What went wrong, peer by peer, each thing once."""
    lines = []
    for name, peer in scenario["peers"].items():
        said = [problem for run in peer["runs"] for problem in run["problems"]]
        said += peer["failures"] if peer["runs"] else []
        lines += [f"{titles.get(name, name)}: {each}" for each in dict.fromkeys(said)]
    return lines


def print_scenario(scenario: Result, titles: dict[str, str] | None = None) -> None:
    console = Console(width=None if Console().is_terminal else 200)
    table = Table(title=scenario["title"], caption=scenario["meaning"], title_justify="left")
    header = header_of(scenario)
    for index, text in enumerate(header):
        table.add_column(text, justify="left" if index == 0 else "right")
    for row in rows_of(scenario, titles or {}):
        table.add_row(*row, *[""] * (len(header) - len(row)))
    console.print(table)
    for verdict in verdicts(scenario):
        state = {None: "not measured", True: "met", False: "MISSED"}[verdict.met]
        found = "" if verdict.found is None else f" {number(verdict.found)}"
        console.print(f"  bar {verdict.text}:{found} {state}")
    for line in problems_of(scenario, titles or {}):
        console.print(f"  {line}", highlight=False)
