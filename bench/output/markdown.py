"""RESULTS.md, rendered from the JSON file and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ratios import number, verdicts
from .table import header_of, problems_of, rows_of

Result = dict[str, Any]

_STATES = {None: "not measured", True: "met", False: "**missed**"}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    width = len(header)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * width]
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row] + [""] * (width - len(row))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _machine(report: Result) -> list[str]:
    machine, versions = report["machine"], report["versions"]
    rows = [[name, str(value)] for name, value in machine.items()]
    rows += [
        [
            report["titles"].get(name, name),
            f"{version} ({report['durability'].get(name, '')})".strip(),
        ]
        for name, version in versions.items()
    ]
    return ["## Taken on", "", *_table(["what", ""], rows)]


def _bars(report: Result) -> list[str]:
    rows = [
        [
            scenario["title"],
            verdict.text,
            "" if verdict.found is None else number(verdict.found),
            _STATES[verdict.met],
        ]
        for scenario in report["scenarios"]
        for verdict in verdicts(scenario)
    ]
    return ["## Bars", "", *_table(["scenario", "bar", "found (median)", ""], rows)] if rows else []


def _scenario(scenario: Result, titles: dict[str, str]) -> list[str]:
    lines = [f"## {scenario['title']}", "", f"Compared: {scenario['meaning']}."]
    lines += ["", *_table(header_of(scenario), rows_of(scenario, titles))]
    problems = problems_of(scenario, titles)
    return lines + (["", *(f"- {each}" for each in problems)] if problems else [])


def render(report: Result, pictures: Sequence[str]) -> str:
    """The whole page. The ratios are the result; absolute times only illustrate."""
    lines = [
        "# Results",
        "",
        f"`{report['command']}`, {report['date']}, {report.get('seconds', 0)} s. The ratios are the"
        " result: ours divided by the peer's in the same repeat, least, middle and greatest."
        " Absolute times only illustrate. [README.md](README.md) says how it is measured.",
        "",
        *(f"![{name.partition('.')[0]}]({name})" for name in pictures),
        "",
        *_bars(report),
        "",
    ]
    for scenario in report["scenarios"]:
        lines += [*_scenario(scenario, report["titles"]), ""]
    return "\n".join([*lines, *_machine(report), ""])
