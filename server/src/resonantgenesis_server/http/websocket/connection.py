"""One open socket: the shell around the message machine. One task reads, one writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

import structlog
from starlette.types import Receive

from ...codec.times import rfc3339_or_none
from ...codec.websocket import control
from ...feed.shares import LARGE, SHARED, SMALL
from ...log.base import LogError
from ...logging.setup import request_fields
from ...model.errors import ApiError, Forbidden, Internal, RateLimited, Unauthenticated
from ...model.principal import Principal
from ...records.base import StoreError
from ..auth.authenticator import CredentialAuthenticator
from ..errors import store_unusable
from ..limits import Allowance
from ..watchdog import ReservedPlace, StreamWatchdog
from .commands import Commands, Services
from .messages import (
    Action,
    Authenticate,
    Cancel,
    Close,
    Execute,
    GiveInput,
    Post,
    Reply,
    SubscribeEvents,
    SubscribeSession,
    Unsubscribe,
)
from .protocol import SocketMachine, error_reply
from .subscriptions import SocketSubscription
from .writer import AsgiTransport, SocketLost, SocketWriter

log_ = structlog.get_logger("resonantgenesis.ws")

#: Close codes that are not the machine's: server restarting, something broke.
GOING_AWAY, BROKEN = 1012, 1011


class Socket:
    """One WebSocket connection. `run` returns when it is over, whoever ended it.

    `principal` is None before authentication. Afterwards the watchdog checks the socket.
    """

    kind: ClassVar[str] = "websocket"

    def __init__(
        self,
        services: Services,
        authenticator: CredentialAuthenticator,
        watch: StreamWatchdog,
        transport: AsgiTransport,
        principal: Principal | None,
        request_id: str,
        *,
        lenient: bool,
    ) -> None:
        """`lenient`: unknown fields of messages pass."""
        self._limits = services.socket
        self._authenticator = authenticator
        self._watch = watch
        self._transport = transport
        self._request_id = request_id
        self._principal = principal
        self._loop = asyncio.get_running_loop()
        self._machine = SocketMachine(
            services.socket,
            self._loop.time(),
            authenticated=principal is not None,
            lenient=lenient,
        )
        self._writer = SocketWriter(transport, services.socket.unsent)
        self._commands = Commands(services, self._writer, self._subscription_ended)
        self._executes: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(services.socket.executes)
        self._executed = 0
        self._reading: asyncio.Timeout | None = None
        self._moved = self._loop.time()
        self._last_seen = (0, 0)

    @property
    def allowance(self) -> Allowance:
        """The bound on the client's frames."""
        return self._machine.allowance

    @property
    def is_waiting(self) -> bool:
        """Whether it is open and not authenticated."""
        return self._principal is None and not self._writer.closing

    def displace(self) -> bool:
        """Close a socket without an auth message, for others that wait. False: one is being
        checked."""
        actions = self._machine.displaced()
        self._answer(actions)
        return bool(actions)

    @property
    def principal(self) -> Principal:
        if self._principal is None:
            raise Unauthenticated("the socket is not authenticated")
        return self._principal

    @principal.setter
    def principal(self, principal: Principal) -> None:
        self._principal = principal
        if not self._writer.closing:
            self._watch.add(self)  # again, if it was there: it goes by the credential

    @property
    def follows_sessions(self) -> bool:
        return self._commands.follows_sessions

    async def run(self, receive: Receive, place: ReservedPlace | None = None) -> None:
        """Serve from the accepted handshake to the end. `place`: of an authenticated socket."""
        writer = asyncio.create_task(self._write(), name="socket writer")
        writer.add_done_callback(lambda _task: self._stop_reading(self._limits.close_wait))
        overdue: asyncio.TimerHandle | None = None
        if self._principal is not None:
            self._watch.add(self, place)
        else:
            overdue = self._loop.call_later(self._limits.auth_wait, self._auth_overdue)
        try:
            await self._read_to_end(receive, writer)
            await self._finish_executes()
        finally:
            if overdue is not None:
                overdue.cancel()
            if self._principal is not None:
                self._watch.discard(self)
            self._commands.close()
            await _cancelled([writer, *self._executes])

    async def _write(self) -> None:
        try:
            await self._writer.run()
        except SocketLost:
            self._writer.lost()
            self._stop_reading(self._limits.close_wait)  # for what had come before
        except Exception as error:  # a defect of ours must not leave a socket that says nothing
            log_.error("socket failed", request_id=self._request_id, exc_info=error)
            self._transport.abort()
            self._stop_reading(0)

    def _stop_reading(self, seconds: float) -> None:
        """Give the client `seconds` to close from its side."""
        reading, when = self._reading, self._loop.time() + seconds
        if reading is None or reading.expired():
            return
        standing = reading.when()
        if standing is None or standing > when:
            reading.reschedule(when)

    # -- reading ---------------------------------------------------------------------------

    async def _read_to_end(self, receive: Receive, writer: asyncio.Task[None]) -> None:
        """Read until the client has left, or its time for that is over."""
        try:
            async with asyncio.timeout(None) as self._reading:
                await self._read(receive, writer)
        except TimeoutError:
            if self._reading is None or not self._reading.expired():
                raise
        finally:
            self._reading = None

    async def _read(self, receive: Receive, writer: asyncio.Task[None]) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._do(await self._understood(message.get("text")))
            await self._writer.drain()
            if self._machine.state == "closed":
                await asyncio.wait({writer})  # the connection drops later messages

    async def _understood(self, text: str | None) -> list[Action]:
        """Parse a message as soon as its organization's share allows that. Returns its actions."""
        machine, principal = self._machine, self._principal
        if text is None:
            return machine.binary(self._loop.time())
        if principal is None:
            return machine.text(text, self._loop.time())
        organization_id = principal.organization_id
        try:
            await SHARED.turn(organization_id)
        except RateLimited as error:
            return machine.failed(error, None, self._loop.time())
        if len(text) < LARGE:
            SHARED.took(organization_id, SMALL)
            return machine.text(text, self._loop.time())
        await asyncio.sleep(0)  # a compressed one may have followed another at once
        with SHARED.measured(organization_id):
            return machine.text(text, self._loop.time())

    async def _do(self, actions: Iterable[Action]) -> None:
        """Carry out the machine's actions. A request that fails is answered with its error."""
        for action in actions:
            try:
                await self._perform(action)
            except Exception as error:
                self._fail(action, error)

    async def _perform(self, action: Action) -> None:
        match action:
            case Reply() | Close():
                self._answer([action])
            case Authenticate():
                await self._authenticate(action)
            case SubscribeEvents():
                await self._commands.subscribe_events(self.principal, action)
            case SubscribeSession():
                await self._commands.subscribe_session(self.principal, action)
            case Unsubscribe():
                self._commands.unsubscribe(self.principal, action)
            case Cancel():
                await self._commands.cancel(self.principal, action)
            case Post():
                await self._commands.post(self.principal, action)
            case GiveInput():
                await self._commands.give_input(self.principal, action, self._request_id)
            case Execute():
                await self._execute_soon(action)

    def _answer(self, actions: Iterable[Action]) -> None:
        """Carry out actions that need no service: send and close."""
        for action in actions:
            if isinstance(action, Reply):
                self._writer.put(action.message)
            elif isinstance(action, Close):
                self._close(action.code, action.reason)

    def _fail(self, action: Action, error: Exception) -> None:
        """Answer a request with the error that it met."""
        message_id = None if isinstance(action, Reply | Close) else action.id
        refusal = self._as_api_error(error)
        self._answer(self._machine.failed(refusal, message_id, self._loop.time()))

    def _as_api_error(self, error: Exception) -> ApiError:
        if isinstance(error, ApiError):
            return error
        if isinstance(error, LogError | StoreError):
            return store_unusable(error, self._request_id)
        log_.error("message failed", request_id=self._request_id, exc_info=error)
        return Internal("the server failed")

    # -- authentication --------------------------------------------------------------------

    async def _authenticate(self, request: Authenticate) -> None:
        try:
            principal = await self._authenticator.verify(request.token)
        except Unauthenticated as error:
            self._answer(self._machine.refused(error, request.id))
            return
        self._check_same(principal)
        if self._principal is None:
            self._watch.check_limit(principal)
        self.principal = principal
        request_fields.set({"request_id": self._request_id, "key_id": principal.key_id})
        self._machine.authenticated()
        expires_at = rfc3339_or_none(principal.expires_at)
        self._writer.put(control("authenticated", expires_at=expires_at, id=request.id))

    def _check_same(self, new: Principal) -> None:
        """A fresh credential extends the socket, it does not make it somebody else's."""
        old = self._principal
        if old is None:
            return
        bounds = [(p.organization_id, p.subject, p.session_id, p.agent_id) for p in (old, new)]
        if bounds[0] != bounds[1]:
            raise Forbidden("this credential is of somebody else; open another socket for it")
        lacking = sorted(scope for scope in self._commands.needs() if not new.allows(scope))
        if lacking:
            raise Forbidden(f"the standing subscriptions need {', '.join(lacking)}")

    def _auth_overdue(self) -> None:
        self._answer(self._machine.auth_overdue())

    # -- turns -----------------------------------------------------------------------------

    async def _execute_soon(self, request: Execute) -> None:
        """Beside the other messages, so many at once."""
        try:
            async with asyncio.timeout(self._limits.execute_wait):
                await self._slots.acquire()
        except TimeoutError:
            raise RateLimited(
                "too many executes are under way on this socket", retry_after=1
            ) from None
        task = asyncio.create_task(self._execute(request), name="socket execute")
        self._executes.add(task)
        task.add_done_callback(self._executed_one)

    async def _execute(self, request: Execute) -> None:
        self._executed += 1
        name = f"{self._request_id[:50]}.{self._executed}"
        try:
            await self._commands.execute(self.principal, request, name)
        except Exception as error:
            self._fail(request, error)

    async def _finish_executes(self) -> None:
        """Wait for the client's executes: they are carried out although the client has left."""
        if self._executes:
            await asyncio.wait(self._executes, timeout=self._limits.finish_wait)

    def _executed_one(self, task: asyncio.Task[None]) -> None:
        self._executes.discard(task)
        self._slots.release()

    # -- endings ---------------------------------------------------------------------------

    def _subscription_ended(self, subscription: SocketSubscription, error: ApiError | None) -> None:
        """A subscription is over by itself."""
        channels = sorted(self._commands.table.remove(subscription))
        if error is not None:
            error.details["channels"] = channels
            self._answer([error_reply(error, None)])

    def _close(self, code: int, reason: str, last: bytes | None = None) -> None:
        if self._writer.closing:
            return
        self._writer.close(code, reason, last)
        self._commands.close()
        self._loop.call_later(self._limits.close_wait, self._stop_reading, 0)

    def announce(self, retry_after: float) -> None:
        """The server is going to stop."""
        self._writer.put(control("draining", retry_after=retry_after))

    def restart(self) -> None:
        """Close, since the server stops."""
        self._close(GOING_AWAY, "the server restarts")

    # -- called by the watch ---------------------------------------------------------------

    def end(self, error: ApiError) -> None:
        if not isinstance(error, Unauthenticated):
            self.restart()
            return
        actions = self._machine.refused(error, None)
        for action in actions:
            if isinstance(action, Close):
                reply = error_reply(error, None)
                self._close(action.code, action.reason, reply.message)

    def check_progress(self, now: float) -> None:
        seen = (self._transport.unsent, self._writer.writes)
        waits = self._transport.unsent > 0 or self._writer.waiting > 0
        if not waits or seen != self._last_seen:
            self._last_seen, self._moved = seen, now
        elif now - self._moved >= self._limits.stall:
            self._transport.abort()
            self._stop_reading(0)
        self._commands.send_cursors(now, self._limits.quiet)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
