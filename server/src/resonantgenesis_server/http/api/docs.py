"""`/openapi.json`, the documentation site at `/docs/`, and `/llms.txt`.

`scripts/site.py` builds the site into this package's folder `site`. An installation from the
repository has none until then; a page says so.
"""

from __future__ import annotations

import os
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import RedirectResponse
from starlette.responses import FileResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ...model.errors import NotFound
from ..errors import add_error_schema, only_errors
from ..routing import api_router

SITE = Path(__file__).parents[2] / "site"
_NO_SITE = "this installation has no documentation site; `make site` in the repository builds it"


class DocumentationSite(StaticFiles):
    """The files of the site, with the policy that its build has made for them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder, html=True, check_dir=False)
        self._folder = folder

    async def get_response(self, path: str, scope: Scope) -> Response:
        if not (self._folder / "index.html").is_file():
            raise NotFound(_NO_SITE)
        return await super().get_response(path, scope)

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
        answer.headers["Cache-Control"] = "no-cache"  # asked again, answered 304
        return answer

    @cached_property
    def _policy(self) -> str:
        return (self._folder / "policy.txt").read_text(encoding="ascii")


def docs_router(app: FastAPI, site: Path = SITE) -> APIRouter:
    router = api_router(tag="operations")

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

    def leads_to_docs(path: str, operation_id: str) -> None:
        @router.get(
            path,
            response_class=RedirectResponse,
            status_code=307,
            responses=only_errors(500),
            operation_id=operation_id,
        )
        async def docs() -> RedirectResponse:
            """Leads to the documentation."""
            # Relative: a proxy may have put the server below a path of its own.
            return RedirectResponse("docs/")

    leads_to_docs("/", "home")
    leads_to_docs("/docs", "docs")

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
            raise NotFound(_NO_SITE)
        return FileResponse(file, media_type="text/markdown")

    router.routes.append(Mount("/docs", DocumentationSite(site)))
    return router
