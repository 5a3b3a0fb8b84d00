"""What a release consists of: it holds all that it should, and runs where the repository is not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


#: What a shell of somebody with nothing of ours has.
BARE = {"HOME": "/nonexistent", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Python packages, as `make dist` builds them."""
    out = tmp_path_factory.mktemp("dist")
    build("--only", "python", "--out", str(out))
    return out


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both wheels installed, made here and looked for nowhere else."""
    folder = tmp_path_factory.mktemp("installed")
    wheels = sorted(map(str, dist.glob("*.whl")))
    run("pip", "install", "--no-index", "--no-deps", "--target", str(folder), *wheels, cwd=dist)
    return folder


def build(*arguments: str) -> None:
    script = [sys.executable, str(ROOT / "scripts/dist.py")]
    subprocess.run([*script, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=300)


def environment(folder: Path, packages: Iterable[str | Path]) -> Path:
    """The programs of a new environment with these packages, dependencies as they are locked."""
    uv = str(Path(sys.executable).with_name("uv"))
    python = folder / "env/bin/python"
    locked = ["--constraint", str(ROOT / "requirements/image.txt")]
    install = ["pip", "install", "--quiet", "--python", str(python), *locked]
    for arguments in (
        ["venv", "--quiet", "--python", sys.executable, str(folder / "env")],
        [*install, *map(str, packages)],
    ):
        subprocess.run([uv, *arguments], check=True, cwd=folder, timeout=300)
    return python.parent


def demonstrate(programs: Path, folder: Path) -> str:
    """What `resonantgenesis demo` prints in an empty folder."""
    folder.mkdir()
    done = subprocess.run(
        [programs / "resonantgenesis", "demo", "--no-keep", "What is 12% of 250?"],
        env={**BARE, "RESONANTGENESIS_WORDS_PER_SECOND": "0"},
        check=True,
        stdout=subprocess.PIPE,
        cwd=folder,
        text=True,
        timeout=120,
    )
    return done.stdout


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


def test_the_packages_say_what_they_are(installed: Path, dist: Path) -> None:
    for name, readme in (
        ("resonantgenesis", "sdk/python/README.md"),
        ("resonantgenesis_server", "server/README.md"),
    ):
        told = distribution(installed, name)
        assert told.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text()
        assert told.metadata["License-Expression"] == "Apache-2.0"
        assert (ROOT / readme).read_text().strip() in str(told.metadata.get_payload())
        assert "Typing :: Typed" in told.metadata.get_all("Classifier", [])
        assert len(told.metadata.get_all("Project-URL", [])) == 2
        assert (installed / name / "py.typed").is_file()
        with tarfile.open(dist / f"{name}-{told.version}.tar.gz") as source:
            files = {member.partition("/")[2] for member in source.getnames()}
        assert {"LICENSE", "README.md", "pyproject.toml", f"src/{name}/py.typed"} <= files
        assert not [file for file in files if "tests" in file]
    extras = set(
        distribution(installed, "resonantgenesis_server").metadata.get_all("Provides-Extra", [])
    )
    assert extras == {"llm", "mcp", "otel", "postgres", "s3"}


def test_a_package_that_is_too_large_is_not_built(dist: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts/dist.py"))
    check, budgets = script["check_sizes"], script["BUDGETS"]
    check(dist)
    for pattern, budget in budgets.items():
        found = [path for path in dist.iterdir() if path.match(pattern)]
        assert len(found) == (pattern.endswith(".whl")), pattern
        fat = tmp_path / pattern.replace("*", "1.0")
        fat.write_bytes(bytes(budget * 1024 + 1))
        with pytest.raises(SystemExit, match=re.escape(fat.name)):
            check(tmp_path)
        fat.unlink()


def test_a_wheel_runs_the_demo_in_an_empty_environment(dist: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path, dist.glob("*.whl"))
    told = demonstrate(programs, tmp_path / "empty")
    assert '"result": 30' in told
    assert "success" in told


def test_a_release_knows_every_place_of_its_version(installed: Path) -> None:
    def release(*arguments: str) -> str:
        script = [sys.executable, str(ROOT / "scripts/release.py"), *arguments]
        return subprocess.run(script, check=True, capture_output=True, text=True, timeout=60).stdout

    version = distribution(installed, "resonantgenesis").version
    assert release() == f"{version}\n"
    shown = release("99.0.0")
    assert "+## [99.0.0] - 20" in shown
    assert shown.endswith("nothing was changed; --do makes the release\n")
    assert release() == f"{version}\n"


@pytest.mark.soak
def test_a_whole_release_in_empty_environments(tmp_path: Path) -> None:
    out = tmp_path / "dist"
    build("--out", str(out))
    sums = dict(line.split()[::-1] for line in (out / "SHA256SUMS").read_text().splitlines())
    files = {path.name for path in out.iterdir()} - {"SHA256SUMS"}
    assert set(sums) == files
    for name in files:
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sums[name]
    for bom in out.glob("*.cdx.json"):
        assert json.loads(bom.read_text())["bomFormat"] == "CycloneDX"
    # From the source distributions, with each extra.
    extras = "[llm,mcp,otel,postgres,s3]"
    (sdk,) = out.glob("resonantgenesis-0*.tar.gz")
    (server,) = out.glob("resonantgenesis_server-*.tar.gz")
    packages = [str(sdk), f"resonantgenesis-server{extras} @ {server.as_uri()}"]
    programs = environment(tmp_path, packages)
    assert "success" in demonstrate(programs, tmp_path / "empty")
    for module in ("aiohttp", "mcp", "asyncpg", "obstore", "opentelemetry.sdk"):
        subprocess.run([programs / "python", "-c", f"import {module}"], check=True, timeout=60)
    # The package for Node, where nothing else is.
    (tarball,) = out.glob("*.tgz")
    node = tmp_path / "node"
    node.mkdir()
    (node / "package.json").write_text('{"private": true, "type": "module"}')
    quiet = ["--offline", "--no-audit", "--no-fund"]
    subprocess.run(["npm", "install", *quiet, str(tarball)], check=True, cwd=node, timeout=120)
    code = "import('@resonantgenesis/sdk').then((sdk) => new sdk.ResonantGenesis())"
    subprocess.run(["node", "-e", code], check=True, cwd=node, timeout=60)
