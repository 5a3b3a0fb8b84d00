"""Two pictures: ours against each peer, and latency against load."""

from __future__ import annotations

import math
from typing import Any

from .ratios import Spread, number, ratios
from .svg import COLOURS, Svg

Result = dict[str, Any]

_LEFT, _WIDTH, _ROW = 330, 900, 24
#: Ratios beyond are drawn at the edge.
_LEAST, _MOST = 1 / 64, 8.0


def ratio_picture(report: Result) -> str | None:
    """One bar a scenario and peer, on a logarithmic scale around 1; None without any."""
    rows = _ratio_rows(report)
    if not rows:
        return None
    height = _ROW * (len(rows) + 3)
    svg = Svg(_WIDTH, height)
    svg.label(10, 22, "Ours / peer, median of repeats; left of 1 ours is better")
    for tick in (1 / 64, 1 / 16, 1 / 4, 1.0, 4.0):
        svg.line(_x(tick), 34, _x(tick), height - 24, "#374151" if tick == 1 else "#e5e7eb")
        name = f"{tick:g}" if tick >= 1 else f"1/{1 / tick:.0f}"
        svg.label(_x(tick), height - 8, name, "middle")
    for index, (title, found) in enumerate(rows):
        y = 40 + index * _ROW
        if found is None:
            svg.label(10, y + 14, title, colour="#111827")
            continue
        svg.label(_LEFT - 10, y + 14, title, "end", "#4b5563")
        better = found.middle <= 1
        low, high = sorted((_x(found.middle), _x(1.0)))
        svg.box(low, y + 3, high - low, 14, "#059669" if better else "#d97706")
        svg.line(_x(found.low), y + 10, _x(found.high), y + 10, "#111827")
        svg.label(max(high, _x(found.high)) + 6, y + 14, number(found.middle))
    return svg.text()


def _ratio_rows(report: Result) -> list[tuple[str, Spread | None]]:
    """Scenario titles (without a ratio), each followed by its peers; less is better in all."""
    rows: list[tuple[str, Spread | None]] = []
    for scenario in report["scenarios"]:
        found = [
            (report["titles"].get(name, name), ratios(scenario, name))
            for name in scenario["peers"]
            if name != "ours"
        ]
        shown = [(title, _turned(each, scenario)) for title, each in found if each is not None]
        if shown:
            rows += [(scenario["title"], None), *shown]
    return rows


def _turned(found: Spread, scenario: Result) -> Spread:
    """Where more is better, the peer's share of ours, so that left is better everywhere."""
    if not scenario["more_is_better"]:
        return found
    return Spread(1 / found.high, 1 / found.middle, 1 / found.low, found.count)


def _x(ratio: float) -> float:
    inside = min(max(ratio, _LEAST), _MOST)
    share = math.log(inside / _LEAST) / math.log(_MOST / _LEAST)
    return _LEFT + share * (_WIDTH - _LEFT - 60)


def load_picture(report: Result) -> str | None:
    """p99 against load for each peer that was raised until it broke; None if none was."""
    lines = {
        report["titles"].get(name, name): sorted(map(tuple, peer["runs"][-1]["points"]))
        for scenario in report["scenarios"]
        for name, peer in scenario["peers"].items()
        if peer["runs"] and peer["runs"][-1]["points"]
    }
    if not lines:
        return None
    most = max(load for points in lines.values() for load, *_ in points)
    svg = Svg(_WIDTH, 460)
    svg.label(
        10,
        22,
        "p99 from append to socket (ms) against tokens/s; dashed: 250 ms; hollow: not carried",
    )

    def place(load: float, p99: float) -> tuple[float, float]:
        inside = min(max(p99, 0.1), 10_000.0)
        x = 70 + load / most * (_WIDTH - 280)
        return x, 410 - math.log10(inside / 0.1) / 5 * 370

    for tick in (0.1, 1, 10, 100, 1_000, 10_000):
        y = place(0, tick)[1]
        svg.line(70, y, _WIDTH - 210, y, "#e5e7eb")
        svg.label(62, y + 4, f"{tick:g}", "end")
    svg.line(*place(0, 250), *place(most, 250), "#dc2626", "6 4")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        svg.label(place(most * share, 0)[0], 432, number(most * share) if share else "0", "middle")
    for index, (title, points) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        svg.path([place(load, p99) for load, p99, _ in points], colour)
        for load, p99, is_carried in points:
            svg.dot(*place(load, p99), colour, hollow=not is_carried)
        svg.label(_WIDTH - 200, 60 + index * 20, title, colour=colour)
    return svg.text()
