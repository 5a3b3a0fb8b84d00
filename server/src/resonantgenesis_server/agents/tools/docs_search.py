"""The tool `docs_search`: finds passages in the project's own documentation."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import resonantgenesis_server

from .base import JsonValue, ToolContext, ToolError, number_argument, text_argument

_PACKAGE = Path(resonantgenesis_server.__file__).parent
_PACKAGED = _PACKAGE / "docs"
#: The pages: a wheel has them in the package, an editable install in the repository's `docs/`.
PAGES = _PACKAGED if _PACKAGED.is_dir() else _PACKAGE.parents[2] / "docs"

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"\s*(```|~~~)")
#: What stands behind a block's language for the tests that run the block, and for no reader.
_HOW_TO_RUN = re.compile(r"(?<=^```)(\w+)(?: browser)?(?: until=\"[^\"]*\")?$")


@dataclass(frozen=True, slots=True)
class Section:
    """The text under one heading. `page` is the file's name without `.md`."""

    page: str
    title: str
    heading: str
    text: str


def page_files(folder: Path = PAGES) -> list[Path]:
    """The Markdown files in `folder`, by name, without `README.md`, the index for people."""
    return sorted(path for path in folder.glob("*.md") if path.name != "README.md")


def read_sections(folder: Path = PAGES) -> list[Section]:
    """All sections of all pages, pages by name. Raises OSError."""
    found: list[Section] = []
    for path in page_files(folder):
        found += split_page(path.stem, path.read_text(encoding="utf-8"))
    return found


def split_page(page: str, markdown: str) -> list[Section]:
    """The sections of one page. The text before the first subheading has the title of the page."""
    title = heading = page
    sections: list[Section] = []
    lines: list[str] = []

    def end_section() -> None:
        text = "\n".join(lines).strip()
        if text:
            sections.append(Section(page, title, heading, text))
        lines.clear()

    in_fence = False
    for line in markdown.splitlines():
        if _FENCE.match(line):
            in_fence = not in_fence
        match = None if in_fence else _HEADING.match(line)
        if match is None:
            lines.append(_HOW_TO_RUN.sub(r"\1", line))
            continue
        end_section()
        heading = match.group(2)
        if len(match.group(1)) == 1:
            title = heading
    end_section()
    return sections


def blocks_of(text: str) -> list[str]:
    """The paragraphs, lists, tables and fenced code blocks of a text, each whole."""
    blocks: list[str] = []
    lines: list[str] = []
    in_fence = False
    for line in [*text.splitlines(), ""]:
        if _FENCE.match(line):
            in_fence = not in_fence
        if line.strip() or in_fence:
            lines.append(line)
        elif lines:
            blocks.append("\n".join(lines))
            lines = []
    if lines:  # a fence left open
        blocks.append("\n".join(lines))
    return blocks


MAX_QUERY = 1_000
MAX_RESULTS = 20
#: Terms of a query that are used; a goal may have 64 KiB, a question has not.
_MAX_TERMS = 32

_STOP_WORDS = """
    a about am an and any are as at be been but by can could did do does doing for from get give
    had has have how i if in into is it its just know like make may me mean might much must my need
    of on or our please shall should show so some such tell than that the their them then there
    these they this those to us use using want was way we were what when where which who why will
    with would you your d ll m re s t ve
"""
#: Words that do not tell the subject of a question.
STOP_WORDS = frozenset(_STOP_WORDS.split())

_TERM = re.compile(r"[^\W_]+(?:_[^\W_]+)*")

_SCHEMA = """
CREATE VIRTUAL TABLE passage USING fts5(
    title, section, text, page UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2'
)
"""
# bm25() is lower for better matches; a word in a heading weighs more than one in a text.
_SEARCH = """
SELECT title, section, page, text, snippet(passage, 2, '', '', '…', 32),
       -bm25(passage, 4.0, 8.0, 1.0) AS score
FROM passage WHERE passage MATCH ? ORDER BY score DESC, rowid LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """A section that matches: its page's title and file name, its text, and how well."""

    title: str
    section: str
    page: str
    text: str
    snippet: str
    score: float


def terms_of(query: str) -> list[str]:
    """The telling words of `query`, or all its words if none is telling. In order, once each."""
    words = [match.group().lower() for match in _TERM.finditer(query[:MAX_QUERY])]
    telling = [word for word in words if word not in STOP_WORDS]
    return list(dict.fromkeys(telling or words))[:_MAX_TERMS]


class DocsIndex:
    """A full-text index in memory, made at the first search. Calls block: use a thread."""

    def __init__(self, folder: Path = PAGES) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def search(self, query: str, limit: int = 5) -> list[Passage]:
        """The best `limit` passages: those with all terms first, then those with some.

        Any text is a query; syntax of FTS5 has no meaning in it. Raises `ToolError` when the
        documentation cannot be read or this SQLite has no FTS5.
        """
        quoted = [f'"{term}"' for term in terms_of(query)]
        if not quoted or limit < 1:
            return []
        try:
            with self._lock:
                found = self._match(" AND ".join(quoted), limit)
                if len(found) < limit and len(quoted) > 1:
                    found += self._match(" OR ".join(quoted), limit + len(found))
        except (sqlite3.Error, OSError) as exc:
            raise ToolError("the documentation's index is not available") from exc
        once: dict[tuple[str, str], Passage] = {}
        for passage in found:
            once.setdefault((passage.page, passage.text), passage)
        return list(once.values())[:limit]

    def close(self) -> None:
        """Free the memory. A later search makes the index again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _match(self, expression: str, limit: int) -> list[Passage]:
        if self._connection is None:
            self._connection = _build(read_sections(self._folder))
        rows = self._connection.execute(_SEARCH, (expression, limit)).fetchall()
        return [
            Passage(title, section, page, text, snippet, round(score, 3))
            for title, section, page, text, snippet, score in rows
        ]


def _build(sections: list[Section]) -> sqlite3.Connection:
    # One thread at a time uses it (the lock above), but not always one and the same.
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute(_SCHEMA)
    connection.executemany(
        "INSERT INTO passage(title, section, text, page) VALUES (?, ?, ?, ?)",
        [(s.title, s.heading, s.text, s.page) for s in sections],
    )
    connection.commit()
    return connection


#: The index of the packaged documentation, one for the process: the pages never change.
PACKAGED = DocsIndex()


class DocsSearch:
    """The tool `docs_search`."""

    name = "docs_search"
    description = "Searches this server's documentation and returns the passages that fit best."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "maxLength": MAX_QUERY},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_RESULTS, "default": 5},
        },
        "required": ["query"],
        "additionalProperties": False,
    }

    def __init__(self, index: DocsIndex = PACKAGED) -> None:
        self._index = index

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """A list of `{title, section, page, text, snippet, score}`, the best first."""
        query = text_argument(args, "query", MAX_QUERY)
        limit = number_argument(args, "limit", default=5, minimum=1, maximum=MAX_RESULTS)
        passages = await asyncio.to_thread(self._index.search, query, limit)
        return [asdict(passage) for passage in passages]
