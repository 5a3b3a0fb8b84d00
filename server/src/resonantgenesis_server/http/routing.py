"""Routes that a plain ASGI app answers before the framework, each declared once.

A framework's request would live as long as the stream, and costs more than an event. So the
framework only documents these routes: their parameters, responses and scopes. The gateway matches
them first and calls the app.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from ..model.errors import Internal
from .body import JsonRoute, query_names
from .middleware import FastRoute, fast_route

F = TypeVar("F", bound=Callable[..., Any])


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
