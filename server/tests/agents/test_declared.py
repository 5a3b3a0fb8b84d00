"""What an agent in Python says of itself."""

from __future__ import annotations

from typing import Any

import pytest
from resonantgenesis_server.agent_api import agent
from resonantgenesis_server.agents.declared import Declaration, declaration_of
from resonantgenesis_server.agents.engines.python import PythonAgent


@agent(timeout_seconds=9, concurrency=2)
def function(_turn: Any) -> str:
    return "x"


@agent(max_steps=3, description="does it")
class Agent:
    def run(self, _turn: Any) -> str:
        return "x"


def test_a_function_and_a_class_declare() -> None:
    assert PythonAgent("m:f", function).declared.defaults() == {
        "timeout_seconds": 9,
        "concurrency": 2,
    }
    assert declaration_of(Agent().run) == Declaration(max_steps=3, description="does it")
    assert declaration_of(len) == Declaration()


@pytest.mark.parametrize("wrong", [{"timeout_seconds": 0}, {"max_steps": -1}, {"concurrency": 0}])
def test_limits_are_over_zero(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be over 0"):
        agent(**wrong)
