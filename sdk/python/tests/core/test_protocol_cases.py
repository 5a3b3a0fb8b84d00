"""The language-neutral cases of `protocol/`, as far as they concern a client."""

from __future__ import annotations

from typing import Any

import pytest

from ..conftest import load_cases
from ..support.script import names

SSE = load_cases("sse.yaml")["cases"]
RESUME = load_cases("resume.yaml")["cases"]
ERRORS = load_cases("errors.yaml")
BACKOFF = load_cases("backoff.yaml")["cases"]
PATTERNS = load_cases("patterns.yaml")


@pytest.mark.parametrize("cases", [SSE, RESUME, ERRORS["cases"], BACKOFF, PATTERNS["cases"]])
def test_case_names_are_unique(cases: list[dict[str, Any]]) -> None:
    assert len(set(names(cases))) == len(cases)
