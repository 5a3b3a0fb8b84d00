"""Figures and tables in the documentation are those of the code and of the bench."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_of_settings_and_metrics_are_those_of_the_code() -> None:
    pages = runpy.run_path(str(ROOT / "scripts" / "tables.py"))["pages"]()
    assert len(pages) == 2
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make format"


def test_the_figures_of_the_readme_are_recorded() -> None:
    results = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")

    def medians(server: str) -> set[str]:
        rows = re.findall(rf"^\| {re.escape(server)} \| ([^|]+) \|", results, re.MULTILINE)
        return {row.split(" / ")[1] for row in rows if row.count(" / ") == 2}

    peer, ours = medians("FastAPI + sse-starlette + Redis"), medians("ResonantGenesis")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Why not FastAPI")[2].partition("## ")[0]
    figures = re.findall(r"^\| [^|]+ \| ([\d.,]+) [^|]*\| ([\d.,]+) [^|]*\|$", table, re.MULTILINE)
    assert len(figures) == 7
    assert {theirs for theirs, _ in figures} <= peer
    assert {own for _, own in figures} <= ours
