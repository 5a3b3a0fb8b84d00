"""The synchronous client."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from .._core import calls as _calls
from .._core.settings import DEFAULT_MAX_RETRIES, Timeouts, resolve
from .._process.resume_memory import StreamMemory
from ..models import Agent, Page, SigningKey, Token
from .events import SyncEvents
from .files import SyncFiles
from .keys import SyncKeys
from .sessions import SyncSessions
from .transport import SyncIO
from .usage import SyncUsage


class SyncAgents:
    """Agents. All methods raise StreamError."""

    def __init__(self, io: SyncIO) -> None:
        self._io = io

    def create(self, **fields: Any) -> Agent:
        """Makes an agent: id (optional), name, engine, instructions, model, tools, defaults."""
        return self._io.call(_calls.create_agent(fields))

    def get(self, agent_id: str) -> Agent:
        """An agent's settings."""
        return self._io.call(_calls.get_agent(agent_id))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Agent]:
        """One page of agents."""
        return self._io.call(_calls.list_agents(limit, cursor))

    def update(self, agent_id: str, **fields: Any) -> Agent:
        """Changes the given fields."""
        return self._io.call(_calls.update_agent(agent_id, fields))

    def delete(self, agent_id: str) -> None:
        """Deletes an agent; its sessions stay readable."""
        self._io.call(_calls.delete_agent(agent_id))


class SyncTokens:
    """Client tokens: short-lived credentials for browsers."""

    def __init__(self, io: SyncIO) -> None:
        self._io = io

    def create(
        self,
        scopes: Sequence[str],
        *,
        subject: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        ttl_seconds: int | None = None,
    ) -> Token:
        """A token with `scopes`, confined to a subject, session or agent if named."""
        return self._io.call(
            _calls.create_token(
                scopes,
                subject=subject,
                session_id=session_id,
                agent_id=agent_id,
                ttl_seconds=ttl_seconds,
            )
        )

    def rotate(self, *, end_tokens: bool = False) -> SigningKey:
        """Has the server sign tokens with a new key from now on; needs its bootstrap key. Tokens
        that are out stay valid until they expire, or end with `end_tokens`."""
        return self._io.call(_calls.rotate_tokens(end_tokens))


class SyncResonantGenesis:
    """ResonantGenesis without `async`: same names and settings, plain calls and iterators.

    One client serves any number of streams and threads; use it as `with` or `close` it.
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
        self._io = SyncIO(self._settings)
        self.sessions = SyncSessions(self._io, StreamMemory())
        self.agents = SyncAgents(self._io)
        self.keys = SyncKeys(self._io)
        self.tokens = SyncTokens(self._io)
        self.events = SyncEvents(self._io)
        self.usage = SyncUsage(self._io)
        self.files = SyncFiles(self._io)

    @property
    def base_url(self) -> str:
        """The address, without `/v1`."""
        return self._settings.base_url

    def close(self) -> None:
        """Closes the connections; streams that are open break off."""
        self._io.close()

    def __enter__(self) -> SyncResonantGenesis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"
