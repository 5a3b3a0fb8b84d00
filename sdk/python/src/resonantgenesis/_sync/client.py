"""The synchronous client."""

from __future__ import annotations

from types import TracebackType

from .._core.settings import DEFAULT_MAX_RETRIES, Timeouts, resolve
from .._process.resume_memory import ResumeMemory
from .events import SyncEvents
from .files import SyncFiles
from .resources import SyncAgents, SyncKeys, SyncTokens, SyncUsage
from .sessions import SyncSessions
from .transport import SyncTransport


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
        self._transport = SyncTransport(self._settings)
        self.sessions = SyncSessions(self._transport, ResumeMemory())
        self.agents = SyncAgents(self._transport)
        self.keys = SyncKeys(self._transport)
        self.tokens = SyncTokens(self._transport)
        self.events = SyncEvents(self._transport)
        self.usage = SyncUsage(self._transport)
        self.files = SyncFiles(self._transport)

    @property
    def base_url(self) -> str:
        """The address, without `/v1`."""
        return self._settings.base_url

    def close(self) -> None:
        """Closes the connections; streams that are open break off."""
        self._transport.close()

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
