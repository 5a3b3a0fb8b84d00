"""What a model is told before it answers, and names and settings of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.agents.base import PastCall, PastStep, PastTurn, Turn
from resonantgenesis_server.agents.engines.llm.calls import (
    AssistantMessage,
    CallRequest,
    ModelCall,
    ModelFailure,
    ToolMessage,
    UserMessage,
)
from resonantgenesis_server.agents.engines.llm.conversation import open_conversation
from resonantgenesis_server.agents.engines.llm.engine import agent_error
from resonantgenesis_server.agents.engines.llm.models import named
from resonantgenesis_server.agents.engines.llm.openai.request import request_body
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings, ModelName, parse_model
from resonantgenesis_server.model.errors import AgentError

from .llm_quirks import faults_of

MakeTurn = Callable[..., Turn]
PAST = [PastTurn("first", "one", "success"), PastTurn("second", "two", "success")]


def test_history_comes_oldest_first_and_the_goal_last(make_turn: MakeTurn) -> None:
    opening = open_conversation(make_turn("third", turn=3, history=PAST), "m", 1_000)
    assert opening.messages == [
        UserMessage("first"),
        AssistantMessage("one"),
        UserMessage("second"),
        AssistantMessage("two"),
        UserMessage("third"),
    ]
    assert (opening.model, opening.system, opening.note) == ("m", "", "")


@pytest.mark.parametrize(
    ("budget", "kept", "note"),
    [
        (17, 2, ""),
        (16, 1, "the oldest turn is left out: the model is told 16 characters of history"),
        (9, 1, "the oldest turn is left out"),
        (8, 0, "the oldest 2 turns are left out"),
        (0, 0, "the oldest 2 turns are left out"),
    ],
)
def test_the_oldest_turns_are_left_out_and_it_is_said(
    make_turn: MakeTurn, budget: int, kept: int, note: str
) -> None:
    opening = open_conversation(make_turn(turn=3, history=PAST), "m", budget)
    assert len(opening.messages) == 2 * kept + 1
    assert opening.note.startswith(note) and bool(opening.note) == bool(note)


def test_turns_that_the_runner_did_not_hand_on_are_counted_as_left_out(make_turn: MakeTurn) -> None:
    opening = open_conversation(make_turn(turn=52, history=PAST), "m", 1_000)
    assert opening.note.startswith("the oldest 49 turns are left out")


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=12), st.data())
def test_the_budget_is_kept_and_used(turns: list[tuple[str, str]], data: st.DataObject) -> None:
    budget = data.draw(st.integers(0, 300))
    history = [PastTurn(goal, output, "success") for goal, output in turns]
    turn = Turn("g", "s", len(turns) + 1, "a", history=history)
    kept = (len(open_conversation(turn, "m", budget).messages) - 1) // 2
    sizes = [len(goal) + len(output) for goal, output in reversed(turns)]
    assert sum(sizes[:kept]) <= budget
    assert kept == len(turns) or sum(sizes[: kept + 1]) > budget


def tooled(result: str | None = "42", *, text: str = "", **fields: Any) -> PastTurn:
    """A turn that looked something up."""
    call = PastCall("search", {"for": "x"}, result, **fields)
    return PastTurn("why?", f"{text}because", "success", [PastStep(text, [call])])


def test_the_tools_of_earlier_turns_are_told_with_their_results(make_turn: MakeTurn) -> None:
    calls = [PastCall("a b", {"n": 1}, "one"), PastCall("c", {"unreadable": "{"}, "no", True)]
    past = PastTurn("go", "I see. Then. Done.", "success", [
        PastStep("I see. ", calls), PastStep("Then. ", [PastCall("c", {}, "")])
    ])  # fmt: skip
    opening = open_conversation(make_turn(turn=2, history=[past]), "m", 1_000)
    assert opening.messages == [
        UserMessage("go"),
        AssistantMessage(
            "I see. ",
            [CallRequest("c00000001", "a_b", '{"n":1}'), CallRequest("c00000002", "c", "{}")],
        ),
        ToolMessage("c00000001", "a_b", "one"),
        ToolMessage("c00000002", "c", "Error: no", True),
        AssistantMessage("Then. ", [CallRequest("c00000003", "c", "{}")]),
        ToolMessage("c00000003", "c", "(nothing)"),
        AssistantMessage("Done."),
        UserMessage("a goal"),
    ]
    assert opening.ids.take("c00000001") == "c00000004"


def test_a_call_never_lacks_its_result(make_turn: MakeTurn) -> None:
    past = [
        PastTurn("go", "", "cancelled", [PastStep("", [PastCall("search", {}, None)])]),
        PastTurn("go", "cut by a limit", "success", [PastStep("other", [PastCall("s", {}, "r")])]),
    ]
    opening = open_conversation(make_turn(turn=3, history=past), "m", 1_000)
    body = json.loads(request_body(ModelCall("m", "", opening.messages), tokens_field="n"))
    assert faults_of(body) == []
    assert "no result: the turn ended before it, cancelled" in opening.messages[2].result
    assert opening.messages[3] == AssistantMessage("(the answer ended here: cancelled)")
    assert opening.messages[-2] == AssistantMessage("cut by a limit")


@pytest.mark.parametrize(
    ("room", "longest"), [(20_000, 4_000), (3_000, 1_000), (700, 200), (100, None), (10, -1)]
)
def test_results_are_shortened_before_a_turn_is_told_without_its_tools_or_not_at_all(
    make_turn: MakeTurn, room: int, longest: int | None
) -> None:
    turn = make_turn(turn=2, history=[tooled("begin" + "x" * 5_000 + "end")])
    messages = open_conversation(turn, "m", room).messages
    results = [message for message in messages if isinstance(message, ToolMessage)]
    if not longest or longest < 0:
        assert not results
        assert len(messages) == (3 if longest is None else 1)
        return
    [result] = [message.result for message in results]
    assert longest <= len(result) <= longest + 60
    assert result.startswith("begin") and result.endswith("end")
    assert "characters left out" in result


def test_a_model_without_tools_is_told_of_none(make_turn: MakeTurn) -> None:
    turn = make_turn(turn=2, history=[tooled(text="Let me see. ")])
    assert open_conversation(turn, "m", 1_000, with_tools=False).messages == [
        UserMessage("why?"),
        AssistantMessage("Let me see. because"),
        UserMessage("a goal"),
    ]


names = st.text(max_size=8)
past_calls = st.builds(
    PastCall, names, st.just({"x": 1}), st.none() | st.text(max_size=3_000), st.booleans()
)
past_steps = st.builds(PastStep, names, st.lists(past_calls, min_size=1, max_size=4))


@given(
    st.lists(
        st.builds(
            PastTurn,
            st.just("goal"),
            names,
            st.sampled_from(["success", "failed"]),
            st.lists(past_steps, max_size=3),
        ),
        max_size=5,
    ),
    st.integers(0, 20_000),
)
def test_what_is_told_is_always_well_formed_and_within_the_room(
    history: list[PastTurn], room: int
) -> None:
    opening = open_conversation(Turn("g", "s", 9, "a", history=history), "m", room)
    body = json.loads(request_body(ModelCall("m", "", opening.messages), tokens_field="n"))
    assert faults_of(body) == []
    frames = 60 * sum(len(past.steps) * 4 for past in history)
    told = sum(len(m.result) for m in opening.messages if isinstance(m, ToolMessage))
    assert told <= room + frames


def test_a_turn_that_ended_badly_says_so(make_turn: MakeTurn) -> None:
    past = [
        PastTurn("a", "", "cancelled"),
        PastTurn("b", "half", "timeout"),
        PastTurn("c", "", "success"),
    ]
    messages = open_conversation(make_turn(turn=4, history=past), "m", 1_000).messages
    answers = [m.text for m in messages if isinstance(m, AssistantMessage)]
    assert answers == [
        "(the answer ended here: cancelled)",
        "half\n(the answer ended here: timeout)",
        "(no answer)",
    ]


@pytest.mark.parametrize(
    ("context", "system"),
    [
        ({}, "be kind"),
        ({"text": "She is new."}, "be kind\n\nContext of this conversation:\nShe is new."),
        ({"name": "Zoë"}, 'be kind\n\nContext of this conversation:\n{"name":"Zoë"}'),
        (
            {"text": "x", "n": 1},
            'be kind\n\nContext of this conversation:\n{"text":"x","n":1}',
        ),
    ],
)
def test_instructions_and_context_come_first(
    make_turn: MakeTurn, context: dict[str, object], system: str
) -> None:
    turn = make_turn(context=context, instructions="be kind")
    assert open_conversation(turn, "m", 0).system == system


def test_names_of_models() -> None:
    assert parse_model("ollama:llama3.2:3b") == ModelName("ollama", "llama3.2:3b")
    assert str(parse_model("gateway/openai:gpt-5")) == "gateway/openai:gpt-5"
    assert parse_model("openai-responses:x").key_variable == "OPENAI_API_KEY"
    assert parse_model("my-own:x").key_variable == "MY_OWN_API_KEY"


def test_a_key_of_the_settings_counts_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelName("local", "m")
    monkeypatch.setenv("LOCAL_API_KEY", "from-the-variable")
    assert LlmSettings().key(model) == "from-the-variable"
    assert LlmSettings(api_keys={"local": "mine"}).key(model) == "mine"
    monkeypatch.setenv("LOCAL_API_KEY", " ")
    assert LlmSettings().key(model) is None


def test_the_configuration_may_say_which_models_there_are() -> None:
    few = LlmSettings(models="openai:gpt-5*, ollama:*")
    assert few.models == ("openai:gpt-5*", "ollama:*")
    assert few.allows(parse_model("openai:gpt-5-mini")) and few.allows(parse_model("ollama:x"))
    assert not few.allows(parse_model("openai:o9")) and not few.allows(parse_model("anthropic:x"))
    assert LlmSettings().allows(parse_model("anthropic:x"))
    with pytest.raises(AgentError, match="is not one of this server's: openai:gpt-5"):
        named("openai:o9", few)


def test_only_openai_itself_is_known_to_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    settings = LlmSettings()
    assert settings.needs_key("openai")
    assert not settings.needs_key("ollama")
    assert not settings.needs_key("local")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert not settings.needs_key("openai")
    own = LlmSettings(base_urls={"anthropic": "http://h", "groq": "http://h"})
    assert (own.chat_url("anthropic"), own.chat_url("groq")) == (None, "http://h")


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("rate_limited", "RATE_LIMITED", "ollama limits the rate of requests; try again in 8 s"),
        ("unavailable", "MODEL_UNAVAILABLE", "does not answer, or broke off its answer (is it r"),
        ("key", "AGENT_FAILED", "refused the server's key: check OLLAMA_API_KEY or llm.api_keys.o"),
        ("quota", "AGENT_FAILED", "has no credit or quota left"),
        ("context", "AGENT_FAILED", "too long for ollama:m: start a new session"),
        ("model", "AGENT_FAILED", "ollama has no model 'm'; `ollama pull m` gets it"),
        ("tools", "AGENT_FAILED", "ollama:m cannot call tools"),
        ("refused", "AGENT_FAILED", "the server's log says why"),
        ("filtered", "AGENT_FAILED", "content filter"),
        ("unreadable", "AGENT_FAILED", "cannot be read"),
    ],
)
def test_what_clients_are_told_of_failures(kind: str, code: str, says: str) -> None:
    failure = ModelFailure(kind, "org-12 sk-secret", retry_after=7.2)
    error = agent_error(failure, ModelName("ollama", "m"), history_chars=5, tools=0)
    assert error.code == code
    assert says in error.message
    assert "secret" not in error.message and "org-12" not in error.message
    retried = code != "AGENT_FAILED"
    assert error.retryable == retried
    assert error.retry_after == (7.2 if retried else None)
