"""Writes the tables of docs/configuration.md from the settings as the server declares them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from resonantgenesis_server.config import Settings
from resonantgenesis_server.config_load import effective, variable_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
#: The heading of each group of settings, and what stands above its table.
_GROUPS = {
    "": ("Settings of the server", "The server itself."),
    "tools": ("Settings of tools", "Tools that agents may use; see *Tools*."),
    "llm": ("Settings of models", "Agents on language models; see *Models and conversations*."),
    "limits": ("Settings of limits", "Sizes are in bytes, times in seconds; see *Limits*."),
}


def tables() -> str:
    """The headings and tables of all settings, as Markdown."""
    descriptions = dict(_descriptions(Settings, ""))
    parts = []
    for group, (heading, text) in _GROUPS.items():
        rows = [
            f"| `{name}` | `{variable_of(name)}` | {f'`{value}`' if value else 'none'} |"
            f" {descriptions[name]} |\n"
            for name, value, _ in effective(Settings())
            if (name.partition(".")[0] if "." in name else "") == group
        ]
        head = "| setting | variable | default | |\n|---|---|---|---|\n"
        parts.append(f"\n## {heading}\n\n{text}\n\n{head}{''.join(rows)}")
    return "".join(parts)


def page(text: str) -> str:
    """`text`, the page as it is, with the tables as they should be."""
    first = next(heading for heading, _ in _GROUPS.values())
    return text.partition(f"\n## {first}\n")[0] + tables()


def _descriptions(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _descriptions(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or ""


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
