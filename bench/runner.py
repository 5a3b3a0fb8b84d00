"""Runs scenarios: every peer once, then every peer again, so that drift meets all alike."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
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


def run_scenario(scenario: Scenario, peers: list[Peer], scale: Scale, repeats: int) -> Result:
    """All runs of a scenario, as they go into the JSON file."""
    found: dict[str, Result] = {
        peer.name: {"runs": [], "failures": [], "absent": peer.absent()} for peer in peers
    }
    for number in range(repeats):
        for peer in peers:
            result = found[peer.name]
            if result["absent"] is not None or _is_hopeless(result):
                continue
            say(f"  {scenario.name} {number + 1}/{repeats}: {peer.title}")
            _run_once(scenario, peer, scale, result)
    return {
        "name": scenario.name,
        "title": scenario.title,
        "value": scenario.value,
        "unit": scenario.unit,
        "meaning": scenario.meaning,
        "more_is_better": scenario.more_is_better,
        "bars": [
            {
                "limit": bar.limit,
                "peer": bar.peer,
                "value": bar.value or scenario.value,
                "at_least": bar.at_least,
            }
            for bar in scenario.bars
        ],
        "repeats": repeats,
        "peers": found,
    }


def _is_hopeless(result: Result) -> bool:
    """Twice tried and never measured."""
    return len(result["failures"]) >= 2 and not result["runs"]


def _run_once(scenario: Scenario, peer: Peer, scale: Scale, result: Result) -> None:
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
