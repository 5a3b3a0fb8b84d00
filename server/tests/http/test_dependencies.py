"""Bounds of the libraries whose private parts we rely on."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from resonantgenesis_server.http import dependencies

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def declared() -> dict[str, Requirement]:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"].values()
    names = [*project["dependencies"], *(name for extra in extras for name in extra)]
    return {each.name: each for each in map(Requirement, names)}


def test_what_is_installed_is_within_every_bound() -> None:
    """A pin that is behind what is installed and tested is a lie."""
    for name, requirement in declared().items():
        assert requirement.specifier.contains(version(name)), (name, version(name))


@pytest.mark.parametrize("library", dependencies.TESTED)
def test_private_parts_are_pinned_to_the_tested_minor_version(library: str) -> None:
    major, minor = map(int, dependencies.TESTED[library].split("."))
    bounds = {str(bound) for bound in declared()[library].specifier}
    assert bounds == {f">={major}.{minor}", f"<{major}.{minor + 1}"}


def test_another_minor_version_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "version", lambda _library: "0.9.1")
    with pytest.raises(ImportError, match=r"needs fastapi 0.165.\*, but 0.9.1 is installed; run: "):
        dependencies.check_dependencies()
