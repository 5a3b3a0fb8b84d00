"""A conversation with the real server, as a person has it: over a process's input and signals."""

from __future__ import annotations

import signal
import time

import pytest
from cli_fake import SESSION, FakeServer, Reply, as_json, events, failure, turn_of
from cli_process import SECONDS, Process, RealServer


def test_a_conversation_is_one_session(real: RealServer) -> None:
    with Process("chat", **real.environment) as chat:
        chat.say("What is 6 * 7?\n")
        chat.wait_for("= 42\n")
        chat.say("times 2\n\n  EXIT \nnever asked\n")
        assert chat.wait() == 0
    assert "= 84\n" in chat.out
    with Process("sessions", "list", **real.environment) as listed:
        listed.wait()
    newest = listed.out.splitlines()[0]
    assert newest.split("\t")[1:4] == ["guide", "completed", "2"]


def test_ctrl_c_cancels_the_turn_and_not_the_program(real: RealServer) -> None:
    with Process("chat", **real.environment) as chat:
        chat.say("count to 1000000\n")
        chat.wait_for("\n1 2 3 ")
        chat.signal(signal.SIGINT)
        chat.wait_for("(cancelled, ")
        before = len(chat.out)
        chat.say("What is 6 * 7?\n")
        chat.wait_for("= 42\n", before)
        chat.close_input()
        assert chat.wait() == 0
    assert "cancelling" in chat.out
    assert "SESSION_BUSY" not in chat.out


@pytest.mark.parametrize("started", [True, False])
def test_ctrl_c_cancels_a_turn_whose_answer_never_came(fake: FakeServer, started: bool) -> None:
    """The turn may have started all the same: its key names it."""
    cancelled = {"session_id": SESSION, "cancelled": [1], "status": "cancelled"}
    fake.script = [
        as_json({"session_id": SESSION}, 201),
        Reply(mute=True),
        as_json(cancelled) if started else failure(404, "NOT_FOUND", "no such key"),
    ]
    variables = {"RESONANTGENESIS_BASE_URL": fake.url, "RESONANTGENESIS_API_KEY": "key"}
    with Process("chat", **variables) as chat:
        chat.say("hello\n")
        chat.close_input()
        deadline = time.monotonic() + SECONDS
        while len(fake.seen) < 2:
            assert time.monotonic() < deadline, chat.out
            time.sleep(0.02)
        chat.signal(signal.SIGINT)
        assert chat.wait() == 1
    _, execute, cancel = fake.seen
    assert (cancel.method, cancel.path) == ("POST", "/v1/sessions/cancel")
    assert cancel.body == {"idempotency_key": execute.headers["idempotency-key"]}


def test_a_server_that_crashes_is_waited_for(own: RealServer) -> None:
    with Process("chat", **own.environment) as chat:
        chat.say("count to 1000000\n")
        chat.wait_for("\n1 2 3 ")
        own.kill()
        chat.wait_for("trying again from position")
        own.start()
        chat.wait_for("! RUNNER_LOST: ")
        before = len(chat.out)
        chat.say("What is 6 * 7?\n")
        chat.wait_for("= 42\n", before)
        chat.close_input()
        assert chat.wait() == 0
    numbers = chat.out.partition("1 2 3 ")[2].partition("(connection lost")[0].split()
    assert [int(number) for number in numbers] == list(range(4, 4 + len(numbers)))


def test_an_agent_that_is_not_there(real: RealServer) -> None:
    with Process("chat", "nobody", **real.environment) as chat:
        assert chat.wait() == 5
    assert "`resonantgenesis agents list` shows those there are" in chat.out


def test_going_on_with_a_session(real: RealServer) -> None:
    variables = real.environment
    with Process("chat", **variables) as chat:
        chat.say("What is 6 * 7?\n")
        chat.close_input()
        assert chat.wait() == 0
    with Process("sessions", "list", **variables) as listed:
        listed.wait()
    session = listed.out.split("\t")[0]
    with Process("chat", "--session", session, **variables) as chat:
        chat.say("times 2\n")
        chat.close_input()
        assert chat.wait() == 0
    assert "= 84\n" in chat.out


def test_on_a_terminal(real: RealServer) -> None:
    with Process("chat", terminal=True, **real.environment) as chat:
        chat.wait_for("You: ")
        chat.interrupt("no turn runs; exit leaves")
        chat.say("What is 6 * 7?\n")
        chat.wait_for("= 42\r\n")
        chat.say("count to 1000000\n")
        chat.wait_for("1 2 3 ")
        chat.signal(signal.SIGINT)
        chat.wait_for("(cancelled, ")
        # Before the prompt is there, the terminal would take the end of input for itself.
        chat.wait_for("You: ", chat.out.index("(cancelled, "))
        chat.say("\x04")
        assert chat.wait() == 0
    assert "\x1b[36m→ calculator(" in chat.out
    assert "go on with: " in chat.out


def test_a_turn_that_is_lost_says_how_to_go_on(fake: FakeServer) -> None:
    fake.script = [
        as_json({"session_id": SESSION}, 201),
        events(turn_of("Hel", "lo")[:3], cut=True),
        failure(410, "POSITION_EXPIRED", "it is of another epoch"),
    ]
    variables = {"RESONANTGENESIS_BASE_URL": fake.url, "RESONANTGENESIS_API_KEY": "key"}
    with Process("chat", **variables) as chat:
        chat.say("hello\n")
        assert chat.wait() == 1
    assert f" sessions stream {SESSION} --from 3`" in chat.out
    assert f" chat --session {SESSION}`" in chat.out
