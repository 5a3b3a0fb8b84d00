"""Routes: those of the framework, and those that a plain ASGI app answers before it.

A framework's request would live as long as a stream, and costs more than an event. So the gateway
matches `FastRoute`s first and calls their apps. `streamed` declares such a route once: the app, and
the parameters and responses that the framework documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar, cast

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from ..model.errors import Internal
from .body import JsonRequest
from .params import model_in, parse_query

F = TypeVar("F", bound=Callable[..., Any])


class JsonRoute(APIRoute):
    """A route whose query and JSON body pass our checks instead of the framework's.

    The framework answers every failure while it reads a body with one vague 400, and ignores
    unknown names.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if not self.path.startswith("/v1"):
            return handler
        known, body = query_names(self), self.body_field
        kind = None if body is None else model_in(body.field_info.annotation)

        async def checked(request: Request) -> Response:
            parse_query(request.scope, known)
            if body is None:
                return await handler(request)
            strict = JsonRequest(request.scope, request.receive)
            await strict.load(request.app.state.limits, request.app.state.watch, kind)
            return await handler(strict)

        return checked


def query_names(route: APIRoute) -> frozenset[str]:
    """The names of a route's query parameters."""
    return frozenset(field.alias for field in route.dependant.query_params)


def api_router(prefix: str = "", tag: str | None = None) -> APIRouter:
    """A router whose routes read their bodies through `JsonRoute`."""
    return APIRouter(prefix=prefix, tags=[tag] if tag else None, route_class=JsonRoute)


@dataclass(frozen=True, slots=True)
class FastRoute:
    """A path served by a plain ASGI app. `method` is `WEBSOCKET` for a socket."""

    method: str
    path: str
    pattern: re.Pattern[str]
    app: ASGIApp
    #: Whether its requests count against the key's limit. If not, the app counts by itself.
    counted: bool = True
    #: Whether it needs no credential.
    public: bool = False
    #: The names of its query parameters; None: any name passes.
    query: frozenset[str] | None = None
    #: Those that may be given more than once.
    lists: frozenset[str] = frozenset()


def fast_route(
    method: str,
    path: str,
    app: ASGIApp,
    *,
    counted: bool = True,
    public: bool = False,
    query: frozenset[str] | None = None,
    lists: frozenset[str] = frozenset(),
) -> FastRoute:
    """A route for `path`, whose `{name}` segments arrive in `scope["path_params"]`.

    `scope["state"]` has `principal` (authenticated, scopes not checked), `request_id`, `query`
    (QueryParams), and `headers`, which are added to the response. The app may raise any `ApiError`
    before it starts its response.
    """
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
    compiled = re.compile(pattern, re.DOTALL)
    return FastRoute(method, path, compiled, app, counted, public, query, lists)


class FastRoutes:
    """Finds the route of a path among those of its shape: trying all took a tenth of an opening."""

    def __init__(self, routes: Iterable[FastRoute]) -> None:
        """Of routes that match one path, the first is taken. The first segment is never a name."""
        self._by_shape: dict[tuple[str, int, str], list[FastRoute]] = {}
        for route in routes:
            self._by_shape.setdefault(_shape(route.method, route.path), []).append(route)

    def __iter__(self) -> Iterator[FastRoute]:
        return chain.from_iterable(self._by_shape.values())

    def find(self, method: str, path: str) -> tuple[FastRoute | None, dict[str, str]]:
        """The route, and the parameters in its path."""
        for route in self._by_shape.get(_shape(method, path), ()):
            if match := route.pattern.fullmatch(path):
                return route, match.groupdict()
        return None, {}


def _shape(method: str, path: str) -> tuple[str, int, str]:
    """The method, the number of segments, and the first segment."""
    return method, path.count("/"), path[1:].partition("/")[0]


class StreamedRoute(JsonRoute):
    """A documented route. The gateway answers it through `fast`."""

    fast: FastRoute

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def unreached(request: Request) -> Response:
            raise Internal(f"{request.url.path} was not routed to its app")

        return unreached


def streamed(
    router: APIRouter,
    method: str,
    path: str,
    app: ASGIApp,
    *,
    counted: bool = True,
    **documentation: Any,
) -> Callable[[F], F]:
    """Declare a route that `app` answers.

    The decorated function is never called: its parameters and its docstring document the route.
    `documentation` is what FastAPI's decorators take. `counted`: see `FastRoute`.
    """

    def declare(signature: F) -> F:
        router.add_api_route(
            path, signature, methods=[method], route_class_override=StreamedRoute, **documentation
        )
        route = cast(StreamedRoute, router.routes[-1])
        route.fast = fast_route(method, path, app, counted=counted, query=query_names(route))
        return signature

    return declare


def streamed_routes(routes: Iterable[BaseRoute]) -> list[FastRoute]:
    """The apps of all routes that `streamed` declared."""
    return [route.fast for route in routes if isinstance(route, StreamedRoute)]
