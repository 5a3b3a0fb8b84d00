"""Messages of the user while a model works: in its next call, and in the history of later turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from resonantgenesis_server.agents.base import InboxMessage, PastCall, PastStep, PastTurn, Turn
from resonantgenesis_server.agents.engines.llm.calls import (
    AssistantMessage,
    ToolMessage,
    UserMessage,
)
from resonantgenesis_server.agents.engines.llm.conversation import open_conversation
from support.models import Call, FakeProvider, Reply

from .llm_agents import Talk, text_of

pytestmark = pytest.mark.anyio
MakeTurn = Callable[..., Turn]
CALL = PastCall("search", {"q": "x"}, "r" * 100)


class Told:
    """An inbox with these messages at each look."""

    def __init__(self, *looks: Sequence[str]) -> None:
        self.looks = list(looks)

    async def take(self) -> list[InboxMessage]:
        looked = self.looks.pop(0) if self.looks else ()
        return [InboxMessage(f"m{n}", text) for n, text in enumerate(looked)]

    async def wait(self) -> list[InboxMessage]:
        return await self.take()

    def take_from_thread(self) -> list[InboxMessage]:
        return []


@pytest.fixture
async def talk(provider: FakeProvider) -> AsyncIterator[Talk]:
    made = Talk(provider)
    yield made
    await made.engine.close()


def messages_of(provider: FakeProvider, call: int) -> list[tuple[str, Any]]:
    return [(m["role"], m.get("content")) for m in provider.seen[call].body["messages"]]


async def test_a_model_gets_messages_before_its_next_call(
    provider: FakeProvider, talk: Talk, make_turn: MakeTurn
) -> None:
    provider.answer(
        "m", Reply.saying("Hm.", calls=[Call("echo", {"say": "a"}, "x")]), Reply.saying("Done.")
    )
    turn = make_turn("go", inbox=Told((), ("shorter", "in Spanish")))
    await talk.run(turn, "local:m")
    assert messages_of(provider, 0)[-1] == ("user", "go")
    told = messages_of(provider, 1)
    assert [role for role, _ in told[-4:]] == ["assistant", "tool", "user", "user"]
    assert [content for _, content in told[-2:]] == ["shorter", "in Spanish"]


async def test_an_answer_is_followed_by_another_if_the_user_has_spoken_meanwhile(
    provider: FakeProvider, talk: Talk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("One."), Reply.saying("Two."))
    chunks = await talk.run(make_turn("go", inbox=Told((), ("and?",))), "local:m")
    assert text_of(chunks) == "One.Two."
    assert messages_of(provider, 1)[-2:] == [("assistant", "One."), ("user", "and?")]


async def test_the_last_step_takes_no_message(
    provider: FakeProvider, talk: Talk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("One."))
    inbox = Told((), ("and?",))
    await talk.run(make_turn("go", inbox=inbox, max_steps=1), "local:m")
    assert inbox.looks == [("and?",)]


PAST = PastTurn(
    "goal",
    "Let me see. Found.",
    "success",
    [PastStep("Let me see. ", [CALL], "hurry"), PastStep("", [], "please")],
    ["thanks"],
)


def test_messages_stand_in_the_history(make_turn: MakeTurn) -> None:
    opening = open_conversation(make_turn("next", turn=2, history=[PAST]), "m", 10_000)
    (user, said, result, hurry, please, found, thanks, goal) = opening.messages
    assert isinstance(said, AssistantMessage)
    assert isinstance(result, ToolMessage)
    assert (user, hurry, please) == (
        UserMessage("goal"),
        UserMessage("hurry"),
        UserMessage("please"),
    )
    assert found == AssistantMessage("Found.")
    assert (thanks, goal) == (UserMessage("thanks"), UserMessage("next"))


def test_a_setting_bounds_the_results_of_earlier_turns(make_turn: MakeTurn) -> None:
    turn = make_turn("next", turn=2, history=[PAST])
    for limit in (10, 100):
        opening = open_conversation(turn, "m", 10_000, result_chars=limit)
        (result,) = [each for each in opening.messages if isinstance(each, ToolMessage)]
        assert ("left out" in result.result) == (limit < 100)
    plain = open_conversation(turn, "m", 10_000, result_chars=0).messages
    assert plain == [
        UserMessage("goal\n\nhurry\n\nplease"),
        AssistantMessage("Let me see. Found."),
        UserMessage("thanks"),
        UserMessage("next"),
    ]


def test_turns_that_were_regenerated_are_not_left_out(make_turn: MakeTurn) -> None:
    past = [PastTurn("a", "b", "success")]
    opening = open_conversation(make_turn(turn=5, history=past, earlier=1), "m", 100)
    assert opening.note == ""
