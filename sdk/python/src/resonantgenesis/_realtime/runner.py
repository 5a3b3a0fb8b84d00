"""The task that keeps a socket: it connects, reads, writes, and reconnects after a loss."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from .._core.retry import RetryBudget
from .._core.settings import Settings
from .._process.reachability import Reachability
from ..errors import ConnectionLost, StreamError
from .credential import Credential, TokenRenewal
from .keepalive import SENDS_AT_ONCE, SENDS_PER_SECOND, Keepalive, TokenBucket
from .state import RealtimeState
from .websocket import Compression, WebSocket, open_socket, socket_url

#: Messages after which readers get their turn.
BATCH = 32

log = logging.getLogger("resonantgenesis")


class SocketRunner:
    """Keeps one socket open for `state`.

    `begun` is set once a socket was open or the retries are spent; `connected`: one is open now.
    """

    def __init__(
        self,
        settings: Settings,
        credential: Credential,
        *,
        ping_interval: float,
        ping_timeout: float,
        compression: Compression,
        reach: Reachability,
    ) -> None:
        self.url = socket_url(settings.base_url)
        self.begun = asyncio.Event()
        self.connected = False
        self._settings = settings
        self._credential = credential
        self._interval, self._patience = ping_interval, ping_timeout
        self._compression = compression
        self._reach = reach
        self._retries = self._new_retry_budget()
        self.state = RealtimeState(self._new_retry_budget)
        self._sending = asyncio.Event()

    def nudge(self) -> None:
        """Wake the writer: there may be something to send."""
        self._sending.set()

    async def run(self) -> None:
        """Open one socket after the other, until the retries are spent."""
        error: StreamError = ConnectionLost("the socket's task ended")
        try:
            while True:
                error = await self._one_socket()
                wait = self._retries.after(error) if error.retryable else None
                if wait is None:
                    return
                log.info("socket: %s; next attempt in %.2f s", error, wait.seconds)
                await asyncio.sleep(wait.seconds)
        finally:
            if self.state.error is None:
                self.state.fail(error)
            self.begun.set()

    async def _one_socket(self) -> StreamError:
        """Connect, and serve the socket until it is lost; returns the reason."""
        try:
            token = await self._credential.fetch()
        except StreamError as error:
            return error
        try:
            socket = await self._open(token)
        except StreamError as error:
            return self._credential.refused(error)
        keepalive = Keepalive(time.monotonic(), interval=self._interval, patience=self._patience)
        self.connected = True
        self.begun.set()
        self.state.socket_opened()
        tasks = [
            asyncio.create_task(self._listen(socket, keepalive)),
            asyncio.create_task(self._speak(socket, keepalive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.connected = False
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            self.state.socket_lost()
            await socket.close()
        if keepalive.outlived(time.monotonic()):
            self._retries.progress()
        return self._why(ends)

    def _why(self, ends: Sequence[BaseException | None]) -> StreamError:
        """The reason of the loss, from the ends of the two tasks."""
        for end in ends:
            if end is not None and not isinstance(end, StreamError | asyncio.CancelledError):
                raise end
        found = next((end for end in ends if isinstance(end, StreamError)), None)
        error = found or ConnectionLost("the link does not answer")
        if self.state.draining is not None:
            error.retry_after = self.state.draining
        if self.state.last_word is not None and error.code == self.state.last_word.code:
            error = self.state.last_word
        return self._credential.refused(error)

    async def _open(self, token: str) -> WebSocket:
        settings = self._settings
        try:
            socket = await open_socket(
                self.url,
                token,
                timeout=settings.timeouts.connect,
                max_size=settings.max_event,
                compression=self._compression,
                proxy=settings.proxy,
                place=settings.place,
            )
        except ConnectionLost as error:
            self._reach.lost(error.message)
            raise
        self._reach.found()
        return socket

    async def _listen(self, socket: WebSocket, keepalive: Keepalive) -> None:
        for count in itertools.count(1):
            text = await socket.receive()
            keepalive.heard()
            if count % BATCH == 0:
                # What has arrived together is handed over without a pause; readers need one.
                await asyncio.sleep(0)
            if self.state.receive(text, time.monotonic()):
                self._retries.progress()
            if self.state.requests.outbox:
                self.nudge()

    async def _speak(self, socket: WebSocket, keepalive: Keepalive) -> None:
        """Send the outbox, no faster than the server allows, and pings."""
        bucket = TokenBucket(SENDS_PER_SECOND, SENDS_AT_ONCE)
        renewal = TokenRenewal(
            self._credential,
            lambda message: self.state.request(message, lasting=False),
            self.nudge,
        )
        renewal.begin()
        while True:
            self._sending.clear()
            now = time.monotonic()
            ask_at = self.state.requests.tick(now)
            match keepalive.due(now):
                case "dead":
                    socket.abort()
                    return
                case "ping":
                    self.state.requests.say({"type": "ping"})
            renew_at = await renewal.tick(now)
            while self.state.requests.outbox:
                await asyncio.sleep(bucket.wait(time.monotonic()))
                await socket.send(self.state.requests.outbox.popleft(), self._patience)
            due = [at for at in (keepalive.next_at, ask_at, renew_at) if at is not None]
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(due) - time.monotonic())):
                    await self._sending.wait()

    def _new_retry_budget(self) -> RetryBudget:
        return RetryBudget(self._settings.max_retries, self._settings.backoff)
