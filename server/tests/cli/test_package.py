"""The two wheels: the command of the one stands on the other."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both wheels installed, made here and looked for nowhere else."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    for project in ("server", "sdk/python"):
        run("hatchling", "build", "-t", "wheel", "-d", str(wheels), cwd=ROOT / project)
    built = sorted(map(str, wheels.iterdir()))
    run("pip", "install", "--no-index", "--no-deps", "--target", str(folder), *built, cwd=wheels)
    return folder


def run(module: str, *arguments: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **variables},
        text=True,
        timeout=120,
    )
    return done.stdout


def distribution(folder: Path, name: str) -> PathDistribution:
    [info] = folder.glob(f"{name}-*.dist-info")
    return PathDistribution(info)


def test_the_server_wants_the_sdk_of_its_release(installed: Path) -> None:
    sdk = distribution(installed, "resonantgenesis")
    server = distribution(installed, "resonantgenesis_server")
    assert f"resonantgenesis=={sdk.version}" in (server.requires or [])
    assert server.version == sdk.version


def test_the_command_runs_on_what_the_wheels_hold(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "where.py"
    script.write_text(
        "import resonantgenesis, resonantgenesis_server.cli\n"
        "print(resonantgenesis.__file__, resonantgenesis_server.cli.__file__)\n"
    )
    places = run("where", cwd=tmp_path, PYTHONPATH=f"{installed}{os.pathsep}{tmp_path}").split()
    assert [Path(place).is_relative_to(installed) for place in places] == [True, True]
    said = run("resonantgenesis_server", "--version", cwd=tmp_path, PYTHONPATH=str(installed))
    assert said == f"resonantgenesis {distribution(installed, 'resonantgenesis').version}\n"


def test_help_imports_neither_the_sdk_nor_the_server(tmp_path: Path) -> None:
    script = tmp_path / "loaded.py"
    script.write_text(
        "import sys, resonantgenesis_server.cli\n"
        "slow = {'resonantgenesis', 'httpx', 'pydantic', 'sqlalchemy', 'asyncio'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    assert run("loaded", cwd=tmp_path, PYTHONPATH=str(tmp_path)) == "[]\n"
