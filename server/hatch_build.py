"""Put the documentation, which lies beside this project in the repository, into its package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGED = "resonantgenesis_server/docs"


class Documentation(BuildHookInterface):
    """Adds `docs/*.md` but its index. An editable install reads them in the repository instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if (root / "src" / PACKAGED).is_dir():
            return  # an unpacked sdist, which has them in the package
        folder = PACKAGED if self.target_name == "wheel" else f"src/{PACKAGED}"
        for page in (root.parent / "docs").glob("*.md"):
            if page.name != "README.md":
                build_data["force_include"][str(page)] = f"{folder}/{page.name}"
