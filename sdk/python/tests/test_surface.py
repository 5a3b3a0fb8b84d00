"""What the package shows: its names, its documentation, its settings, its independence."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import resonantgenesis
from resonantgenesis import (
    ResonantGenesis,
    StreamError,
    SyncResonantGenesis,
    Timeouts,
    errors,
    streaming,
)
from resonantgenesis._core.settings import resolve

FOLDER = Path(__file__).resolve().parents[1]
README = (FOLDER / "README.md").read_text(encoding="utf-8")
PACKAGE = FOLDER / "src" / "resonantgenesis"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_all_is_exactly_what_is_exported() -> None:
    public = {
        name
        for name, value in vars(resonantgenesis).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__"} == set(resonantgenesis.__all__)
    assert list(resonantgenesis.__all__) == sorted(resonantgenesis.__all__)


def test_all_of_streaming_is_exactly_what_is_exported() -> None:
    public = {
        name
        for name, value in vars(streaming).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(streaming.__all__)
    assert all(inspect.getdoc(getattr(streaming, name)) for name in public)


@pytest.mark.parametrize("name", resonantgenesis.__all__)
def test_every_name_is_documented(name: str) -> None:
    assert re.search(rf"`{re.escape(name)}\b", README), f"README.md does not name {name}"
    value = getattr(resonantgenesis, name)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_every_public_method_has_a_docstring() -> None:
    for name in resonantgenesis.__all__:
        kind = getattr(resonantgenesis, name)
        if inspect.isclass(kind):
            for attribute, member in vars(kind).items():
                if inspect.isfunction(member) and not attribute.startswith("_"):
                    assert inspect.getdoc(member), f"{name}.{attribute}"


def test_every_error_class_and_code_is_documented() -> None:
    for code, (kind, _) in errors.CODES.items():
        assert f"`{code}`" in README, code
        assert issubclass(kind, StreamError) and kind.__name__ in resonantgenesis.__all__


def test_the_version_and_the_type_marker_are_packaged() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == resonantgenesis.__version__
    assert (FOLDER / "src" / "resonantgenesis" / "py.typed").exists()


def test_the_sdk_does_not_need_the_server() -> None:
    code = "import sys, resonantgenesis; print([m for m in sys.modules if 'genesis_server' in m])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


#: The machines may have the clock as a default; their tests give them another.
IO_MODULES = re.compile(
    r"^(import|from) (httpx|websockets|socket|ssl|asyncio|threading)\b", re.MULTILINE
)
WITHOUT_IO = [
    PACKAGE / "errors.py",
    PACKAGE / "models.py",
    *sorted((PACKAGE / "_core").glob("*.py")),
    *(PACKAGE / "_files" / f"{name}.py" for name in ("calls", "download")),
    *(
        PACKAGE / "_realtime" / f"{name}.py"
        for name in ("consumers", "keepalive", "requests", "state", "subscriptions")
    ),
]


@pytest.mark.parametrize("path", WITHOUT_IO, ids=lambda path: path.stem)
def test_wire_logic_does_no_io(path: Path) -> None:
    assert not IO_MODULES.search(path.read_text(encoding="utf-8"))


def test_files_stay_small() -> None:
    for source in SOURCES:
        assert len(source.read_text(encoding="utf-8").splitlines()) < 600, source.name


def test_settings_come_from_arguments_then_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESONANTGENESIS_API_KEY", raising=False)
    monkeypatch.delenv("RESONANTGENESIS_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="RESONANTGENESIS_API_KEY"):
        ResonantGenesis()
    assert ResonantGenesis(api_key="k").base_url == "https://api.resonantgenesis.xyz"
    monkeypatch.setenv("RESONANTGENESIS_API_KEY", "from-env\n")
    monkeypatch.setenv("RESONANTGENESIS_BASE_URL", "http://127.0.0.1:8080/")
    assert SyncResonantGenesis().base_url == "http://127.0.0.1:8080"
    assert resolve(None, None, None, 0).api_key == "from-env"
    assert resolve("arg", "http://h/x/", 3.0, 0).timeouts == Timeouts(answer=3.0)
    for variable in ("RESONANTGENESIS_API_KEY", "RESONANTGENESIS_BASE_URL"):
        assert variable in README


WRONG = [
    {"base_url": "api.example.org"},
    {"base_url": "ftp://host"},
    {"base_url": "https://"},
    {"base_url": "https://user:secret@host"},
    {"base_url": "https://host?key=secret"},
    {"base_url": "https://host:99999"},
    {"api_key": "secret with spaces"},
    {"api_key": "secret\nX-Other: 1"},
    {"api_key": "secrét"},
    {"max_retries": -1},
    {"timeout": 0.0},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_that_cannot_work_are_refused_without_a_secret(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        ResonantGenesis(**{"api_key": "k", "base_url": "http://h", **wrong})  # type: ignore[arg-type]
    assert "secr" not in str(raised.value)
