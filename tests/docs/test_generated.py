"""What scripts write into the documentation is what they would write now."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_of_settings_are_those_of_the_code() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "configuration.py"))
    text = script["PAGE"].read_text(encoding="utf-8")
    assert text == script["page"](text), "run: .venv/bin/python scripts/configuration.py"
