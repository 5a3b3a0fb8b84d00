"""Agents by the name of their engine."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..model.errors import InvalidRequest
from .base import Agent


@dataclass(frozen=True, slots=True)
class _Engine:
    """`module` has `build(settings) -> Agent`; it is imported when the engine is first used."""

    module: str
    trusted_only: bool = False


_ENGINES: Mapping[str, _Engine] = {
    "guide": _Engine(".engines.guide"),
    "python": _Engine(".engines.python", trusted_only=True),
}


def engine_names(*, trusted: bool = False) -> list[str]:
    """The engines that an agent may name; `trusted` as in `build_agent`."""
    return [name for name, engine in _ENGINES.items() if trusted or not engine.trusted_only]


def build_agent(engine: str, settings: Mapping[str, Any], *, trusted: bool = False) -> Agent:
    """An agent of the engine so named, ready to run any number of turns.

    `settings` are the agent's defaults; the engine takes what it knows and leaves the rest:
    guide `words_per_second`, python `reference` (MODULE:ATTRIBUTE). `trusted` is for agents of the
    command line and the configuration: only they may make the server import code.

    Raises `InvalidRequest` for an engine that is unknown or not allowed and for a bad setting;
    `AgentLoadError` (engine python) when the reference leads to no agent.
    """
    known = _ENGINES.get(engine)
    if known is None:
        names = ", ".join(engine_names(trusted=trusted))
        raise InvalidRequest.field("engine", f"unknown engine {engine[:64]!r}; one of: {names}")
    if known.trusted_only and not trusted:
        names = ", ".join(engine_names())
        raise InvalidRequest.field(
            "engine",
            f"{engine!r} is for agents named when the server is started; one of: {names}",
        )
    module = importlib.import_module(known.module, __package__)
    build = cast("Callable[[Mapping[str, Any]], Agent]", module.build)
    return build(settings)
