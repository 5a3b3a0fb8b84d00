"""Agents by the name of their engine."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..model.errors import InvalidRequest, Unavailable
from ..model.imports import imported
from ..records.agents import AgentDirectory
from ..records.base import AgentRecord, StoreError
from .base import Agent, ResolvedAgent
from .engines.http.endpoint import EndpointRecords
from .engines.http.settings import HttpAgentSettings
from .engines.team.engine import TeamAgent
from .tools.toolbox import Toolbox
from .workers.pool import WorkerPool

if TYPE_CHECKING:
    from .engines.http.engine import HttpEngine
    from .engines.llm.engine import LlmEngine
    from .engines.llm.settings import EngineWorkers, LlmSettings

_HTTP = "http"
_LLM = "llm"
_PYTHON = "python"
_WORKER = "worker"


@dataclass(frozen=True, slots=True)
class _Engine:
    """`module` is imported when the engine is first used."""

    module: str
    trusted_only: bool = False


#: Engines without parts of the server have `build(settings) -> Agent`; python's takes the toolbox
#: too, worker's the pool.
_ENGINES: Mapping[str, _Engine] = {
    "guide": _Engine(".engines.guide"),
    _HTTP: _Engine(".engines.http.engine"),
    _LLM: _Engine(".engines.llm.engine"),
    _PYTHON: _Engine(".engines.python", trusted_only=True),
    _WORKER: _Engine(".engines.worker"),
}


def engine_names(*, trusted: bool = False) -> list[str]:
    """The engines that an agent may name. `trusted` is as in `Engines.build`."""
    return [name for name, engine in _ENGINES.items() if trusted or not engine.trusted_only]


class Engines:
    """Every engine with its parts of the server; one for the process.

    The engine `llm` uses `llm` and `toolbox`, or their defaults. `start` begins to start the
    `workers`; `close` ends them and all connections.
    """

    def __init__(
        self,
        llm: LlmSettings | None = None,
        toolbox: Toolbox | None = None,
        workers: EngineWorkers | None = None,
        pool: WorkerPool | None = None,
        http: HttpAgentSettings | None = None,
        endpoints: EndpointRecords | None = None,
    ) -> None:
        self._llm_settings = llm
        self._toolbox = toolbox
        self._workers = workers
        #: The workers of agents of the engine `worker`.
        self.pool = pool or WorkerPool()
        self._llm: LlmEngine | None = None
        self._http_settings = http or HttpAgentSettings()
        #: The endpoints of agents of the engine `http`.
        self.endpoints = endpoints or EndpointRecords()
        self._http: HttpEngine | None = None

    async def load(self, engine: str) -> None:
        """Import a known engine if `build` would: that of models takes half a second."""
        if engine in _ENGINES:
            await imported(_ENGINES[engine].module, __package__)

    async def start(self) -> None:
        if self._workers is not None and self._workers.count:
            await self._engine_llm().start()

    def build(self, engine: str, settings: Mapping[str, Any], *, trusted: bool = False) -> Agent:
        """An agent of the named engine, ready for any number of turns.

        `settings` are the agent's defaults and its model. An engine takes the settings that it
        knows: guide `words_per_second`, python `reference` (MODULE:ATTRIBUTE), worker the
        `organization_id`, http the `endpoint`, llm as `LlmEngine.build` says. `trusted` is for
        agents of the command line and the configuration: only they may make the server import code.

        Raises `InvalidRequest` for an engine that is unknown or not allowed and for a bad setting;
        `AgentLoadError` (engine python) when the reference leads to no agent.
        """
        module = importlib.import_module(_known(engine, trusted).module, __package__)
        if engine == _LLM:
            return self._engine_llm().build(settings)
        if engine == _HTTP:
            return self._engine_http().build(settings)
        if engine == _PYTHON:
            made: Agent = module.build(settings, self._toolbox or Toolbox())
            return made
        if engine == _WORKER:
            worker_agent: Agent = module.build(settings, self.pool)
            return worker_agent
        build = cast("Callable[[Mapping[str, Any]], Agent]", module.build)
        return build(settings)

    async def check(self, engine: str, settings: Mapping[str, Any]) -> None:
        """Raises `InvalidRequest` for an agent that could not run as the server is set up."""
        await self.load(engine)
        if engine == _HTTP:
            self._engine_http().check(settings)
            return
        if settings.get("url") is not None:
            raise InvalidRequest.field("url", "is for agents of the engine 'http'")
        self.build(engine, settings)
        if engine == _LLM:
            await self._engine_llm().check(settings)

    async def close(self) -> None:
        if self._llm is not None:
            await self._llm.close()
        if self._http is not None:
            await self._http.close()

    def _engine_http(self) -> HttpEngine:
        if self._http is None:
            module = importlib.import_module(_ENGINES[_HTTP].module, __package__)
            engine: HttpEngine = module.make_engine(self._http_settings, self.endpoints)
            self._http = engine
        return self._http

    def _engine_llm(self) -> LlmEngine:
        if self._llm is None:
            module = importlib.import_module(_ENGINES[_LLM].module, __package__)
            engine: LlmEngine = module.make_engine(
                self._llm_settings, self._toolbox or Toolbox(), self._workers
            )
            self._llm = engine
        return self._llm


def _known(engine: str, trusted: bool) -> _Engine:
    """Raises `InvalidRequest`."""
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
    return known


#: Agents that are kept; past this number all are built again at their next use.
_BUILT = 1_000


class Agents:
    """Resolves ids to agents. An agent is built once and used until its record changes."""

    def __init__(
        self, directory: AgentDirectory, built: Mapping[str, Agent], engines: Engines
    ) -> None:
        self._directory = directory
        self._engines = engines
        self._configured = dict(built)
        self._built: dict[tuple[str, str], tuple[AgentRecord, Agent]] = {}

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        """Raises AgentNotFound, and Unavailable while the records do not answer."""
        try:
            record = await self._directory.get(organization_id, agent_id)
        except StoreError as error:
            raise Unavailable("the agents cannot be read right now", retry_after=1) from error
        await self._engines.load(record.engine)
        return ResolvedAgent(
            self._agent(record),
            record.instructions,
            record.model,
            record.tools,
            record.defaults,
            self._directory.is_configured(record.id),
            record.team is not None,
        )

    def _agent(self, record: AgentRecord) -> Agent:
        if self._directory.is_configured(record.id):
            return self._configured[record.id]
        name = (record.organization_id, record.id)
        known = self._built.get(name)
        if known is None or known[0] != record:
            if len(self._built) > _BUILT:
                self._built.clear()
            settings = {
                **record.defaults,
                "model": record.model,
                "organization_id": record.organization_id,
                "endpoint": record.endpoint,
            }
            if record.team is None:
                agent = self._engines.build(record.engine, settings)
            else:
                agent = TeamAgent(record.team, record.organization_id, self)
            known = self._built[name] = (record, agent)
        return known[1]
