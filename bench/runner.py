"""Runs scenarios: every peer once, then every peer again, so that drift meets all alike."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .harness.paths import WORK
from .harness.process import BenchError
from .peers.base import Peer
from .peers.registry import PEERS
from .scenarios.base import Measurement, Scale, Scenario

Result = dict[str, Any]


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def peers_of(scenario: Scenario, *, full: bool, only: Sequence[str] | None) -> list[Peer]:
    """Ours and the scenario's peers, or of those the ones asked for."""
    names = {*scenario.quick, *(scenario.full if full or only else ())}
    if only:
        names &= set(only)
    return [peer for peer in PEERS if peer.name == "ours" or peer.name in names]


def empty_result(scenario: Scenario, peers: list[Peer]) -> Result:
    """A scenario as it stands in the JSON file, before anything was run."""
    bars = [{**asdict(bar), "value": bar.value or scenario.value} for bar in scenario.bars]
    return {
        "name": scenario.name,
        "title": scenario.title,
        "value": scenario.value,
        "unit": scenario.unit,
        "meaning": scenario.meaning,
        "more_is_better": scenario.more_is_better,
        "bars": bars,
        "peers": {
            peer.name: {"runs": [], "failures": [], "absent": peer.absent()} for peer in peers
        },
    }


def run_round(
    scenario: Scenario, peers: list[Peer], scale: Scale, result: Result, number: int
) -> float:
    """Every peer once; returns the seconds it took."""
    began = time.monotonic()
    for peer in peers:
        found = result["peers"][peer.name]
        if found["absent"] is not None or _is_hopeless(found):
            continue
        say(f"  {scenario.name}: {peer.title}")
        _run_once(scenario, peer, scale, found, number)
    return time.monotonic() - began


@dataclass(slots=True)
class Campaign:
    """Scenarios in rounds: each once, then each that is to be repeated once more, and so on, so
    that repeats lie minutes apart; a round that would outrun the budget is left out."""

    scale: Scale
    budget: float
    _began: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def run(
        self, work: list[tuple[Scenario, list[Peer], int]], changed: Callable[[Result], None]
    ) -> list[Result]:
        """`work`: scenarios with their peers and repeats. `changed` is called after each round."""
        results = [empty_result(scenario, peers) for scenario, peers, _ in work]
        took = [0.0] * len(work)
        for number in range(max(repeats for _, _, repeats in work)):
            for index, (scenario, peers, repeats) in enumerate(work):
                if number >= repeats:
                    continue
                if number > 0 and self.elapsed() + took[index] > self.budget:
                    say(f"  {scenario.name}: no time for repeat {number + 1}")
                    continue
                say(f"{scenario.title}, repeat {number + 1} of {repeats}")
                took[index] = run_round(scenario, peers, self.scale, results[index], number)
                changed(results[index])
        return results


def _is_hopeless(result: Result) -> bool:
    """Twice tried and never measured."""
    return len(result["failures"]) >= 2 and not result["runs"]


def _run_once(scenario: Scenario, peer: Peer, scale: Scale, result: Result, number: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=WORK))
    began = time.monotonic()
    try:
        measured = _measure(scenario, peer, scale, directory)
    except (BenchError, OSError) as error:
        say(f"    not measured: {error}")
        result["failures"].append(str(error))
    else:
        if measured is None:
            result["absent"] = "has nothing of the kind"
            return
        for problem in measured.problems:
            say(f"    {problem}")
        result["runs"].append(
            {
                "round": number,
                "values": measured.values,
                "problems": measured.problems,
                "points": measured.points,
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _measure(scenario: Scenario, peer: Peer, scale: Scale, directory: Path) -> Measurement | None:
    server = peer.start(directory)
    try:
        return scenario.run(peer, server, scale)
    finally:
        server.stop()
