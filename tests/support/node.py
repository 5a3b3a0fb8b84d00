"""Programs of `tests/clients`, which drive other people's clients, in Node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .server import KEY, ServerProcess

CLIENTS = Path(__file__).parents[1] / "clients"
SDK = CLIENTS.parents[1] / "sdk/typescript"
#: Seconds; a program does all that its tests look at.
_SECONDS = 120


def run_client(program: str, server: ServerProcess, **options: Any) -> dict[str, Any]:
    """Run a program against the server; returns the JSON object that it prints."""
    given = json.dumps({"base": server.url, "key": KEY, **options})
    ended = subprocess.run(
        ["node", program], cwd=CLIENTS, input=given, capture_output=True, text=True,
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def run_page(page: str, server: ServerProcess) -> str:
    """Run the first program of a page of the documentation; returns what it prints."""
    text = (CLIENTS.parents[1] / "docs" / page).read_text()
    program = text.split("```\n", 2)[1]
    program = program.replace("http://127.0.0.1:8080", server.url).replace("your_key", KEY)
    ended = subprocess.run(
        ["node", "--input-type=module", "--eval", program], cwd=CLIENTS, capture_output=True,
        text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def install(folder: Path, packages: Mapping[str, Path]) -> None:
    """Give programs in `folder` these packages, by the names that they import."""
    for name, package in packages.items():
        place = folder / "node_modules" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(package)
