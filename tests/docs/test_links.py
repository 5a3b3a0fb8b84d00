"""Links between the documents lead somewhere, and the paths that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "bench").glob("*.md"),
    *(ROOT / "protocol").glob("*.md"),
    *(ROOT / "examples").glob("*/README.md"),
    *(ROOT / "sdk").glob("*/README.md"),
]
#: Documents that tell a contributor where to go; what they name in code marks is relative to one
#: of these folders.
GUIDES = [ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]
FOLDERS = [ROOT, ROOT / "server/src/resonantgenesis_server", ROOT / "server"]

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`([\w./-]+(?:\.(?:py|ts|md|yaml|toml|in|txt)|/))`")


def prose_of(path: Path) -> str:
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in _LINK.findall(prose_of(document)):
        target, _, anchor = link.partition("#")
        if ":" in target:
            continue
        path = document.parent / target if target else document
        assert path.exists(), link
        assert not anchor or anchor in anchors_of(path), link


@pytest.mark.parametrize("document", GUIDES, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    named = set(_PATH.findall(prose_of(document)))
    assert len(named) > 5
    for path in named:
        assert any((folder / path).exists() or list(folder.glob(path)) for folder in FOLDERS), path
