from __future__ import annotations

import pytest
from resonantgenesis_server.agents.tools.functions import read_docstring


@pytest.mark.parametrize(
    ("docstring", "summary", "parameters"),
    [
        (None, "", {}),
        ("One line.", "One line.", {}),
        (
            """Does it.

            More about it: really.

            Args:
                a: First.
                b (int): Second,
                    over two lines: yes.
                *rest: Others.

            Returns:
                a: not a parameter

            A last word.
            """,
            "Does it.\n\nMore about it: really.\n\nA last word.",
            {"a": "First.", "b": "Second, over two lines: yes.", "rest": "Others."},
        ),
        (
            """Does it.

            :param a: First,
                over two lines.
            :param int b: Second.
            :type b: int
            :returns: nothing
            """,
            "Does it.",
            {"a": "First, over two lines.", "b": "Second."},
        ),
        ("Does it.\n\nRaises:\n    ValueError: never.", "Does it.", {}),
        ("Note: this stays.\n\n    a: b\n", "Note: this stays.\n\na: b", {}),
    ],
)
def test_docstrings(docstring: str | None, summary: str, parameters: dict[str, str]) -> None:
    documented = read_docstring(docstring)
    assert documented.summary == summary
    assert documented.parameters == parameters
