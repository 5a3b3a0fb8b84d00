"""Chat completions without a socket: whatever the bytes are cut into, the same comes out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.agents.engines.llm.calls import (
    AssistantMessage,
    CallRequest,
    Delta,
    Finish,
    ModelCall,
    ModelFailure,
    Sampling,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from resonantgenesis_server.agents.engines.llm.openai.decoder import ChatDecoder
from resonantgenesis_server.agents.engines.llm.openai.errors import http_failure, stream_failure
from resonantgenesis_server.agents.engines.llm.openai.request import request_body
from resonantgenesis_server.model.chunks import Reasoning, Source
from support.models import Call, Reply, openai_wire

WORDS = yaml.safe_load(Path(__file__).with_name("llm_error_words.yaml").read_text())
ASKED = {"model": "m", "stream_options": {"include_usage": True}}
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6)
calls = st.lists(
    st.builds(
        Call,
        st.sampled_from(["search", "sum"]),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()),
        st.uuids().map(str),
    ),
    max_size=3,
)


def decode(parts: Iterable[bytes]) -> list[Delta]:
    decoder = ChatDecoder()
    return [d for part in parts for d in decoder.feed(part)] + list(decoder.close())


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: Any) -> bytes:
    return data({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


@settings(max_examples=150)
@given(texts, texts, calls, st.data(), st.sampled_from([b"\n", b"\r\n"]))
def test_an_answer_comes_out_whole_however_it_is_cut(
    said: list[str], thought: list[str], called: list[Call], cuts: st.DataObject, end: bytes
) -> None:
    reply = Reply(text=said, reasoning=thought, calls=called, usage=(3, 4))
    raw = b": hello\n\n" + b"".join(openai_wire.events(reply, ASKED))
    raw = raw.replace(b"\n", end)
    places = sorted(cuts.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    parts = [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]
    deltas = decode(parts)
    assert "".join(d for d in deltas if isinstance(d, str)) == "".join(said)
    assert "".join(d.content for d in deltas if isinstance(d, Reasoning)) == "".join(thought)
    wanted = [(c.call_id, c.tool, dict(c.args)) for c in called]
    requests = [d for d in deltas if isinstance(d, CallRequest)]
    assert [(r.call_id, r.tool, json.loads(r.arguments)) for r in requests] == wanted
    end = deltas[-1]
    assert isinstance(end, Finish)
    assert replace(end, native=None) == Finish("tool_calls" if called else "stop", 3, 4)
    assert (end.native is not None) == bool(called and "".join(thought))


def test_texts_that_came_together_are_one() -> None:
    decoder = ChatDecoder()
    raw = delta(content="a") + delta(content="b") + delta(reasoning="c") + delta(content="d")
    assert list(decoder.feed(raw)) == ["ab", Reasoning("c"), "d"]


def test_sources_come_once_in_whatever_words() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
    flat = {"type": "url_citation", "url": "https://b.example", "title": None}
    other = {"type": "file_citation", "file_id": "f"}
    raw = delta(content="a") + delta(annotations=[cited, flat, other, cited])
    assert decode([raw, delta("stop")]) == [
        "a",
        Source("https://a.example", "A"),
        Source("https://b.example"),
        Finish("stop"),
    ]
    choices = [{"delta": {"content": "x"}}]
    urls = ["https://c.example", "javascript:alert(1)", 7, "https://d.example"]
    found = [{"url": "https://c.example", "title": "C"}, {"title": "no address"}]
    event = {"choices": choices, "citations": urls, "search_results": found}
    assert decode([data(event), data(event), delta("stop")]) == [
        "x",
        Source("https://c.example", "C"),
        Source("https://d.example"),
        "x",
        Finish("stop"),
    ]
    many = [f"https://{number}.example" for number in range(1_000)]
    assert len(decode([data({"choices": choices, "citations": many}), delta("stop")])) == 102


def test_calls_at_one_place_are_told_apart_by_their_ids_and_arguments_may_be_objects() -> None:
    first = {"index": 0, "id": "1", "function": {"name": "f", "arguments": {"x": 1}}}
    second = {"id": "2", "function": {"name": "g", "arguments": '{"y": 2}'}}
    third = {"index": 3, "function": {"name": "h"}}
    raw = [delta(tool_calls=[first]), delta(tool_calls=[second, third]), delta("stop")]
    assert decode(raw) == [
        CallRequest("1", "f", '{"x":1}'),
        CallRequest("2", "g", '{"y": 2}'),
        CallRequest("call_2", "h", ""),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize("finish", ["length", "content_filter", "stop"])
def test_why_it_ended(finish: str) -> None:
    assert decode([delta(finish, content="x")])[-1] == Finish(finish)
    assert decode([delta("whatever")])[-1] == Finish("whatever")
    assert decode([delta(content="x"), b"data: [DONE]\n"])[-1] == Finish("stop")


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (delta(content="half"), "unavailable"),
        (b"", "unavailable"),
        (b"data: {bad\n\n", "unreadable"),
        (b"data: [1]\n\n", "unreadable"),
        (b'data: {"choices": 3}\n\n', "unreadable"),
        (delta(content=5), "unreadable"),
        (delta(tool_calls=[7]), "unreadable"),
        (delta(tool_calls=[{"index": n, "function": {}} for n in range(200)]), "unreadable"),
        (b"data: " + b"x" * 5_000_000, "unreadable"),
        (data({"error": {"message": "overloaded", "type": "server_error"}}), "unavailable"),
        (data({"error": {"message": "Rate limit reached", "code": 429}}), "rate_limited"),
        (data({"error": "it broke"}), "unavailable"),
    ],
)
def test_what_is_no_answer_is_a_failure(raw: bytes, kind: str) -> None:
    with pytest.raises(ModelFailure) as failed:
        decode([raw])
    assert failed.value.kind == kind


def test_what_came_before_a_failure_is_told_first() -> None:
    said = ChatDecoder().feed(delta(content="a") + delta(content="b") + data({"error": "x"}))
    assert next(said) == "ab"
    with pytest.raises(ModelFailure):
        next(said)


def test_counts_that_are_none_are_left_out() -> None:
    usage = {"prompt_tokens": -1, "completion_tokens": "many"}
    assert decode([delta("stop"), data({"usage": usage})])[-1] == Finish("stop")


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"message": "Incorrect API key provided"}, "key"),
        (403, {"message": "no access"}, "key"),
        (402, "pay", "quota"),
        (429, {"code": "insufficient_quota", "message": "x"}, "quota"),
        (429, {"message": "slow down"}, "rate_limited"),
        (400, {"code": "context_length_exceeded", "message": "x"}, "context"),
        (400, {"message": "This model's maximum context length is 8192 tokens"}, "context"),
        (400, {"message": "the request exceeds the available context size"}, "context"),
        (400, {"code": "content_filter", "message": "x"}, "filtered"),
        (400, {"message": "registry.ollama.ai/library/x does not support tools"}, "tools"),
        (400, {"message": "bad schema"}, "refused"),
        (302, "", "refused"),
        (404, {"message": 'model "x" not found, try pulling it first'}, "model"),
        (404, "<html>", "model"),
        (408, {}, "unavailable"),
        (500, "<html>", "unavailable"),
        (503, {"message": "loading"}, "unavailable"),
        (529, {"message": "overloaded"}, "unavailable"),
    ],
)
def test_refusals_by_http(status: int, error: Any, kind: str) -> None:
    body = json.dumps({"error": error}).encode() if error != "<html>" else b"<html>"
    failure = http_failure(status, body, 7.0)
    assert failure.kind == kind
    assert failure.retry_after == (7.0 if kind in {"rate_limited", "unavailable"} else None)
    assert str(status) in failure.said


def test_an_error_in_a_stream_may_be_any_json() -> None:
    for error in (None, 3, [], {"message": None}, {"message": "m" * 10_000}):
        assert len(stream_failure(error).said) <= 1_000


def test_a_request_as_the_protocol_has_it() -> None:
    call = ModelCall(
        "m",
        "be kind",
        [
            UserMessage("hi"),
            AssistantMessage("", [CallRequest("1", "sum", ""), CallRequest("2", "sum", "{}")]),
            ToolMessage("1", "sum", "Error: no", True),
            ToolMessage("2", "sum", "0"),
            AssistantMessage("done"),
        ],
        [ToolSpec("sum", "adds", {"type": "object"})],
        Sampling(0.5, 100, "low"),
    )
    body = json.loads(request_body(call, tokens_field="max_tokens"))
    assert body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "sum", "arguments": "{}"}},
                {"id": "2", "type": "function", "function": {"name": "sum", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "Error: no"},
        {"role": "tool", "tool_call_id": "2", "content": "0"},
        {"role": "assistant", "content": "done"},
    ]
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    said = (body["temperature"], body["max_tokens"], body["reasoning_effort"], body["stream"])
    assert said == (0.5, 100, "low", True)
    bare = json.loads(request_body(ModelCall("m", "", []), tokens_field="max_tokens"))
    assert set(bare) == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize("row", WORDS, ids=lambda row: f"{row['who']} {row['kind']}")
def test_the_words_of_providers(row: dict[str, Any]) -> None:
    said = row["text"] if "text" in row else json.dumps(row["body"])
    if row["status"]:
        failure = http_failure(row["status"], said.encode(), None)
        assert f"HTTP {row['status']}" in failure.said
    else:
        failure = stream_failure(row["body"])
    assert failure.kind == row["kind"], failure.said
    assert failure.retry_after == row.get("retry")
