"""What people open in a browser: the console, the documentation, and `/openapi.json`.

Their builds put them into this package's folders `console` and `site`. An installation from the
repository has none until `make site`; a page says so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import cache, cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ...model.errors import NotFound
from ..errors import add_error_schema, only_errors
from ..params import text_header
from ..routing import api_router

SITE = Path(__file__).parents[2] / "site"
CONSOLE = Path(__file__).parents[2] / "console"
_NOT_BUILT = "this installation has no such pages; `make site` in the repository builds them"
_NO_PAGE = "There is no such page"
_NO_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"
_APP_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


class BuiltPages(StaticFiles):
    """Files that a build has put into the package, with a Content-Security-Policy.

    With `is_app`, paths without a file are pages that the app's own script shows.
    """

    def __init__(self, folder: Path, *, is_app: bool = False) -> None:
        super().__init__(directory=folder, html=True, check_dir=False)
        self._folder = folder
        self._is_app = is_app

    @property
    def is_built(self) -> bool:
        return (self._folder / "index.html").is_file()

    async def check_config(self) -> None:
        """The folder may be missing; `get_response` says so."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await self._file(path, scope)
        except (HTTPException, NotFound) as error:
            is_missing = isinstance(error, NotFound) or error.status_code == HTTPStatus.NOT_FOUND
            if not is_missing or "text/html" not in (text_header(scope, b"accept") or ""):
                raise
            return _no_page(_NOT_BUILT if isinstance(error, NotFound) else _NO_PAGE, path)

    async def _file(self, path: str, scope: Scope) -> Response:
        if not self.is_built:
            raise NotFound(_NOT_BUILT)
        if self._is_app and not path.startswith("assets/") and not self._has(path):
            path = "index.html"
        return await super().get_response(path, scope)

    def _has(self, path: str) -> bool:
        try:
            _full, found = self.lookup_path(path)
        except (OSError, ValueError):  # no file can have this name
            return False
        return found is not None and stat.S_ISREG(found.st_mode)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        answer.headers["Content-Security-Policy"] = self._policy
        answer.headers["X-Content-Type-Options"] = "nosniff"
        # Names in `assets` of an app have a digest in them; all else is asked again, answered 304.
        is_fixed = self._is_app and Path(full_path).parent.name == "assets"
        lasting = "public, max-age=31536000, immutable"
        answer.headers["Cache-Control"] = lasting if is_fixed else "no-cache"
        return answer

    @cached_property
    def _policy(self) -> str:
        if self._is_app:
            return _APP_POLICY
        # The build of the site has written the hashes of its scripts into it.
        return (self._folder / "policy.txt").read_text(encoding="ascii")


def _no_page(problem: str, path: str) -> Response:
    """What a browser shows in the place of a page that is not there."""
    # Relative: a proxy may have put the server below a path of its own.
    start = "../" * path.count("/") or "./"
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Not found</title>'
        f'<h1>Not found</h1><p>{problem}.</p><p><a href="{start}">To the first page</a></p></html>',
        HTTPStatus.NOT_FOUND,
        {"Content-Security-Policy": _NO_PAGE_POLICY, "Cache-Control": "no-cache"},
    )


def docs_router(app: FastAPI, site: Path = SITE, console: Path = CONSOLE) -> APIRouter:
    router = api_router(tag="operations")
    pages, app_pages = BuiltPages(site), BuiltPages(console, is_app=True)

    @cache
    def document() -> bytes:
        return orjson.dumps(add_error_schema(app.openapi()))

    @router.get(
        "/openapi.json",
        response_model=dict[str, Any],
        responses=only_errors(500),
        operation_id="openapi",
    )
    async def openapi() -> Response:
        """The description of the API."""
        return Response(document(), media_type="application/json")

    def leads_to(path: str, operation_id: str, place: Callable[[], str]) -> None:
        @router.get(
            path,
            response_class=RedirectResponse,
            status_code=307,
            responses=only_errors(500),
            operation_id=operation_id,
        )
        async def lead() -> RedirectResponse:
            """Leads to the pages for people."""
            # Relative: a proxy may have put the server below a path of its own.
            return RedirectResponse(place())

    leads_to("/", "home", lambda: "console/" if app_pages.is_built else "docs/")
    leads_to("/docs", "docs", lambda: "docs/")
    leads_to("/console", "console", lambda: "console/")

    @router.get(
        "/llms.txt",
        response_class=FileResponse,
        responses=only_errors(404, 500),
        operation_id="llms",
    )
    async def llms() -> FileResponse:
        """The list of documentation pages, for language models."""
        file = site / "llms.txt"
        if not file.is_file():
            raise NotFound(_NOT_BUILT)
        return FileResponse(file, media_type="text/markdown")

    router.routes += [Mount("/docs", pages), Mount("/console", app_pages)]
    return router
