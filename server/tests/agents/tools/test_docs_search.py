from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from resonantgenesis_server.agents.tools import docs_search
from resonantgenesis_server.agents.tools.base import NO_CONTEXT, ToolError
from resonantgenesis_server.agents.tools.docs_search import (
    PACKAGED,
    DocsIndex,
    DocsSearch,
    Section,
    blocks_of,
    read_sections,
    split_page,
    terms_of,
)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[DocsIndex]:
    (tmp_path / "animals.md").write_text(
        "# Animals\n\nAll of them.\n\n## Cats\n\nCats sleep. Dogs do not matter here.\n\n"
        "## Dogs\n\nDogs bark at cats.\n"
    )
    (tmp_path / "plants.md").write_text("# Plants\n\n## Trees\n\nTrees grow slowly.\n")
    index = DocsIndex(tmp_path)
    yield index
    index.close()


def places(index: DocsIndex, query: str, limit: int = 5) -> list[tuple[str, str]]:
    return [(passage.page, passage.section) for passage in index.search(query, limit)]


def test_headings_weigh_more_and_forms_of_words_match(index: DocsIndex) -> None:
    assert places(index, "cat")[0] == ("animals", "Cats")
    assert places(index, "How do dogs bark?")[0] == ("animals", "Dogs")
    assert places(index, "a growing tree") == [("plants", "Trees")]


def test_all_terms_first_then_some(index: DocsIndex) -> None:
    found = places(index, "trees bark cats")
    assert set(found) == {("plants", "Trees"), ("animals", "Dogs"), ("animals", "Cats")}
    assert places(index, "bark cats")[0] == ("animals", "Dogs")
    assert len(found) == len(set(found))


def test_results_are_whole_and_bounded(index: DocsIndex) -> None:
    [best] = index.search("dogs", limit=1)
    assert best.title == "Animals"
    assert best.text == "Dogs bark at cats."
    assert best.snippet == "Dogs bark at cats."
    scores = [passage.score for passage in index.search("cats dogs")]
    assert scores == sorted(scores, reverse=True)
    assert index.search("dogs", limit=0) == []
    assert index.search("???") == []
    assert index.search("unicorn") == []


FTS_SYNTAX = [
    '"',
    'a"b',
    "AND",
    "a AND",
    "NEAR(",
    "a NEAR b",
    "title:x",
    "-x",
    "x*",
    "^x",
    "{a}",
    "(",
]


@given(st.text(max_size=200))
@example("\0")
@example("\ud800 x")
@example("_ __ a_ _b")
def test_no_text_is_a_syntax_error(query: str) -> None:
    assert isinstance(PACKAGED.search(query), list)


@pytest.mark.parametrize("query", FTS_SYNTAX)
def test_the_syntax_of_fts_is_not_read_as_such(query: str) -> None:
    assert isinstance(PACKAGED.search(query), list)


def test_terms() -> None:
    assert terms_of("How do I resume a resume?") == ["resume"]
    assert terms_of("what is it") == ["what", "is", "it"]
    assert terms_of("resume_from") == ["resume_from"]
    assert terms_of("") == []
    assert len(terms_of(" ".join(f"w{n}" for n in range(1000)))) == 32


@pytest.mark.parametrize(
    ("query", "page", "section"),
    [
        ("How do I resume after a lost connection?", "streaming", "Resume after a lost connection"),
        ("cancel a turn", "sessions-and-turns", "Cancel a turn"),
        ("what does RATE_LIMITED mean", "limits", "Rate limits"),
        ("proxy buffering polling", "streaming", "Polling instead of streaming"),
        ("how do I write my first agent", "agents-in-python", "A first agent"),
        ("words per second", "guide-agent", "Pace: words per second"),
        ("idempotency key", "sessions-and-turns", "Retry safely with an Idempotency-Key"),
        ("EventSource cookie", "authentication", "Cookies for EventSource"),
        ("what survives a crash", "operations", "What survives a crash"),
        ("synchronous client", "python-sdk", "The synchronous client"),
        ("where is my api key", "getting-started", "Find your API key"),
        ("websocket", "websocket-and-events", "WebSocket and platform events"),
    ],
)
def test_the_documentation_answers(query: str, page: str, section: str) -> None:
    assert (page, section) in places(PACKAGED, query)[:2]


def test_sections_are_split_at_headings_and_not_in_code() -> None:
    sections = split_page("p", "# T\nintro\n```\n# no heading\n```\n## A #\ntext\n## Empty\n")
    assert [(s.title, s.heading, s.text) for s in sections] == [
        ("T", "T", "intro\n```\n# no heading\n```"),
        ("T", "A", "text"),
    ]


def test_readers_are_not_told_how_the_tests_run_a_block() -> None:
    for fence in ('```bash until="a b"', "```bash browser", '```bash browser until="x"', "```bash"):
        [section] = split_page("p", f"{fence}\nls\n```")
        assert section.text == "```bash\nls\n```"
    assert not [section for section in read_sections() if "```bash " in section.text]


def test_blocks_keep_code_whole() -> None:
    text = "one\ntwo\n\n```\na\n\nb\n```\n\n- x\n- y\n"
    assert blocks_of(text) == ["one\ntwo", "```\na\n\nb\n```", "- x\n- y"]
    assert blocks_of("```\nopen\n\n") == ["```\nopen\n\n"]


def test_pages_that_cannot_be_read_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(ToolError, match="not available"):
        DocsIndex(tmp_path).search("x")


def test_an_index_that_was_closed_is_made_again(index: DocsIndex) -> None:
    before = places(index, "cats")
    index.close()
    assert places(index, "cats") == before


@pytest.mark.anyio
async def test_the_tool_searches_in_a_thread(
    index: DocsIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    search = index.search

    def watched(query: str, limit: int = 5) -> Any:
        threads.append(threading.get_ident())
        return search(query, limit)

    monkeypatch.setattr(index, "search", watched)
    tool = DocsSearch(index)
    found: Any = await tool.call({"query": "dogs", "limit": 1}, NO_CONTEXT)
    assert found == [
        {
            "title": "Animals",
            "section": "Dogs",
            "page": "animals",
            "text": "Dogs bark at cats.",
            "snippet": "Dogs bark at cats.",
            "score": found[0]["score"],
        }
    ]
    assert threads[0] != threading.get_ident()


@pytest.mark.anyio
async def test_many_searches_at_once_share_one_index(
    index: DocsIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = 0
    read = read_sections

    def slowly(folder: Path) -> list[Section]:
        nonlocal built
        built += 1
        threading.Event().wait(0.02)  # long enough for every thread to come to the same place
        return read(folder)

    monkeypatch.setattr(docs_search, "read_sections", slowly)
    tool = DocsSearch(index)
    results = await asyncio.gather(*(tool.call({"query": "cats"}, NO_CONTEXT) for _ in range(50)))
    assert all(result == results[0] != [] for result in results)
    assert built == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    "args",
    [
        {},
        {"query": ""},
        {"query": 5},
        {"query": "x" * 1001},
        {"query": "x", "limit": 0},
        {"query": "x", "limit": 21},
        {"query": "x", "limit": "5"},
        {"query": "x", "limit": True},
    ],
)
async def test_the_tool_refuses_bad_arguments(args: dict[str, Any]) -> None:
    with pytest.raises(ToolError):
        await DocsSearch().call(args, NO_CONTEXT)
