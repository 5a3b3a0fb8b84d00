"""The asynchronous stream of a session's chunks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .._core.session_stream import StreamMachine
from .._http.stream_base import MakeMachine, StreamBase
from ..models import Chunk
from .reader import AsyncReader
from .transport import AsyncIO


class AsyncStream(AsyncReader[Chunk], StreamBase):
    """Chunks of a session, in order, each once, over as many connections as it takes.

    Connects when first iterated (or entered with `async with`). Ends after the turn's `done`.
    Raises StreamError: an `error` chunk's own, the server's refusal, or ConnectionLost once the
    retries are spent. Leaving it, closing it or being cancelled closes the connection at once and
    never cancels the turn; `cancel` does that.
    """

    def __init__(
        self,
        io: AsyncIO,
        make_machine: MakeMachine,
        *,
        session_id: str | None = None,
        position: int = 0,
        prepare: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        super().__init__(io)
        self._set_out(make_machine, session_id, position)
        self._prepare = prepare

    async def cancel(self) -> None:
        """Cancels the turn; the stream goes on to its `done`. A stream not started just ends."""
        call = self._cancel_call()
        if call is None:
            await self.aclose()
        else:
            await self._io.call(call)

    async def _begin(self) -> StreamMachine:
        session_id = self._session_id
        if self._machine is None and self._prepare is not None:
            session_id = await self._prepare()
        return self._start(session_id)
