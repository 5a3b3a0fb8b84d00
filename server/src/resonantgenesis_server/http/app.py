"""The HTTP application: the framework's app, and the gateway around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ..agents.base import CheckTools, any_tools
from ..agents.engines.http.endpoint import EndpointRecords
from ..log.base import LogError
from ..model.errors import ApiError, Internal
from ..model.limits import Limits
from ..model.principal import Reached, ignore_limit
from ..records.agents import AgentDirectory
from ..records.base import StoreUnusable
from ..records.store import Records
from .api.agents import Settle, ValidateEngine, agents_router
from .api.docs import docs_router
from .api.health import Ready, health_router
from .api.keys import keys_router
from .api.organizations import organizations_router
from .api.teams import teams_router
from .api.tokens import CheckSession, any_session, tokens_router
from .auth.authenticator import CredentialAuthenticator
from .cors import Cors
from .errors import error_response, from_http_exception, from_validation, store_unusable
from .idempotency import IdempotentPosts
from .limits import RequestLimit
from .middleware import Drain, Gateway, Lifespan
from .routing import FastRoute, streamed_routes
from .watchdog import StreamWatchdog

#: The status of a request whose client has left, as other servers log it.
_CLIENT_LEFT = 499
TITLE = "ResonantGenesis Streaming"


async def nothing_to_settle() -> None:
    """The `settle` of an app without events."""


async def always_ready() -> str | None:
    """The `ready` of an app without stores."""
    return None


def no_durability() -> str:
    """The `durability` of an app without stores."""
    return "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDeps:
    """The parts of the application.

    `validate_engine` raises an `ApiError` for an engine that the server does not have or that
    refuses the defaults of an agent; `check_tools` one for unknown tools. `settle` is awaited after
    every change of the records that has an event, before the answer; it never raises. `fast` are
    apps that no route of `routers` documents. `cors_origins` are those of `authenticator`.
    """

    records: Records
    authenticator: CredentialAuthenticator
    directory: AgentDirectory
    validate_engine: ValidateEngine
    endpoints: EndpointRecords = field(default_factory=EndpointRecords)
    settle: Settle = nothing_to_settle
    limits: Limits = field(default_factory=Limits)
    cors_origins: Collection[str] = ()
    fast: Sequence[FastRoute] = ()
    routers: Sequence[APIRouter] = ()
    ready: Ready = always_ready
    durability: Callable[[], str] = no_durability
    lifespan: Lifespan | None = None
    check_tools: CheckTools = any_tools
    check_session: CheckSession = any_session
    requests: RequestLimit | None = None
    reached: Reached = ignore_limit
    watch: StreamWatchdog | None = None


def create_app(deps: AppDeps) -> Gateway:
    """Make the ASGI app. Set its `draining` when the server begins to stop."""
    drain = Drain()
    app = FastAPI(
        title=TITLE,
        version=version("resonantgenesis-server"),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.limits = deps.limits
    app.state.settle = deps.settle
    app.state.watch = deps.watch or StreamWatchdog(deps.authenticator.recheck)
    idempotent = IdempotentPosts(deps.records.idempotency, deps.limits.idempotency_window)
    for router in (
        agents_router(
            deps.directory,
            deps.validate_engine,
            deps.check_tools,
            idempotent,
            deps.settle,
            deps.endpoints,
        ),
        teams_router(deps.directory, idempotent, deps.settle),
        keys_router(
            deps.records.keys,
            deps.authenticator,
            idempotent,
            limit=deps.limits.organization_keys,
            reached=deps.reached,
        ),
        tokens_router(deps.authenticator, idempotent, deps.records.audit, deps.check_session),
        organizations_router(
            deps.records.organizations, deps.records.keys, deps.authenticator, idempotent
        ),
        *deps.routers,
        health_router(lambda: drain.draining, deps.ready, deps.durability),
        docs_router(app),
    ):
        # Not `include_router`: it builds each route a second time.
        app.router.routes.extend(router.routes)
    fast = [*deps.fast, *streamed_routes(app.router.routes)]
    _install_handlers(app, fast)
    return Gateway(
        app,
        authenticator=deps.authenticator,
        cors=Cors(deps.cors_origins),
        fast=fast,
        methods=_fixed_paths(app, fast),
        count=None if deps.requests is None else deps.requests.take_for,
        lifespan=deps.lifespan,
        drain=drain,
    )


def _with_head(methods: frozenset[str], path: str, fast: Sequence[FastRoute]) -> frozenset[str]:
    """Add HEAD where the gateway answers it as GET: on every path that does not stream."""
    streams = any(r.method == "GET" and r.pattern.fullmatch(path) for r in fast)
    return methods if streams or "GET" not in methods else methods | {"HEAD"}


def _fixed_paths(app: FastAPI, fast: Sequence[FastRoute]) -> Mapping[str, frozenset[str]]:
    """The methods of every path without parameters."""
    known: dict[str, frozenset[str]] = {}
    for context in iter_route_contexts(app.routes):
        path, methods = context.path, context.methods
        if path is not None and methods is not None and "{" not in path:
            known[path] = known.get(path, frozenset()) | methods
    known |= {route.path: frozenset({"GET"}) for route in fast if route.method == "WEBSOCKET"}
    return {path: _with_head(methods, path, fast) for path, methods in known.items()}


def _allowed(app: FastAPI, path: str, fast: Sequence[FastRoute]) -> frozenset[str]:
    """The methods of every route that this path matches."""
    found: set[str] = set()
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute) and context.path_regex.match(path):
            found |= context.methods or set()
    return _with_head(frozenset(found), path, fast)


def _install_handlers(app: FastAPI, fast: Sequence[FastRoute]) -> None:
    async def answer(request: Request, error: Exception) -> Response:
        known = _as_api_error(app, request, error, fast)
        return error_response(known, request.state.request_id)

    async def left(_request: Request, _error: Exception) -> Response:
        return Response(status_code=_CLIENT_LEFT)  # nobody reads it

    app.add_exception_handler(ClientDisconnect, left)
    # After the handler of Exception the framework raises again, and the gateway logs the error.
    for kind in (
        ApiError,
        RequestValidationError,
        HTTPException,
        StoreUnusable,
        LogError,
        Exception,
    ):
        app.add_exception_handler(kind, answer)


def _as_api_error(
    app: FastAPI, request: Request, error: Exception, fast: Sequence[FastRoute]
) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return from_validation(error)
    if isinstance(error, HTTPException):
        return from_http_exception(error, _allowed(app, request.scope["path"], fast))
    if isinstance(error, StoreUnusable | LogError):
        return store_unusable(error, request.state.request_id)
    return Internal("the server failed")
