"""What the numbers were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from .paths import BENCH
from .process import LOAD_CORE, SERVER_CORE, can_pin


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return "none"
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def describe() -> dict[str, str]:
    """Cores, CPU, memory, system, compilers and where things were pinned."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    pinning = (
        f"servers on core {SERVER_CORE}; generator and publisher on core {LOAD_CORE}"
        if can_pin()
        else "nothing is pinned"
    )
    return {
        "cpu": cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "node": _first_line(["node", "--version"]),
        "compiler": _first_line(["cc", "--version"]),
        "pinning": pinning,
        "commit": _first_line(["git", "-C", str(BENCH), "rev-parse", "--short", "HEAD"]),
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }
