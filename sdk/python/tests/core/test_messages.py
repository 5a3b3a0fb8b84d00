"""From answers and `error` chunks to exceptions: the cases of `protocol/errors.yaml`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from resonantgenesis import errors
from resonantgenesis._core.messages import REPEATED, Answer, error_from_answer, error_from_chunk

from ..conftest import load_cases
from ..support.script import answer_of, names

ERRORS = load_cases("errors.yaml")


@pytest.mark.parametrize("case", ERRORS["cases"], ids=names(ERRORS["cases"]))
def test_errors(case: dict[str, Any]) -> None:
    if "answer" in case:
        error = error_from_answer(answer_of(case["answer"]))
        assert (case["answer"]["status"] in REPEATED) is case["repeated"]
    else:
        error = error_from_chunk(case["chunk"], session_id="s", position=4)
    properties = {**vars(error), "family": type(error).__name__}
    assert {name: properties[name] for name in case["error"]} == case["error"]


def test_the_table_of_codes_is_the_sdks() -> None:
    table = {
        code: (getattr(errors, row["family"]), row["retryable"])
        for code, row in ERRORS["codes"].items()
    }
    assert table == dict(errors.CODES)
    statuses = {code: row["status"] for code, row in ERRORS["codes"].items() if row["status"]}
    for code, status in statuses.items():
        body = json.dumps({"error": {"code": code, "message": "m"}}).encode()
        assert error_from_answer(Answer(status, {}, body)).code == code
