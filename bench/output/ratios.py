"""Ratios of ours to each peer, run by run, and whether the bars are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, middle and greatest over repeats."""

    low: float
    middle: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(min(values), median(values), max(values), len(values))


def values_of(scenario: Result, peer: str, name: str) -> list[float]:
    runs = scenario["peers"].get(peer, {"runs": []})["runs"]
    return [run["values"][name] for run in runs if name in run["values"]]


def ratios(scenario: Result, peer: str, name: str | None = None) -> Spread | None:
    """Ours divided by the peer's, paired by repeat: both stood in the same minute."""
    value = name or scenario["value"]
    ours, theirs = (_by_round(scenario, name, value) for name in ("ours", peer))
    return spread([ours[each] / theirs[each] for each in ours if theirs.get(each, 0) > 0])


def _by_round(scenario: Result, peer: str, name: str) -> dict[int, float]:
    runs = scenario["peers"].get(peer, {"runs": []})["runs"]
    return {run["round"]: run["values"][name] for run in runs if name in run["values"]}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar and what was measured; `found` is None when it was not."""

    text: str
    found: float | None
    met: bool | None


def verdicts(scenario: Result) -> list[Verdict]:
    return [_verdict(scenario, bar) for bar in scenario["bars"]]


def _verdict(scenario: Result, bar: Result) -> Verdict:
    sign, unit = ("≥" if bar["at_least"] else "≤"), scenario["unit"]
    if bar["peer"] is None:
        found = spread(values_of(scenario, "ours", bar["value"]))
        text = f"{sign} {bar['limit']:g} {unit}"
    else:
        found = ratios(scenario, bar["peer"], bar["value"])
        text = f"{sign} {bar['limit']:g} × {bar['peer']}"
    if found is None:
        return Verdict(text, None, None)
    is_met = found.middle >= bar["limit"] if bar["at_least"] else found.middle <= bar["limit"]
    return Verdict(text, found.middle, is_met)


def number(value: float) -> str:
    """Three figures that say something, thousands apart."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
