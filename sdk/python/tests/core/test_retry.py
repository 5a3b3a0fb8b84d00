"""The back-off: the cases of `protocol/backoff.yaml`."""

from __future__ import annotations

from typing import Any

import pytest
from resonantgenesis._core.retry import Backoff

from ..conftest import load_cases
from ..support.script import names

CASES = load_cases("backoff.yaml")["cases"]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_backoff(case: dict[str, Any]) -> None:
    backoff = Backoff(case["base"], case["cap"])
    delay = backoff.delay(case["failures"], floor=case["floor"], rng=lambda: case["random"])
    assert delay == pytest.approx(case["delay"])
