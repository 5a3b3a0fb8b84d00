from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from resonantgenesis_server.agents.engines.guide import GuideAgent
from resonantgenesis_server.agents.engines.python import AgentLoadError, PythonAgent
from resonantgenesis_server.agents.registry import Engines, engine_names
from resonantgenesis_server.model.errors import InvalidRequest


def test_the_guide_takes_its_pace_and_leaves_other_settings() -> None:
    assert isinstance(Engines().build("guide", {"words_per_second": 5, "max_steps": 3}), GuideAgent)


@pytest.mark.parametrize("engine", ["lml", "team", "", "x" * 500])
def test_an_unknown_engine_is_refused_and_the_known_are_listed(engine: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Engines().build(engine, {})
    said = caught.value.details["fields"]["engine"]
    assert said.endswith("one of: guide, http, llm, worker")
    assert len(said) < 200
    with pytest.raises(InvalidRequest, match="one of: guide, http, llm, python, worker"):
        Engines().build(engine, {}, trusted=True)


def test_only_trusted_settings_may_name_a_python_module(workplace: Path) -> None:
    (workplace / "module_of_a_stranger.py").write_text("def answer(turn): yield 'x'\n")
    importlib.invalidate_caches()
    settings = {"reference": "module_of_a_stranger:answer"}
    with pytest.raises(InvalidRequest, match="engine"):
        Engines().build("python", settings)
    assert "module_of_a_stranger" not in sys.modules
    agent = Engines().build("python", settings, trusted=True)
    assert isinstance(agent, PythonAgent)
    assert agent.reference == "module_of_a_stranger:answer"
    assert engine_names() == ["guide", "http", "llm", "worker"]
    assert engine_names(trusted=True) == ["guide", "http", "llm", "python", "worker"]


def test_the_python_engine_needs_a_reference() -> None:
    with pytest.raises(AgentLoadError, match="reference"):
        Engines().build("python", {}, trusted=True)


def test_engines_are_imported_when_they_are_used() -> None:
    program = (
        "import sys, resonantgenesis_server.agents.registry as r\n"
        "engines = ('engines.guide', 'engines.python', 'engines.llm.engine')\n"
        "loaded = [n for n in sys.modules if n.endswith(engines)]\n"
        "r.Engines().build('guide', {})\n"
        "print(loaded, 'resonantgenesis_server.agents.engines.python' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[] False\n"
