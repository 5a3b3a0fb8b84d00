"""Names that nobody knows: which are refused, which pass, and what is named beside them."""

from __future__ import annotations

from typing import Any

import pytest
from http_harness import Service
from resonantgenesis_server.http.api.agents import NewAgent
from resonantgenesis_server.http.api.session_models import ExecuteBody, TurnBody, validated
from resonantgenesis_server.http.params import check_known, is_lenient, parse_query
from resonantgenesis_server.http.websocket.messages import CLIENT_MESSAGES
from resonantgenesis_server.model.errors import InvalidRequest

pytestmark = pytest.mark.anyio

GOAL = {"agent_id": "guide", "goal": "g"}


def problems(kind: Any, value: object) -> dict[str, str]:
    try:
        check_known(kind, value)
    except InvalidRequest as error:
        fields: dict[str, str] = error.details["fields"]
        return fields
    return {}


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("sesion_id", "session_id"),
        ("sessionId", "session_id"),
        ("Session-Id", "session_id"),
        ("steam", "stream"),
        ("agent", "agent_id"),
        ("contxt", "context"),
        ("meta_data", "metadata"),
        ("maxSteps", "max_steps"),
        ("timeout", "timeout_seconds"),
        ("on_disconect", "on_disconnect"),
    ],
)
def test_a_mistyped_name_is_refused_with_the_nearest(wrong: str, near: str) -> None:
    fields = problems(ExecuteBody, {**GOAL, wrong: "x"})
    assert fields == {wrong: f"is not known here; did you mean {near}?"}
    with pytest.raises(InvalidRequest, match=near):
        validated(ExecuteBody, {**GOAL, wrong: "x"})
    assert validated(ExecuteBody, {**GOAL, wrong: "x"}, lenient=True).goal == "g"


def test_without_a_near_one_all_are_named() -> None:
    text = problems(TurnBody, {"goal": "g", "xyz": 1})["xyz"]
    assert "did you mean" not in text
    assert "goal" in text and "session_id" not in text


def test_what_users_fill_themselves_stays_free() -> None:
    free = {"anything": {"goes": [1, {"sesion_id": 2}]}}
    assert problems(ExecuteBody, {**GOAL, "context": free, "metadata": free}) == {}
    assert problems(CLIENT_MESSAGES["subscribe"], {"filters": free}) == {}
    assert (
        problems(ExecuteBody, [1])
        == problems(ExecuteBody, "x")
        == problems(ExecuteBody, None)
        == {}
    )


def test_within_a_field() -> None:
    body = {"name": "n", "engine": "guide", "defaults": {"max_step": 1}}
    assert problems(NewAgent, body) == {
        "defaults.max_step": "is not known here; did you mean max_steps?"
    }


def test_of_many_unknown_names_the_first_are_reported() -> None:
    fields = problems(ExecuteBody, {f"x{number}" + "y" * 300: 1 for number in range(30_000)})
    assert len(fields) == 20 and all(len(name) <= 200 for name in fields)


@pytest.mark.parametrize(
    ("values", "lenient"),
    [
        ([b"handling=lenient"], True),
        ([b"Handling=Lenient"], True),
        ([b'handling="lenient"'], True),
        ([b"respond-async, handling=lenient"], True),
        ([b"respond-async,handling=lenient;x=1, wait=3"], True),
        ([b"respond-async", b"handling=lenient"], True),
        ([b"handling = lenient"], True),
        ([], False),
        ([b""], False),
        ([b"handling=strict"], False),
        ([b"handling=lenient2"], False),
        ([b"xhandling=lenient"], False),
        ([b"wait=1;handling=lenient"], False),
        ([b"lenient"], False),
    ],
)
def test_what_asks_for_leniency(values: list[bytes], lenient: bool) -> None:
    headers = [(b"prefer", value) for value in values]
    assert is_lenient({"type": "http", "headers": headers}) is lenient


def query(text: bytes, *known: str, lenient: bool = False) -> dict[str, str]:
    scope = {"query_string": text, "state": {"lenient": lenient}}
    try:
        parse_query(scope, frozenset(known))
    except InvalidRequest as error:
        fields: dict[str, str] = error.details["fields"]
        return fields
    return {}


def test_queries() -> None:
    assert query(b"", "turn") == query(b"turn=1", "turn") == query(b"&&", "turn") == {}
    wrong = "is not known here; did you mean resume_from?"
    assert query(b"resume_form=3", "resume_from", "turn") == {"resume_form": wrong}
    assert query(b"resumeFrom=3", "resume_from", "turn") == {"resumeFrom": wrong}
    assert "where nothing can be named" in query(b"stream=true")["stream"]
    assert query(b"resume_form=3", "resume_from", lenient=True) == {}
    for passing in (b"_=123", b"_ts=1", b"utm_source=x", b"t=1", b"ts=1", b"cb=1", b"nocache"):
        assert query(passing + b"&turn=1", "turn") == {}
    twice = "is given more than once"
    assert query(b"turn=1&turn=2", "turn") == query(b"turn&t%75rn", "turn") == {"turn": twice}
    assert query(b"_=1&_=2", "turn", lenient=True) == {"_": twice}
    assert "too many" in query(b"&".join(b"_%d=1" % n for n in range(51)))["query"]


async def test_the_answer_says_what_was_applied(service: Service) -> None:
    body = {"name": "n", "engine": "guide", "nmae": "m"}
    refused = await service.client.post("/v1/agents", json=body)
    assert refused.status_code == 422
    assert refused.json()["error"]["details"]["fields"] == {
        "nmae": "is not known here; did you mean name?"
    }
    assert "preference-applied" not in refused.headers
    headers = {"Prefer": "handling=lenient"}
    taken = await service.client.post("/v1/agents", json=body, headers=headers)
    assert (taken.status_code, taken.headers["preference-applied"]) == (201, "handling=lenient")
    query = await service.client.get("/v1/agents?limt=1")
    assert query.json()["error"]["details"]["fields"] == {
        "limt": "is not known here; did you mean limit?"
    }
    assert (await service.client.get("/v1/agents?limt=1", headers=headers)).status_code == 200
    assert (await service.client.get("/v1/agents?_=1")).status_code == 200
    # What probes and scrapers ask takes whatever they put behind it.
    assert (await service.client.get("/healthz?from=probe&x=1")).status_code == 200


async def test_every_body_is_strict_in_the_description(service: Service) -> None:
    document = (await service.client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            for part in (schema, *schema.get("anyOf", [])):
                if "$ref" in part:
                    name = part["$ref"].rsplit("/", 1)[1]
                    found = document["components"]["schemas"][name]
                    assert found["additionalProperties"] is False, path
