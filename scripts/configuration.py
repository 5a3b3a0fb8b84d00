"""Writes the tables of docs/configuration.md from the settings as the server declares them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from resonantgenesis_server.config import Settings
from resonantgenesis_server.config_load import effective, variable_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
#: The first setting of each group, its heading, and what stands above its table. Small groups:
#: the agent `guide` quotes a table whole.
_GROUPS = {
    "host": ("Settings of the server", "The server itself."),
    "tools.timeout": ("Settings of tools", "Tools that agents may use; see *Tools*."),
    "llm.api_keys": (
        "Settings of models",
        "Agents on language models; see *Models and conversations*.",
    ),
    "limits.body": ("Settings of sizes", "In bytes, and times in seconds; see *Limits*."),
    "limits.queued_turns": ("Settings of turns and waiting", "Times are in seconds."),
    "limits.session_retention": ("Settings of retention", "In seconds."),
    "limits.monthly_tokens": (
        "Settings of rates and budgets",
        "Of a key, its tokens included, and of an organization, all its keys together.",
    ),
    "limits.transfer_rate": ("Settings of connections", "Sizes are in bytes, times in seconds."),
}
_HEAD = "| setting | variable | default | |\n|---|---|---|---|\n"


def tables() -> str:
    """The headings and tables of all settings, as Markdown."""
    descriptions = dict(_descriptions(Settings, ""))
    text = ""
    for name, value, _ in effective(Settings()):
        if name in _GROUPS:
            text += "\n## {}\n\n{}\n\n".format(*_GROUPS[name]) + _HEAD
        shown = f"`{value}`" if value else "none"
        text += f"| `{name}` | `{variable_of(name)}` | {shown} | {descriptions[name]} |\n"
    assert text.count(_HEAD) == len(_GROUPS), "the first setting of a group has another name"
    return text


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
