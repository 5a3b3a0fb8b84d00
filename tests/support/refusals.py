"""What every refusal looks like, PROTOCOL.md, section 3."""

from __future__ import annotations

from typing import Any

import httpx

#: PROTOCOL.md, section 3: the codes that a request can be refused with, and their status.
CODES = {
    "UNAUTHENTICATED": 401, "FORBIDDEN": 403, "AGENT_NOT_FOUND": 404, "SESSION_NOT_FOUND": 404,
    "NOT_FOUND": 404, "METHOD_NOT_ALLOWED": 405, "UNSUPPORTED_MEDIA_TYPE": 415,
    "INVALID_JSON": 400, "INVALID_REQUEST": 422, "SESSION_BUSY": 409, "CONFLICT": 409,
    "POSITION_EXPIRED": 410, "RANGE_NOT_SATISFIABLE": 416, "PAYLOAD_TOO_LARGE": 413,
    "RATE_LIMITED": 429, "UNAVAILABLE": 503,
}  # fmt: skip
#: Right for every body there is where unknown fields may pass, so that one wrong field is the only
#: thing wrong.
GOOD: dict[str, Any] = {
    "agent_id": "guide", "goal": "count to 1", "name": "n", "engine": "guide",
    "scopes": ["sessions:read"], "idempotency_key": "k", "type": "app.test", "data": {},
    "since": "2026-01-01T00:00:00Z",
}  # fmt: skip
LENIENT = {"Prefer": "handling=lenient"}


def check_refusal(answer: httpx.Response, *codes: str) -> None:
    """An error in our shape with one of these codes (none named: any)."""
    where = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    assert answer.headers["content-type"] == "application/json", where
    assert answer.status_code >= 400, where
    error = answer.json()["error"]
    assert CODES.get(error["code"]) == answer.status_code, where
    assert not codes or error["code"] in codes, where
    assert error["request_id"] == answer.headers["x-request-id"], where
    assert isinstance(error["message"], str) and error["message"], where
    assert isinstance(error["details"], dict), where
    if error["code"] == "INVALID_REQUEST":
        assert error["details"]["fields"], where
    if error["code"] in {"RATE_LIMITED", "UNAVAILABLE"}:
        assert error["retry_after"] >= 0 and answer.headers["retry-after"].isdigit(), where
    if answer.status_code == 405:
        assert answer.headers["allow"], where
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == "Bearer", where
    for leak in ("Traceback", "sqlite", "/work/", ".py"):
        assert leak not in answer.text, where
