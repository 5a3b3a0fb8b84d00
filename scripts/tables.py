"""Writes the tables of the documentation that the code declares: of settings and of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from pydantic import BaseModel
from resonantgenesis_server.config.load import effective, variable_of
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.metrics import METERS, PREFIX
from resonantgenesis_server.model.limits import Limits

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: The first setting of each group, its heading, and what stands above its table. Small groups:
#: the agent `guide` quotes a table whole.
_GROUPS = {
    "host": ("Settings of the server", "The server itself."),
    "tools.timeout": ("Settings of tools", "Tools that agents may use; see *Tools*."),
    "llm.api_keys": (
        "Settings of models",
        "Agents on language models; see *Models and conversations*.",
    ),
    "http_agents.allow_hosts": (
        "Settings of agents that are HTTP endpoints",
        "The engine `http`; see *Remote agents*.",
    ),
    "webhooks.allow_hosts": (
        "Settings of webhooks",
        "Times are in seconds; see *Webhooks*.",
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
_SETTINGS_HEAD = "| setting | variable | default | |\n|---|---|---|---|\n"
_METRICS_HEAD = "| metric | type | label | |\n|---|---|---|---|\n"


def pages() -> dict[Path, str]:
    """The pages with tables, as they should be."""
    configuration, monitoring = DOCS / "configuration.md", DOCS / "monitoring.md"
    text = configuration.read_text(encoding="utf-8")
    before = text.partition(f"\n## {next(iter(_GROUPS.values()))[0]}\n")[0]
    first, head, rest = monitoring.read_text(encoding="utf-8").partition(_METRICS_HEAD)
    after = rest.partition("\n\n")[2]
    return {
        configuration: before + _settings(),
        monitoring: f"{first}{head}{_metrics()}\n{after}",
    }


def _settings() -> str:
    descriptions = dict(_descriptions(Settings, ""))
    text = ""
    for name, value, _ in effective(Settings()):
        if name in _GROUPS:
            text += "\n## {}\n\n{}\n\n".format(*_GROUPS[name]) + _SETTINGS_HEAD
        shown = f"`{value}`" if value else "none"
        text += f"| `{name}` | `{variable_of(name)}` | {shown} | {descriptions[name]} |\n"
    assert text.count(_SETTINGS_HEAD) == len(_GROUPS), (
        "the first setting of a group has another name"
    )
    return text


def _metrics() -> str:
    return "".join(
        f"| `{PREFIX}{row.name}` | {row.kind} | {f'`{row.label}`' if row.label else ''} |"
        f" {row.help} |\n"
        for row in METERS.table
    )


def _descriptions(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _descriptions(kind, f"{prefix}{name}.")
        elif kind is Limits:
            for limit, hint in get_type_hints(Limits, include_extras=True).items():
                yield f"{prefix}{name}.{limit}", hint.__metadata__[0].description
        else:
            yield prefix + name, field.description or ""


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
