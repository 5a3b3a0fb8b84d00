"""The outermost ASGI app: request ids, CORS, authentication, the last handler of errors.

It is one object with one coroutine, since a request costs one call for each layer around it. It
matches the routes of plain ASGI apps before it calls the framework.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..log.base import LogError
from ..logging.setup import NO_REQUEST, request_fields
from ..model.errors import (
    ApiError,
    Forbidden,
    Internal,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from ..model.ids import new_id
from ..records.base import StoreUnusable
from .auth.authenticator import CredentialAuthenticator
from .cors import Cors, HeaderList
from .errors import error_response, method_not_allowed, store_unusable
from .params import (
    APPLIED,
    announces_body,
    header,
    is_lenient,
    parse_query,
    reject_duplicate_headers,
)
from .routing import FastRoute, FastRoutes
from .serving.http_connection import request_connection_of
from .tracing import traced

log = structlog.get_logger("resonantgenesis.http")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ALIAS = "/api/v1"
#: Paths below these need a credential, unless their route is public.
_NEED_CREDENTIALS = (
    "/v1/", "/openai/", "/copilotkit/", "/langgraph/assistants/", "/langgraph/runs",
    "/langgraph/threads", "/mcp", "/a2a/",
)  # fmt: skip

#: Entered at the start of the server, left at its stop. Its value is merged into the state.
Lifespan = Callable[[], AbstractAsyncContextManager[Mapping[str, Any] | None]]


@dataclass(slots=True)
class Drain:
    """Whether the server is draining; shared by the gateway and `/readyz`."""

    draining: bool = False


#: Counts a request of the scope's principal. Raises RateLimited.
CountRequest = Callable[[Scope], Awaitable[None]]


class Gateway:
    """The ASGI app that servers run.

    `methods`: the methods of documented paths without parameters. With them `GET` on a path like
    `/v1/sessions/execute` is a 405, and not a session with the id `execute`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: CredentialAuthenticator,
        cors: Cors,
        fast: Sequence[FastRoute] = (),
        methods: Mapping[str, frozenset[str]] | None = None,
        lifespan: Lifespan | None = None,
        drain: Drain | None = None,
        count: CountRequest | None = None,
    ) -> None:
        self._app = traced(app)
        self._authenticator = authenticator
        self._cors = cors
        self._fast = FastRoutes(
            route if route.method == "WEBSOCKET" else replace(route, app=traced(route.app))
            for route in fast
        )
        self._methods = methods or {}
        self._lifespan = lifespan
        self._drain = drain or Drain()
        self._count = count

    @property
    def draining(self) -> bool:
        return self._drain.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._drain.draining = value

    def headers_for(self, scope: Scope) -> tuple[str, HeaderList]:
        """The request's id, and the headers of any answer, for an answer that the server makes."""
        request_id = _request_id(header(scope, b"x-request-id"))
        return request_id, self._headers(request_id, header(scope, b"origin"))

    def _state(
        self, scope: Scope, request_id: str, origin: bytes | None, *, lenient: bool
    ) -> dict[str, Any]:
        headers = self._headers(request_id, origin)
        if lenient:
            headers.append(APPLIED)
        state: dict[str, Any] = scope.setdefault("state", {})  # a copy, for this request alone
        state.update(request_id=request_id, headers=headers, lenient=lenient)
        return state

    def _headers(self, request_id: str, origin: bytes | None) -> HeaderList:
        return [(b"x-request-id", request_id.encode()), *self._cors.headers(origin)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _run_lifespan(self._lifespan, scope, receive, send)
            return
        given = dict(scope["headers"])  # of each name the last
        request_id = _request_id(given.get(b"x-request-id"))
        origin = given.get(b"origin")
        lenient = b"prefer" in given and is_lenient(scope)
        state = self._state(scope, request_id, origin, lenient=lenient)
        request_fields.set({"request_id": request_id})
        out = ResponseGuard(scope, receive, send, state["headers"])
        try:
            reject_duplicate_headers(scope["headers"], len(given))
            del given  # what is open for long keeps no headers
            if scope["type"] == "http":
                if _is_preflight(scope, origin):
                    await self._preflight(scope, origin or b"", out)
                    return
                if scope["method"] == "HEAD":
                    scope = self._as_get(scope)
            app = await self._admit(scope)
            await app(scope, out.receive, out.send)
        except ClientDisconnect:
            return  # the client has left
        except ApiError as err:
            err = await self._counted(scope, err)
            await _refuse(err, request_id, scope, receive, out)
        except asyncio.CancelledError:  # the server stops, and waits no longer
            stopping = Unavailable("the server is shutting down", retry_after=1.0)
            if scope["type"] == "http" and not out.started:
                await _refuse(stopping, request_id, scope, receive, out)
            raise
        except (StoreUnusable, LogError) as err:
            await _refuse(store_unusable(err, request_id), request_id, scope, receive, out)
        except Exception as err:
            if out.gives_up(err):
                return  # the client has left
            log.exception("request failed", request_id=request_id, path=scope["path"])
            await _refuse(Internal("the server failed"), request_id, scope, receive, out)
        finally:
            request_fields.set(NO_REQUEST)

    async def _admit(self, scope: Scope) -> ASGIApp:
        """Rewrite the alias, authenticate, count the request, and choose the app."""
        path = _without_alias(scope["path"])
        if path is not scope["path"]:
            scope["path"] = path
            if scope.get("raw_path"):
                scope["raw_path"] = scope["raw_path"].removeprefix(b"/api")
        state = scope["state"]
        is_socket = scope["type"] == "websocket"
        method = "WEBSOCKET" if is_socket else scope["method"]
        route, parameters = self._fast.find(method, path)
        if path == "/v1" or path.startswith(_NEED_CREDENTIALS):
            is_public = route is not None and route.public
            principal = None if is_public else await self._authenticator.authenticate(scope)
            # A socket may authenticate by its first message instead.
            if principal is None and not is_socket and not is_public:
                raise Unauthenticated("send Authorization: Bearer with an API key or a token")
            state["principal"] = principal
            if principal is not None:
                request_fields.set({"request_id": state["request_id"], "key_id": principal.key_id})
        if route is not None:
            scope["path_params"] = parameters
            if route.counted:
                await self._count_one(scope)
            state["query"] = parse_query(scope, route.query, route.lists)
            return route.app
        if is_socket:
            raise NotFound("there is no socket at this path")
        await self._count_one(scope)
        parse_query(scope, None)  # the framework's route checks the names
        known = self._methods.get(path)
        if known is not None and method not in known:
            raise method_not_allowed(known)
        return self._app

    async def _count_one(self, scope: Scope) -> None:
        if self._count is not None and scope["state"].get("principal") is not None:
            await self._count(scope)

    async def _counted(self, scope: Scope, refusal: ApiError) -> ApiError:
        """Count a refused request, and return the error for the client.

        A refusal counts even where a granted request does not. A failure of the server does not
        count.
        """
        if scope["state"].get("counted") or refusal.status >= 500:
            return refusal
        try:
            await self._count_one(scope)
        except RateLimited as limited:
            return limited
        return refusal

    def _as_get(self, scope: Scope) -> Scope:
        """Turn HEAD into GET; the server leaves the body out. A stream answers HEAD with 405."""
        path = _without_alias(scope["path"])
        for method in ("GET", "HEAD"):
            if self._fast.find(method, path)[0] is not None:
                return scope
        return {**scope, "method": "GET"}

    async def _preflight(self, scope: Scope, origin: bytes, out: ResponseGuard) -> None:
        asked = header(scope, b"access-control-request-headers") or b""
        granted = self._cors.preflight(origin, asked)
        if granted is None:
            raise Forbidden("this origin is not on the server's list")
        await out.send({"type": "http.response.start", "status": 204, "headers": granted})
        await out.send({"type": "http.response.body"})


def _without_alias(path: str) -> str:
    return path.removeprefix("/api") if path == _ALIAS or path.startswith(_ALIAS + "/") else path


def _request_id(given: bytes | None) -> str:
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return new_id("req")


def _is_preflight(scope: Scope, origin: bytes | None) -> bool:
    return (
        origin is not None
        and scope["method"] == "OPTIONS"
        and header(scope, b"access-control-request-method") is not None
    )


async def _refuse(
    err: ApiError, request_id: str, scope: Scope, receive: Receive, out: ResponseGuard
) -> None:
    """Answer with the error. A response that has begun can only be cut."""
    if out.finished:
        return
    if out.started:
        raise err
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get(
        "extensions", {}
    ):
        await out.send({"type": "websocket.close", "code": 1008, "reason": err.code})
        return
    await error_response(err, request_id)(scope, receive, out.send)


async def _run_lifespan(
    lifespan: Lifespan | None, scope: Scope, receive: Receive, send: Send
) -> None:
    await receive()
    phase = "startup"
    try:
        if lifespan is None:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        else:
            async with lifespan() as state:
                scope.get("state", {}).update(state or {})
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
    except Exception as err:
        await send({"type": f"lifespan.{phase}.failed", "message": str(err)})
        raise
    await send({"type": "lifespan.shutdown.complete"})


#: Seconds and bytes that we go on reading a body after the answer. Most clients read the answer
#: only after they have sent the whole body, and would lose it if we closed the connection.
LINGER_SECONDS = 30.0
LINGER_BYTES = 64 * 1024 * 1024

_CLOSE = (b"connection", b"close")


class ResponseGuard:
    """Wraps `send` and `receive` of an app: adds headers, and reads a body that the app left."""

    __slots__ = (
        "_body_ended", "_connection", "_headers", "_lingers", "_receive", "_scope", "_send",
        "finished", "receive", "started",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: HeaderList) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        #: The app may add to this list before its answer starts.
        self._headers = headers
        self._connection = request_connection_of(scope)
        self._body_ended = False
        self._lingers = False
        #: Our own server knows how much of the body has come; under another we note it.
        self.receive: Receive = receive if self._connection is not None else self._noting
        self.started = False
        self.finished = False

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message. After the start this costs one plain call per message."""
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            self.started = True
            headers = [*message.get("headers", ()), *self._headers]
            if kind == "http.response.start" and self._is_unread():
                self._lingers = True
                if _CLOSE not in headers:
                    headers.append(_CLOSE)
            message = {**message, "headers": headers}
        elif kind in {"http.response.body", "websocket.http.response.body"}:
            self.finished = not message.get("more_body", False)
            if self.finished and self._lingers:
                return self._finish(message)
        elif kind in {"websocket.accept", "websocket.close"}:
            self.started = True
        return self._send(message)

    def gives_up(self, error: Exception) -> bool:
        """Whether the client has left: uvloop raises this error for a write after a reset that it
        has not reported yet."""
        connection = self._connection
        if connection is None or not connection.transport.is_closing():
            return False
        if not isinstance(error, RuntimeError) or "handler is closed" not in str(error):
            return False
        connection.give_up()
        return True

    async def _noting(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_ended = True
        return message

    def _is_unread(self) -> bool:
        """Whether a part of the request's body has not come yet."""
        if self._connection is not None:
            return self._connection.unread
        return not self._body_ended and announces_body(self._scope)

    async def _finish(self, message: Message) -> None:
        """Send the whole answer, read on for a while, then close."""
        await self._send({**message, "more_body": True})
        if self._connection is not None:
            self._connection.linger()
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and self._is_unread():
                    got = await self.receive()
                    if got["type"] == "http.disconnect":
                        break
                    left -= len(got.get("body", b""))
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
