"""The agents that the settings name, and the engines on which these and all others run."""

from __future__ import annotations

import contextlib
from typing import Any

from .agents.base import Agent
from .agents.declared import Declaration
from .agents.engines.http.endpoint import EndpointRecords
from .agents.engines.llm.settings import EngineWorkers
from .agents.engines.python import PythonAgent
from .agents.loading import AgentLoadError
from .agents.loop_watch import LoopWatch
from .agents.registry import Agents, Engines
from .agents.tools.toolbox import Toolbox
from .agents.workers.pool import WorkerPool
from .config.settings import Settings
from .logging.startup import StartupError
from .records.agents import AgentDirectory
from .records.base import AgentRecord
from .records.credentials import CredentialHasher
from .records.store import Records

_GUIDE = "guide"


async def open_engines(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    tools: Toolbox,
    hasher: CredentialHasher,
) -> Engines:
    """The engines that agents run on, and the watch over agents; `stack` closes them."""
    workers = EngineWorkers(settings.engine_workers, settings.log_level, settings.log_format)
    limits = settings.limits
    pool = WorkerPool(wait=limits.worker_wait, grace=limits.worker_grace)
    endpoints = EndpointRecords(hasher.derives)
    engines = Engines(settings.llm, tools, workers, pool, settings.http_agents, endpoints)
    stack.push_async_callback(engines.close)
    await engines.start()
    loop_watch = LoopWatch(isolate=settings.isolate_blocking_agents)
    loop_watch.start()
    stack.push_async_callback(loop_watch.close)
    return engines


def _limits_of(settings: Settings, agent: str) -> dict[str, Any]:
    """Its limits in the configuration, by the names of an agent's `defaults`."""
    limits = settings.agent_limits.get(agent)
    return {} if limits is None else limits.model_dump(exclude_none=True)


def configured_agents(
    settings: Settings, records: Records, engines: Engines
) -> tuple[AgentDirectory, Agents]:
    """The agents of the configuration and of the records. Raises StartupError."""
    built: dict[str, Agent] = {
        _GUIDE: engines.build(_GUIDE, {"words_per_second": settings.words_per_second})
    }
    limits = _limits_of(settings, _GUIDE)
    configured = {_GUIDE: AgentRecord(_GUIDE, "", "Guide", _GUIDE, defaults=limits)}
    for name, reference in settings.agents.items():
        try:
            agent = engines.build("python", {"reference": reference}, trusted=True)
        except AgentLoadError as error:
            raise StartupError(f"agent {name}: {str(error).removeprefix('agent ')}") from error
        built[name] = agent
        declared = agent.declared if isinstance(agent, PythonAgent) else Declaration()
        configured[name] = AgentRecord(
            name,
            "",
            name,
            "python",
            defaults=declared.defaults() | _limits_of(settings, name),
            description=declared.description,
            input_schema=declared.input_schema,
        )
    directory = AgentDirectory(records.agents, configured)
    return directory, Agents(directory, built, engines)
