"""`python -m bench`: what `make bench` and `make bench-full` call."""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .harness.machine import describe
from .harness.paths import BENCH, WORK
from .harness.process import raise_file_limit
from .output.markdown import render
from .output.pictures import load_picture, ratio_picture
from .output.table import print_scenario
from .peers.registry import PEERS
from .runner import Campaign, peers_of, say
from .scenarios.base import Scale, Scenario
from .scenarios.registry import SCENARIOS

#: Seconds after which the quick run begins no further repeat; setting up takes its part.
QUICK_BUDGET = 540.0


def _arguments(given: list[str]) -> argparse.Namespace:
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every peer, longer, more repeats")
    parser.add_argument("--scenario", default="", help=f"some of: {names}")
    parser.add_argument(
        "--peers", default="", help="some of: " + ", ".join(peer.name for peer in PEERS)
    )
    parser.add_argument("--repeats", type=int, help="instead of the scenario's own number")
    parser.add_argument("--budget", type=float, help="seconds after which no repeat begins")
    parser.add_argument("--out", type=Path, default=WORK / "results", help="where results go")
    parser.add_argument(
        "--record", action="store_true", help="write bench/RESULTS.md and its pictures as well"
    )
    parser.add_argument("--render", type=Path, help="only render this JSON file again")
    return parser.parse_args(given)


def _chosen(text: str, scale: Scale) -> list[Scenario]:
    """Those named; else all, or for the quick run those with a quick part."""
    wanted = [name for name in text.split(",") if name]
    unknown = set(wanted) - {scenario.name for scenario in SCENARIOS}
    if unknown:
        raise SystemExit(f"no such scenario: {', '.join(sorted(unknown))}")
    if wanted:
        return [each for each in SCENARIOS if each.name in wanted]
    return [each for each in SCENARIOS if scale.full or each.quick_repeats > 0]


def _write(report: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    pictures = {"ratios.svg": ratio_picture(report), "load.svg": load_picture(report)}
    for name, picture in pictures.items():
        if picture is not None:
            (out / name).write_text(picture)
        else:
            (out / name).unlink(missing_ok=True)
    (out / "RESULTS.md").write_text(
        render(report, pictures=[name for name, each in pictures.items() if each is not None])
    )


def main(given: list[str] | None = None) -> int:
    options = _arguments(sys.argv[1:] if given is None else given)
    if options.render is not None:
        given_report: dict[str, Any] = json.loads(options.render.read_text())
        for each in given_report["scenarios"]:
            print_scenario(each, given_report["titles"])
        _write(given_report, BENCH if options.record else options.out)
        return 0
    scale = Scale(full=options.full)
    only = [name for name in options.peers.split(",") if name] or None
    unknown = set(only or ()) - {peer.name for peer in PEERS}
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}")
    raise_file_limit()
    campaign = Campaign(scale, options.budget or (math.inf if options.full else QUICK_BUDGET))
    report = _head(options)
    work = []
    for scenario in _chosen(options.scenario, scale):
        own = scenario.full_repeats if scale.full else scenario.quick_repeats
        peers = peers_of(scenario, full=scale.full or scenario.quick_repeats == 0, only=only)
        work.append((scenario, peers, options.repeats or max(own, 1)))

    def changed(result: dict[str, Any]) -> None:
        if result not in report["scenarios"]:
            report["scenarios"].append(result)
        report["seconds"] = round(campaign.elapsed())
        _write(report, options.out)

    for result in campaign.run(work, changed):
        print_scenario(result, report["titles"])
    if options.record:
        _write(report, BENCH)
    say(f"{report['seconds']} s; results in {options.out}")
    return 0 if _ours_was_measured(report) else 1


def _head(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": _command(options),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": describe(),
        "versions": {peer.name: peer.version() for peer in PEERS if peer.absent() is None},
        "titles": {peer.name: peer.title for peer in PEERS},
        "durability": {peer.name: peer.durability for peer in PEERS},
        "scenarios": [],
        "seconds": 0,
    }


def _command(options: argparse.Namespace) -> str:
    parts = ["make", "bench-full" if options.full else "bench"]
    if options.scenario:
        parts.insert(0, f"SCENARIO={options.scenario}")
    if options.peers:
        parts.insert(0, f"PEERS={options.peers}")
    given = [("repeats", options.repeats), ("budget", options.budget)]
    args = [f"--{name} {value:g}" for name, value in given if value]
    if args:
        parts.append(f'ARGS="{" ".join(args)}"')
    return " ".join(parts)


def _ours_was_measured(report: dict[str, Any]) -> bool:
    return all(
        each["peers"]["ours"]["runs"] or each["peers"]["ours"]["absent"]
        for each in report["scenarios"]
    )
