"""`/v1/files`: found and deleted by those who may; the streams' documentation."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from ...codec.times import rfc3339
from ...files.service import FileService
from ...model.principal import Principal
from ...records.base import Page
from ...records.files import FileRecord, Owner
from ..auth.authenticator import scoped
from ..body import api_router
from ..errors import Responses, documented_errors, unrouted
from ..idempotency import IdempotencyKey
from ..schemas import PageBody, PageCursor, PageLimit
from .session_models import Subject

PATH = "/v1/files"
CONTENT = PATH + "/{file_id}/content"
UPLOADED = "application/octet-stream"

Reader = Annotated[Principal, Depends(scoped("files:read"))]
Writer = Annotated[Principal, Depends(scoped("files:write"))]
FileId = Annotated[str, Path(min_length=1, max_length=128)]


class FileBody(BaseModel):
    id: str
    name: str
    size: int = Field(description="In bytes.")
    sha256: str = Field(description="Of the content, in hexadecimal.")
    content_type: str
    subject: str | None = Field(description="The end user it belongs to.")
    session_id: str | None = Field(description="The session it was made in, and goes with.")
    created_at: str

    @classmethod
    def of(cls, file: FileRecord) -> FileBody:
        content = file.content
        return cls(
            id=file.id,
            name=content.name,
            size=content.size,
            sha256=content.sha256,
            content_type=content.content_type,
            subject=file.owner.subject,
            session_id=file.owner.session_id,
            created_at=rfc3339(file.created_at),
        )


def files_router(files: FileService) -> APIRouter:
    """Routes over the service; those of `FileRoutes` are here for the documentation."""
    router = api_router(tag="files")
    _document_streams(router)

    @router.get(PATH, responses=documented_errors(), operation_id="list_files")
    async def list_files(
        principal: Reader,
        session_id: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
        limit: PageLimit = 50,
        cursor: PageCursor = None,
    ) -> PageBody[FileBody]:
        """Files, newest first; those of one session, if it is named."""
        seen_by = Owner.of(principal)
        if session_id is not None and seen_by.session_id is None:
            seen_by = replace(seen_by, session_id=session_id)
        if session_id not in {None, seen_by.session_id}:
            return _page(Page([]))
        return _page(await files.list(seen_by, limit=limit, cursor=cursor))

    @router.get(PATH + "/{file_id}", responses=documented_errors(404), operation_id="get_file")
    async def get(file_id: FileId, principal: Reader) -> FileBody:
        """What a file is; its content is at `/content`."""
        return FileBody.of(await files.get(Owner.of(principal), file_id))

    @router.delete(
        PATH + "/{file_id}",
        status_code=204,
        responses=documented_errors(404),
        operation_id="delete_file",
    )
    async def delete(file_id: FileId, principal: Writer) -> None:
        """Delete a file; a download that has begun gets all of it."""
        await files.delete(Owner.of(principal), file_id)

    return router


def _page(page: Page[FileRecord]) -> PageBody[FileBody]:
    return PageBody(
        data=[FileBody.of(file) for file in page.items],
        next_cursor=page.next_cursor,
        has_more=page.next_cursor is not None,
    )


_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_ANY: dict[str, Any] = {"*/*": _BYTES}
_DOWNLOADED: Responses = {
    200: {"description": "The content, with its own type.", "content": _ANY},
    206: {"description": "The part that `Range` names.", "content": _ANY},
    304: {"description": "The client has it already (`If-None-Match`)."},
    **documented_errors(404, 416),
}


def _document_streams(router: APIRouter) -> None:
    """Routes that the edge answers first."""

    @router.post(
        PATH,
        status_code=201,
        response_model=FileBody,
        responses=documented_errors(409, 413, 415),
        openapi_extra={"requestBody": {"required": True, "content": {UPLOADED: _BYTES}}},
        operation_id="upload_file",
    )
    async def upload(
        request: Request,
        principal: Writer,
        name: Annotated[str, Query(min_length=1, max_length=255)],
        subject: Annotated[Subject | None, Query()] = None,
        content_digest: Annotated[
            str | None, Header(description="`sha-256=:BASE64:`: refuse anything else.")
        ] = None,
        key: IdempotencyKey = None,
    ) -> None:
        """Store the body as a file, whole or not at all. Its type is that of the request, else
        what the name's ending says."""
        raise unrouted(request)

    @router.head(CONTENT, include_in_schema=False)
    @router.get(
        CONTENT,
        response_class=Response,
        responses=_DOWNLOADED,
        operation_id="download_file",
    )
    async def content(
        request: Request,
        file_id: FileId,
        principal: Reader,
        range_: Annotated[str | None, Header(alias="Range")] = None,
        if_range: Annotated[str | None, Header()] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> None:
        """The content, or the one part that `Range` names, as fast as it is taken."""
        raise unrouted(request)
