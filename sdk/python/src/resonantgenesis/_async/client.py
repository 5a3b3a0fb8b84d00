"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from .._core import calls as _calls
from .._core.settings import DEFAULT_MAX_RETRIES, Timeouts, resolve
from .._process.resume_memory import StreamMemory
from .._realtime.client import Realtime
from .._realtime.consumers import MAX_ITEMS
from .._realtime.credential import GetToken
from .._realtime.websocket import Compression
from ..models import Agent, Page, SigningKey, Token
from .events import AsyncEvents
from .files import AsyncFiles
from .keys import AsyncKeys
from .sessions import AsyncSessions
from .transport import AsyncIO
from .usage import AsyncUsage


class AsyncAgents:
    """Agents. All methods raise StreamError."""

    def __init__(self, io: AsyncIO) -> None:
        self._io = io

    async def create(self, **fields: Any) -> Agent:
        """Makes an agent: id (optional), name, engine, instructions, model, tools, defaults."""
        return await self._io.call(_calls.create_agent(fields))

    async def get(self, agent_id: str) -> Agent:
        """An agent's settings."""
        return await self._io.call(_calls.get_agent(agent_id))

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Agent]:
        """One page of agents."""
        return await self._io.call(_calls.list_agents(limit, cursor))

    async def update(self, agent_id: str, **fields: Any) -> Agent:
        """Changes the given fields."""
        return await self._io.call(_calls.update_agent(agent_id, fields))

    async def delete(self, agent_id: str) -> None:
        """Deletes an agent; its sessions stay readable."""
        await self._io.call(_calls.delete_agent(agent_id))


class AsyncTokens:
    """Client tokens: short-lived credentials for browsers."""

    def __init__(self, io: AsyncIO) -> None:
        self._io = io

    async def create(
        self,
        scopes: Sequence[str],
        *,
        subject: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        ttl_seconds: int | None = None,
    ) -> Token:
        """A token with `scopes`, confined to a subject, session or agent if named."""
        return await self._io.call(
            _calls.create_token(
                scopes,
                subject=subject,
                session_id=session_id,
                agent_id=agent_id,
                ttl_seconds=ttl_seconds,
            )
        )

    async def rotate(self, *, end_tokens: bool = False) -> SigningKey:
        """Has the server sign tokens with a new key from now on; needs its bootstrap key. Tokens
        that are out stay valid until they expire, or end with `end_tokens`."""
        return await self._io.call(_calls.rotate_tokens(end_tokens))


class ResonantGenesis:
    """The client: `sessions`, `agents`, `keys`, `tokens`, `events`, `files`, `usage`,
    `realtime()`.

    `api_key` defaults to the variable RESONANTGENESIS_API_KEY, `base_url` to
    RESONANTGENESIS_BASE_URL, then to the public service. `timeout` is in seconds, for an answer
    that does not stream; `Timeouts` sets the others too. `max_retries` counts failures in a row.
    One client serves any number of streams and tasks; use it as `async with` or `aclose` it.
    Raises ValueError for settings that cannot work.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | Timeouts | None = None,
        max_retries: int = DEFAULT_MAX_RETRIES,
    ) -> None:
        self._settings = resolve(api_key, base_url, timeout, max_retries)
        self._io = AsyncIO(self._settings)
        self.sessions = AsyncSessions(self._io, StreamMemory())
        self.agents = AsyncAgents(self._io)
        self.keys = AsyncKeys(self._io)
        self.tokens = AsyncTokens(self._io)
        self.events = AsyncEvents(self._io)
        self.usage = AsyncUsage(self._io)
        self.files = AsyncFiles(self._io)

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
            self._io.settings,
            self._io.reach,
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
        """Closes the connections; streams that are open break off."""
        await self._io.aclose()

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
