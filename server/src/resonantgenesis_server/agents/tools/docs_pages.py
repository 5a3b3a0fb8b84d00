"""The packaged documentation: Markdown pages, read as sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import resonantgenesis_server

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
    """The sections of one page; the text before the first subheading bears the page's title."""
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
