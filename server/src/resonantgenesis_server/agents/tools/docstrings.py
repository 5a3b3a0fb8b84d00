"""What a docstring says of a function and of its parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?):\s*$")
_ARGUMENTS = frozenset({"Args", "Arguments", "Parameters"})
_GOOGLE = re.compile(r"(?P<indent>\s+)(?P<name>\*{0,2}\w+)\s*(?:\([^)]*\))?:\s*(?P<text>.*)$")
_SPHINX = re.compile(r":param\s+(?:[^:]*\s)?(?P<name>\w+):\s*(?P<text>.*)$")
_FIELD = re.compile(r":\w+")


@dataclass(slots=True)
class Documented:
    """`summary` is the text before the parameters, `parameters` the words about each."""

    summary: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def read_docstring(docstring: str | None) -> Documented:
    """Reads `Args:` sections (Google's style) and `:param name:` fields (Sphinx's)."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    summary: list[str] = []
    parameters: dict[str, list[str]] = {}
    current: list[str] = summary
    section = ""
    indent = 0
    for line in lines:
        heading = _SECTION.fullmatch(line)
        google = _GOOGLE.fullmatch(line) if section in _ARGUMENTS else None
        sphinx = _SPHINX.fullmatch(line)
        if heading:
            section, current, indent = heading.group(1), [], 0
        elif sphinx:
            current = parameters[sphinx["name"]] = [sphinx["text"]]
        elif google and (not indent or len(google["indent"]) <= indent):
            indent = len(google["indent"])
            current = parameters[google["name"].lstrip("*")] = [google["text"]]
        elif _FIELD.match(line) or (section and line and not line[0].isspace()):
            section, current = "", [] if _FIELD.match(line) else summary
            current.append(line)
        else:
            current.append(line)
    return Documented("\n".join(summary).strip(), _joined(parameters))


def _joined(parameters: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: " ".join(" ".join(lines).split()) for name, lines in parameters.items()}
