"""Prepare a release: version, changelog, packages, commit and tag. RELEASING.md says how.

Without --do nothing is changed: the script shows what it would write. It never pushes and never
publishes; it ends with the commands for that.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"
#: Where the version stands: file → patterns, whose group is the version.
PLACES = {
    "server/pyproject.toml": [r'^version = "(.+)"', r'"resonantgenesis==(.+)"'],
    "sdk/python/pyproject.toml": [r'^version = "(.+)"'],
    "sdk/python/src/resonantgenesis/_version.py": [r'__version__ = "(.+)"'],
    "sdk/typescript/package.json": [r'^  "version": "(.+)"'],
    "package-lock.json": [r'"@resonantgenesis/sdk",\n      "version": "(.+)"'],
    "sdk/typescript/README.md": [rf"resonantgenesis-sdk-({_VERSION})\.tgz"],
    "deploy/Dockerfile": [r"^ARG VERSION=(.+)"],
    "deploy/helm/resonantgenesis/Chart.yaml": [r"^version: (.+)", r"^appVersion: (.+)"],
    "deploy/kubernetes/embedded.yaml": [rf'(?:image: resonantgenesis:|version: ")({_VERSION})'],
    "deploy/kubernetes/many-nodes.yaml": [rf'(?:image: resonantgenesis:|version: ")({_VERSION})'],
    "deploy/compose/compose.yaml": [r"image: resonantgenesis:(.+)"],
    "deploy/compose/postgresql.yaml": [r"image: resonantgenesis:(.+)"],
    "docs/deploy.md": [rf"resonantgenesis:({_VERSION})"],
    "docs/install.md": [rf"resonantgenesis-sdk-({_VERSION})\.tgz"],
}
UNRELEASED = "## [Unreleased]\n"


def current() -> str:
    """The version that the packages have now. Raises SystemExit if they disagree."""
    found = {
        (file, version)
        for file, patterns in PLACES.items()
        for pattern in patterns
        for version in _versions(file, pattern)
    }
    versions = {version for _, version in found}
    if len(versions) != 1:
        sys.exit(f"release: the versions differ: {sorted(found)}")
    return versions.pop()


def _versions(file: str, pattern: str) -> list[str]:
    versions = re.findall(pattern, (ROOT / file).read_text("utf-8"), re.MULTILINE)
    return versions or sys.exit(f"release: {file} has no version like {pattern}")


def changes(version: str, today: datetime.date) -> dict[Path, str]:
    """The files that a release of this version changes, and their new text."""
    changed: dict[Path, str] = {}
    for file, patterns in PLACES.items():
        text = (ROOT / file).read_text("utf-8")
        for pattern in patterns:
            text = re.sub(pattern, lambda found: _replaced(found, version), text, flags=re.M)
        changed[ROOT / file] = text
    changelog = ROOT / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    notes = text.partition(UNRELEASED)[2].partition("\n## [")[0]
    if not notes.strip():
        sys.exit("release: CHANGELOG.md has nothing under [Unreleased]")
    heading = f"{UNRELEASED}\n## [{version}] - {today.isoformat()}\n"
    changed[changelog] = text.replace(UNRELEASED, heading, 1)
    return changed


def _replaced(found: re.Match[str], version: str) -> str:
    start, end = (place - found.start() for place in found.span(1))
    return found[0][:start] + version + found[0][end:]


def check_tree() -> None:
    """Raises SystemExit unless the clone is a clean `main`."""
    if _git("status", "--porcelain").strip():
        sys.exit("release: the work tree has changes; commit or stash them")
    if (branch := _git("rev-parse", "--abbrev-ref", "HEAD").strip()) != "main":
        sys.exit(f"release: this is {branch}, and releases are made of main")


def _order(version: str) -> tuple[int, ...]:
    """Pre-releases (a, b, rc) come before their version."""
    numbers, kind, count = re.fullmatch(r"([\d.]+?)(?:(a|b|rc)(\d+))?", version).groups()  # type: ignore[union-attr]
    rank = {"a": 0, "b": 1, "rc": 2, None: 3}[kind]
    return (*map(int, numbers.split(".")), rank, int(count or 0))


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout


def _make(*verbs: str) -> None:
    """Raises SystemExit where a verb fails; what has been written stays, to be looked at."""
    if subprocess.run(["make", *verbs], cwd=ROOT, check=False, timeout=7200).returncode:
        sys.exit(f"release: make {' '.join(verbs)} failed; `git restore .` undoes what was written")


def main() -> None:
    """Show or make a release."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", nargs="?", help="like 0.2.0; without it the present one is told")
    parser.add_argument("--do", action="store_true", help="write, test, build, commit and tag")
    arguments = parser.parse_args()
    version, before = arguments.version, current()
    if version is None:
        sys.stdout.write(f"{before}\n")
        return
    if not re.fullmatch(_VERSION, version):
        sys.exit(f"release: {version!r} is not like 0.2.0 or 0.2.0rc1")
    tags = _git("tag", "--list", f"v{version}").strip()
    if tags or _order(version) < _order(before):
        sys.exit(f"release: {version} is not newer than {before}, or has a tag")
    changed = changes(version, datetime.datetime.now(datetime.UTC).date())
    if not arguments.do:
        for path, text in changed.items():
            old = path.read_text("utf-8").splitlines(keepends=True)
            name = str(path.relative_to(ROOT))
            lines = difflib.unified_diff(old, text.splitlines(keepends=True), name, name, n=0)
            sys.stdout.writelines(lines)
        sys.stdout.write("nothing was changed; --do makes the release\n")
        return
    check_tree()
    for path, text in changed.items():
        path.write_text(text, "utf-8")
    _make("check")
    _make("test")
    _git("commit", "--all", "--message", f"release: {version}")
    _git("tag", "--annotate", f"v{version}", "--message", version)
    _make("dist")
    sys.stdout.write(f"v{version} is tagged, and dist/ has its files. RELEASING.md goes on.\n")


if __name__ == "__main__":
    main()
