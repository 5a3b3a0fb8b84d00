"""The engines and the configured agents, as the composition root makes them."""

from __future__ import annotations

import contextlib

from .agents.base import Agent
from .agents.engines.llm.settings import EngineWorkers
from .agents.loading import AgentLoadError
from .agents.registry import Agents, Engines
from .agents.tools.toolbox import Toolbox
from .config.settings import Settings
from .logging.startup import StartupError
from .records.agents import AgentDirectory
from .records.base import AgentRecord
from .records.store import Records

GUIDE = "guide"


async def open_engines(
    stack: contextlib.AsyncExitStack, settings: Settings, tools: Toolbox
) -> Engines:
    """What agents run on, closed by `stack`."""
    workers = EngineWorkers(settings.engine_workers, settings.log_level, settings.log_format)
    engines = Engines(settings.llm, tools, workers)
    stack.push_async_callback(engines.close)
    await engines.start()
    return engines


def configured_agents(
    settings: Settings, records: Records, engines: Engines
) -> tuple[AgentDirectory, Agents]:
    """The agents of the configuration beside those of the records. Raises StartupError."""
    built: dict[str, Agent] = {
        GUIDE: engines.build(GUIDE, {"words_per_second": settings.words_per_second})
    }
    configured = {GUIDE: AgentRecord(GUIDE, "", "Guide", GUIDE)}
    for name, reference in settings.agents.items():
        try:
            built[name] = engines.build("python", {"reference": reference}, trusted=True)
        except AgentLoadError as error:
            raise StartupError(f"agent {name}: {str(error).removeprefix('agent ')}") from error
        configured[name] = AgentRecord(name, "", name, "python")
    directory = AgentDirectory(records.agents, configured)
    return directory, Agents(directory, built, engines)
