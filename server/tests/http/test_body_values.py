"""What a JSON text may cost: its values are counted before it is parsed, wherever one comes in."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from http_harness import Serve
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.codec.json import has_more_values
from resonantgenesis_server.codec.strict_json import parse_json
from resonantgenesis_server.model.errors import InvalidJson, PayloadTooLarge
from resonantgenesis_server.model.limits import Limits

pytestmark = pytest.mark.anyio
JSON = {"Content-Type": "application/json"}
LIMITS = Limits()
TEXTS = st.text(alphabet=st.sampled_from('a,:[{"\\é\n')) | st.text()
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=30,
)


def separators(value: Any) -> int:
    """Commas, colons and opening brackets of a value's JSON."""
    if isinstance(value, dict):
        inner = sum(separators(item) for item in value.values())
        return 1 + len(value) + max(0, len(value) - 1) + inner
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(separators(item) for item in value)
    return 0


@given(VALUES, st.booleans())
def test_the_count_is_exact_whatever_stands_in_strings(value: Any, indented: bool) -> None:
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indented else None)
    count = separators(value)
    assert not has_more_values(data, count)
    assert count == 0 or has_more_values(data, count - 1)


@given(st.binary(max_size=200) | st.text(alphabet='",:[]{}\\').map(str.encode), st.integers(0, 9))
def test_no_bytes_disturb_the_count(data: bytes, limit: int) -> None:
    has_more_values(data, limit)


def full(limit: int) -> dict[str, bytes]:
    """Texts of 1 MiB of which each would take long to parse."""
    mebibyte = 1 << 20
    return {
        "objects": b"[" + b"{}," * (mebibyte // 3 - 1) + b"{}]",
        "numbers": b"[" + b"1," * (mebibyte // 2 - 2) + b"1]",
        "names": b"{" + b",".join(b'"%d":1' % n for n in range(limit)) + b"}",
        "deep": b"[" + b",".join([b"[" * 30 + b"]" * 30] * (limit // 30)) + b"]",
        "strings": b"[" + b'"",' * (mebibyte // 3 - 1) + b'""]',
        "quotes": b"[" + b'",",' * (mebibyte // 4 - 1) + b'""]',
    }


@pytest.mark.parametrize("name", full(LIMITS.json_values))
async def test_too_many_values_are_refused_in_our_form(serve: Serve, name: str) -> None:
    service = await serve()
    data = full(LIMITS.json_values)[name]
    answer = await service.client.post("/v1/agents", content=data, headers=JSON)
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert error["code"] == "PAYLOAD_TOO_LARGE"
    assert error["details"] == {"values": LIMITS.json_values}


@pytest.mark.parametrize(
    "data",
    [
        b'["' + b"," * (1 << 20) + b'"]',
        b'["' + b'\\",' * (1 << 18) + b'"]',
        b'["' + b"\\\\" * (1 << 19) + b'",",{[:"]',
        b"[" + b'"a,b:c{d[",' * 19_000 + b"1]",
    ],
    ids=["commas", "escaped quotes", "backslashes", "strings"],
)
def test_long_texts_are_no_values(data: bytes) -> None:
    assert parse_json(data, 32, LIMITS.json_values) is not None


def test_text_that_is_no_json_is_refused() -> None:
    for data in (b'["' + b"," * 30_000, b'["\\' + b"," * 30_000):
        with pytest.raises(InvalidJson):
            parse_json(data, 32, LIMITS.json_values)
    with pytest.raises(PayloadTooLarge):
        parse_json(b"," * 30_000, 32, LIMITS.json_values)


async def test_an_error_names_at_most_twenty_fields(serve: Serve) -> None:
    service = await serve()
    wrong = {"name": "n", "scopes": list(range(64))}
    answer = await service.client.post("/v1/keys", json=wrong)
    assert answer.status_code == 422
    assert len(answer.json()["error"]["details"]["fields"]) == 20
