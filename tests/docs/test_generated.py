"""What scripts write into the documentation is what they would write now."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_of_settings_and_metrics_are_those_of_the_code() -> None:
    pages = runpy.run_path(str(ROOT / "scripts" / "tables.py"))["pages"]()
    assert len(pages) == 2
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make format"
