"""Chunks as text: agents' text as it is, but without power over the terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.cli import asks
from resonantgenesis_server.cli.render import WordWrap, one_line, safe
from resonantgenesis_server.cli.view import ChunkView
from rich.console import Console


def shown(*chunks: dict[str, object]) -> str:
    out = io.StringIO()
    view = ChunkView(Console(file=out))
    for chunk in chunks:
        view.show(chunk)
    view.end_line()
    return out.getvalue()


def text(content: str) -> dict[str, object]:
    return {"type": "text", "content": content}


def call(**args: object) -> dict[str, object]:
    return {"type": "tool_call", "tool": "t", "args": args}


def result(value: object, *, is_error: bool = False) -> dict[str, object]:
    return {"type": "tool_result", "tool": "t", "result": value, "is_error": is_error}


@given(st.text())
def test_no_control_characters_reach_the_terminal(content: str) -> None:
    left = set(safe(content))
    assert not {chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]} - {"\n", "\t"} & left
    assert safe("a\tb\n[bold]ü\u2028") == "a\tb\n[bold]ü\u2028"


def test_text_is_not_changed_otherwise() -> None:
    content = "[red]no markup[/red] \t 123 'quoted' http://x " + "wide " * 60
    assert shown(text(content)) == content + "\n"


def test_lines_begin_on_lines_of_their_own() -> None:
    assert shown(
        text("Let me see."),
        call(q="ü", n=2),
        result({"answer": [1, 2]}),
        text("It is "),
        text("2.\n"),
        result("broken\nbadly", is_error=True),
    ) == ('Let me see.\n→ t(q="ü", n=2)\n← t: 2 results: [1, 2]\nIt is 2.\n✗ t: broken badly\n')


def test_messages_to_a_running_turn_are_shown_where_it_took_them() -> None:
    message = {"type": "user_message", "message_id": "m", "content": "in\nSpanish"}
    assert shown(text("One."), {**message, "taken": True}, text("Dos.")) == (
        "One.\n« in Spanish\nDos.\n"
    )
    assert shown({**message, "taken": False}) == "« in Spanish (left for the next turn)\n"


def test_a_question_names_its_choices() -> None:
    ask = {"type": "input_required", "call_id": "a", "kind": "input", "message": "Where to?"}
    assert shown({**ask, "schema": {"enum": ["Oslo", 7]}}) == '? Where to? one of "Oslo", 7\n'
    assert shown({**ask, "schema": {"type": "string"}}) == "? Where to?\n"


def test_a_choice_may_be_typed_as_a_bare_word() -> None:
    ask = {"kind": "input", "schema": {"enum": ["Oslo", "8", 7, None]}}
    assert asks.prompt(ask) == "Answer: "
    typed = {"Oslo": "Oslo", ' "Oslo"': "Oslo", "8": "8", "7": 7, "null": None}
    for line, payload in typed.items():
        assert asks.answer(ask, line) == {"payload": payload}
    with pytest.raises(asks.NotAnAnswer, match='type one of "Oslo", "8", 7, null'):
        asks.answer(ask, "Rome")


def test_a_failed_turn_says_why() -> None:
    out = io.StringIO()
    view = ChunkView(Console(file=out))
    view.show({"type": "error", "code": "TIMEOUT", "message": "too slow"})
    view.show({"type": "done", "status": "timeout"})
    assert out.getvalue() == "! TIMEOUT: too slow\n"
    assert view.done is not None and view.error is not None


def test_an_error_names_its_request() -> None:
    error = {"type": "error", "code": "AGENT_FAILED", "message": "the agent failed"}
    assert shown(error | {"request_id": "req_1"}) == (
        "! AGENT_FAILED: the agent failed (request req_1)\n"
    )


def test_kinds_to_come_are_left_out() -> None:
    assert shown({"type": "weather", "content": "hm"}, {}, {"type": "text"}) == ""


def test_what_belongs_to_an_answer_beside_its_text() -> None:
    assert shown(
        {"type": "reasoning", "content": "so\nso"},
        {"type": "source", "url": "https://a.example", "title": "A"},
        {"type": "source", "url": "https://b.example"},
        {"type": "file", "file_id": "file_1", "name": "a.csv", "content_type": "x", "size": 1},
        {"type": "data", "name": "chart", "data": {"x": [1]}},
    ) == (
        "… so so\n◦ A https://a.example\n◦ https://b.example\n▪ a.csv (file_1)\n"
        '◆ chart: {"x": [1]}\n'
    )


def test_the_text_of_a_sub_agent_has_its_name() -> None:
    assert (
        shown(
            {"type": "text", "content": "I ask."},
            {"type": "text", "content": "Four", "agent_id": "weather"},
            {"type": "text", "content": " degrees.", "agent_id": "weather"},
            {"type": "text", "content": "Cold."},
        )
        == "I ask.\n▸ weather\nFour degrees.\n▸ answer\nCold.\n"
    )


@pytest.mark.parametrize(("value", "line"), [("a\n b", "a b"), ("x" * 9, "xxxxxxx…")])
def test_one_line(value: str, line: str) -> None:
    assert one_line(value, 8) == line


def on_terminal(width: int, *pieces: str) -> str:
    """What stands on a terminal after text came in pieces."""
    wrap = WordWrap(lambda: width)
    screen = [""]
    for part in re.split(r"(\x1b\[\d+[DK]|\x1b\[K|\n)", "".join(map(wrap.feed, pieces))):
        if part == "\n":
            screen.append("")
        elif move := re.fullmatch(r"\x1b\[(\d+)D", part):
            screen[-1] = screen[-1][: -int(move[1])]
        elif not part.startswith("\x1b"):
            screen[-1] += part
    return "\n".join(screen)


@given(st.lists(st.text("ab \n", max_size=8)), st.integers(3, 20))
def test_a_terminal_breaks_text_at_words(pieces: list[str], width: int) -> None:
    text = "".join(pieces)
    shown = on_terminal(width, *pieces)
    assert shown.split() == text.split()  # no word is cut, lost or doubled
    assert shown.replace("\n", "") == text.replace("\n", "")
    for line in shown.split("\n"):
        # Only a word longer than a line, or blanks, may reach the last column.
        longest = max(map(len, line.split()), default=0)
        assert len(line.rstrip()) < width or longest >= width or "  " in line.strip()


def test_words_that_come_in_parts_move_whole() -> None:
    assert on_terminal(12, "one two th", "ree four") == "one two \nthree four"
    assert on_terminal(12, "12345678901234567890 a") == "12345678901234567890 \na"
    assert on_terminal(9, "日本語 日本", "語") == "日本語 \n日本語"


def test_code_is_left_as_it_is() -> None:
    code = "```\nlet answer = compute(first, second)\n```\n"
    assert on_terminal(16, *code) == code
    assert on_terminal(16, *code, "some more words now") == code + "some more words \nnow"


def test_pipes_and_dumb_terminals_get_text_as_it_is() -> None:
    words = "many words " * 30
    assert shown(text(words)) == words + "\n"
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, _environ={"TERM": "dumb"})
    ChunkView(console).show(text(words))
    assert out.getvalue() == words
