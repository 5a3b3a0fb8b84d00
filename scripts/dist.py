"""Build all that a release consists of: `make dist`.

Into dist/: wheels and source distributions of the server and of the Python SDK, the tarball of the
TypeScript SDK, a bill of materials (CycloneDX) of each of the three, and SHA256SUMS of all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SUMS = "SHA256SUMS"
#: KiB that each package which people install may have. The server's wheel holds the documentation
#: and the console. What a page loads of the SDK has a bound in `sdk/typescript/tests/package/`.
BUDGETS = {
    "resonantgenesis-*.whl": 208,
    "resonantgenesis_server-*.whl": 4_608,
    "resonantgenesis-sdk-*.tgz": 256,
}
#: Seconds that one step may take.
PATIENCE = 600


def build_python(out: Path) -> None:
    """Build each wheel from its source distribution, so that one proves the other."""
    for project in ("sdk/python", "server"):
        _run(
            *(BIN / "uv", "build", "--quiet", "--no-build-isolation", "--python", sys.executable),
            *("--out-dir", out, "--no-create-gitignore", ROOT / project),
        )


def build_npm(out: Path) -> None:
    """Pack the TypeScript SDK; its `prepack` compiles it."""
    # The package's own scripts look for the compilers of the workspace.
    path = f"{ROOT / 'node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"
    folder = ROOT / "sdk/typescript"
    _run("npm", "pack", "--silent", "--pack-destination", out, folder=folder, PATH=path)


def write_boms(out: Path) -> None:
    """Write what each package brings, from the locked versions; of the server, with all extras."""
    for project, name, lock in (
        ("server", "resonantgenesis-server", "image"),
        ("sdk/python", "resonantgenesis", "sdk"),
    ):
        _run(
            *(BIN / "cyclonedx-py", "requirements", "--output-reproducible"),
            *("--mc-type", "library", "--pyproject", ROOT / project / "pyproject.toml"),
            *("--output-file", out / f"{name}.cdx.json", ROOT / f"requirements/{lock}.txt"),
            # It warns that a list of requirements is no graph.
            PYTHONWARNINGS="ignore",
        )
    with tempfile.TemporaryDirectory() as scratch:
        # npm tells only of a package with a version, which the root of the workspace has not.
        folder = Path(scratch, "sdk")
        folder.mkdir()
        shutil.copy(ROOT / "sdk/typescript/package.json", folder)
        kinds = [f"--omit={kind}" for kind in ("dev", "peer", "optional")]
        text = _run("npm", "sbom", "--sbom-format=cyclonedx", *kinds, folder=folder)
    bom = json.loads(text)
    del bom["serialNumber"], bom["metadata"]["timestamp"]
    (out / "resonantgenesis-sdk.cdx.json").write_text(json.dumps(bom, indent=2) + "\n")


def check_sizes(out: Path) -> None:
    """Raises SystemExit for a package that is larger than its budget."""
    for pattern, budget in BUDGETS.items():
        for path in out.glob(pattern):
            size = path.stat().st_size / 1024
            if size > budget:
                sys.exit(f"make: {path.name} has {size:,.0f} KiB, and may have {budget:,}")


def write_sums(out: Path) -> None:
    """Write the digest of every file, as `sha256sum --check` reads it."""
    files = sorted(path for path in out.iterdir() if path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / SUMS).write_text("".join(lines))


def _run(*command: str | Path, folder: Path = ROOT, **variables: str) -> str:
    """The output of a command. Raises SystemExit if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        sys.exit(f"make: {' '.join(map(str, command[:3]))} failed: {done.stdout}")
    return done.stdout


PARTS = {"python": build_python, "npm": build_npm, "sbom": write_boms}


def main() -> None:
    """Build everything, or one part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, help="one part; without it all")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="made anew")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    # The same commit makes the same bytes.
    os.environ["SOURCE_DATE_EPOCH"] = _run("git", "log", "-1", "--format=%ct").strip()
    for part in [arguments.only] if arguments.only else PARTS:
        PARTS[part](out)
    check_sizes(out)
    write_sums(out)
    sys.stdout.write("".join(f"{path}\n" for path in sorted(out.iterdir())))


if __name__ == "__main__":
    main()
