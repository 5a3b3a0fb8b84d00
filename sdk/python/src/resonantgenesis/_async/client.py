"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from .._core import calls
from .._core.settings import DEFAULT_MAX_RETRIES, Timeouts, resolve
from .._process.resume_memory import ResumeMemory
from .._realtime.client import Realtime
from .._realtime.consumers import MAX_ITEMS
from .._realtime.credential import GetToken
from .._realtime.websocket import Compression
from .events import AsyncEvents
from .files import AsyncFiles
from .resources import (
    AsyncAgents,
    AsyncKeys,
    AsyncMetrics,
    AsyncNodes,
    AsyncOrganizations,
    AsyncSubjects,
    AsyncTeams,
    AsyncTokens,
    AsyncTools,
    AsyncUsage,
    AsyncWebhooks,
)
from .sessions import AsyncSessions
from .transport import AsyncTransport


class ResonantGenesis:
    # async only
    """The client: `sessions`, `agents`, `teams`, `keys`, `tokens`, `events`, `files`, `usage`,
    `webhooks`, `organizations`, `nodes`, `metrics`, `tools`, `subjects`, `realtime()`.

    `api_key` defaults to the variable RESONANTGENESIS_API_KEY, `base_url` to
    RESONANTGENESIS_BASE_URL, then to the public service. `timeout` is in seconds, for an answer
    that does not stream; `Timeouts` sets the others too. `max_retries` counts failures in a row.
    With `trust_env` False neither variables nor the system name proxies or certificates. One
    client serves any number of streams and tasks; use it as `async with` or `aclose` it. Raises
    ValueError for settings that cannot work.
    """

    # sync: """The client without `async`: same names and settings, plain calls and iterators.
    # sync:
    # sync: One client serves any number of streams and threads; use it as `with` or `close` it.
    # sync: Raises ValueError for settings that cannot work.
    # sync: """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | Timeouts | None = None,
        max_retries: int = DEFAULT_MAX_RETRIES,
        trust_env: bool = True,
    ) -> None:
        self._settings = resolve(api_key, base_url, timeout, max_retries, trust_env)
        self._transport = AsyncTransport(self._settings)
        self.sessions = AsyncSessions(self._transport, ResumeMemory())
        self.agents = AsyncAgents(self._transport)
        self.teams = AsyncTeams(self._transport)
        self.keys = AsyncKeys(self._transport)
        self.tokens = AsyncTokens(self._transport)
        self.organizations = AsyncOrganizations(self._transport)
        self.subjects = AsyncSubjects(self._transport)
        self.nodes = AsyncNodes(self._transport)
        self.metrics = AsyncMetrics(self._transport)
        self.tools = AsyncTools(self._transport)
        self.events = AsyncEvents(self._transport)
        self.usage = AsyncUsage(self._transport)
        self.webhooks = AsyncWebhooks(self._transport)
        self.files = AsyncFiles(self._transport)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | None] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Call an endpoint that has no method here, and return the JSON object of its answer.

        `path` begins with a slash: `/readyz`, `/openapi.json`. A failed call is repeated like any
        other; a POST carries an Idempotency-Key. Raises StreamError.
        """
        call = calls.any_request(method, path, params or {}, body, idempotency_key)
        return await self._transport.call(call)

    # async only
    def realtime(
        self,
        *,
        get_token: GetToken | None = None,
        buffer_size: int = MAX_ITEMS,
        ping_interval: float = 30.0,
        ping_timeout: float = 10.0,
        compression: Compression = "deflate",
    ) -> Realtime:
        """A WebSocket for any number of channels and sessions: `async with client.realtime()`.

        `get_token` returns a client token (it may be asynchronous) and is asked for every new
        connection and before a token expires; without it the API key is used. Times in seconds.
        """
        return Realtime(
            self._transport.settings,
            self._transport.reach,
            get_token=get_token,
            buffer_size=buffer_size,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            compression=compression,
        )

    @property
    def base_url(self) -> str:
        """The address, without `/v1`."""
        return self._settings.base_url

    async def aclose(self) -> None:
        """Close the connections; open streams break off."""
        await self._transport.aclose()

    async def __aenter__(self) -> ResonantGenesis:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"
