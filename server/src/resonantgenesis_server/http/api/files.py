"""`/v1/files`. Uploads and downloads are plain ASGI, in constant memory whatever their size."""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...codec.times import rfc3339
from ...files.names import check_name
from ...files.service import FileService, Upload, pieces
from ...model.errors import InvalidRequest
from ...model.limits import Limits
from ...model.principal import Principal
from ...records.base import ListPage
from ...records.files import FileRecord, Owner
from ...sessions.idempotency import check_key
from ..auth.authenticator import require, scoped
from ..errors import Responses, documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..params import QueryParams, text_header
from ..routing import api_router, streamed
from ..schemas import PageBody, PageCursor, PageLimit, page_body
from ..transfer import (
    Headers,
    Part,
    Stalled,
    StreamedBody,
    Transfer,
    announced_digest,
    announced_size,
    check_digest,
    digest_header,
    disposition,
    has_already,
    part_of,
    read_pieces,
    send_answer,
    transferring,
    type_header,
    upload_type,
)
from ..watchdog import StreamWatchdog
from .session_models import Subject

PATH = "/v1/files"
CONTENT = PATH + "/{file_id}/content"
UPLOADED = "application/octet-stream"
#: Bytes read from the disk and given to the connection at once.
BLOCK = 64 * 1024
_REPRESENTATION = re.compile(r"\breturn\s*=\s*\"?representation\b", re.IGNORECASE)
_MAX_QUERY = 2_048

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


class _Announced(BaseModel):
    """What an upload says of its file. With the digest of its content, what makes two the same."""

    name: str
    content_type: str
    subject: str | None
    sha256: str | None


_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_ANY: dict[str, Any] = {"*/*": _BYTES}
_DOWNLOADED: Responses = {
    200: {"description": "The content, with its own type.", "content": _ANY},
    206: {"description": "The part that `Range` names.", "content": _ANY},
    304: {"description": "The client has it already (`If-None-Match`)."},
    307: {"description": "The content is at `Location` for a short time (`files_presigned`)."},
    **documented_errors(404, 416),
}


class FileRoutes:
    """Upload and download; plain ASGI."""

    def __init__(
        self, files: FileService, limits: Limits, watch: StreamWatchdog, once: IdempotentPosts
    ) -> None:
        self._files = files
        self._limits = limits
        self._watch = watch
        self._once = once

    def declare(self, router: APIRouter) -> None:
        @streamed(
            router,
            "POST",
            PATH,
            self.upload,
            status_code=201,
            response_model=FileBody,
            responses=documented_errors(409, 413, 415),
            openapi_extra={"requestBody": {"required": True, "content": {UPLOADED: _BYTES}}},
            operation_id="upload_file",
        )
        def upload(
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

        @streamed(router, "HEAD", CONTENT, self.content, include_in_schema=False)
        @streamed(
            router,
            "GET",
            CONTENT,
            self.content,
            response_class=Response,
            responses=_DOWNLOADED,
            operation_id="download_file",
        )
        def content(
            file_id: FileId,
            principal: Reader,
            range_: Annotated[str | None, Header(alias="Range")] = None,
            if_range: Annotated[str | None, Header()] = None,
            if_none_match: Annotated[str | None, Header()] = None,
        ) -> None:
            """The content, or the one part that `Range` names, as fast as it is taken."""

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/files."""
        response = await self._take(_FileUpload(scope, receive))
        await response(scope, receive, send)

    async def _take(self, incoming: _FileUpload) -> Response:
        scope, principal = incoming.scope, incoming.principal
        require(principal, "files:write")
        key = text_header(scope, b"idempotency-key")
        if key is not None:
            check_key(key)
        announced = _announced(scope, principal)
        self._watch.check_limit(principal)
        size = announced_size(scope)
        if key is None:  # a repeat of an upload that is stored already needs no space
            await self._files.check_room(principal.organization_id, size)
        async with self._files.receiving(size) as upload:
            try:
                async with transferring(principal, self._watch, self._limits) as transfer:
                    await incoming.read_into(upload, transfer)
            except Stalled as error:
                raise InvalidRequest.field("body", str(error)) from None
            digest = await upload.finish()
            check_digest(announced.sha256, digest)
            same = announced.model_copy(update={"sha256": digest})
            owner = replace(Owner.of(principal), subject=announced.subject)

            async def make(making: Making) -> FileBody:
                made = await self._files.create(
                    upload,
                    owner,
                    announced.name,
                    announced.content_type,
                    digest,
                    once=making.answering(FileBody.of),
                )
                return FileBody.of(made)

            return await self._once.run(principal, PATH, key, same, make)

    async def content(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET and HEAD /v1/files/{id}/content."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "files:read")
        file = await self._files.get(Owner.of(principal), scope["path_params"]["file_id"])
        etag = f'"{file.content.sha256}"'
        if has_already(text_header(scope, b"if-none-match"), etag):
            await _send_head(304, _caching(etag), send)
            return
        if scope["method"] == "HEAD":
            await _send_head(200, _describing(file, None), send)
            return
        part = part_of(
            text_header(scope, b"range"),
            text_header(scope, b"if-range"),
            etag,
            file.content.size,
        )
        if not _wants_content(scope):
            address = await self._files.address(file, disposition(file.content.name).decode())
            if address is not None:
                await _send_head(307, _redirecting(address), send)
                return
        start, end = (part.start, part.end) if part else (0, file.content.size)
        async with await self._files.open(file, start, end) as blob:
            answer = StreamedBody(
                206 if part else 200,
                _describing(file, part),
                pieces(blob, start, end, BLOCK),
            )
            await send_answer(answer, scope, receive, send, watch=self._watch, limits=self._limits)


class _FileUpload:
    """A request whose body is a file."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.principal: Principal = scope["state"]["principal"]
        self._receive = receive

    async def read_into(self, upload: Upload, transfer: Transfer) -> None:
        async with aclosing(read_pieces(self._receive, transfer)) as arriving:
            async for piece in arriving:
                await upload.write(piece)
                transfer.moved()


def _announced(scope: Scope, principal: Principal) -> _Announced:
    """Raises ApiError for a name, subject, type or digest that no file can have."""
    query: QueryParams = scope["state"]["query"]
    name = query.text("name", _MAX_QUERY)
    if name is None:
        raise InvalidRequest.field("name", "is required, as in ?name=report.pdf")
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidRequest.field("name", str(error)) from None
    subject = query.text("subject", 200)
    if subject is not None and (not subject or "\0" in subject):
        raise InvalidRequest.field("subject", "must have 1 to 200 characters, none of them NUL")
    return _Announced(
        name=name,
        content_type=upload_type(scope, name),
        subject=principal.subject_of_new(subject),
        sha256=announced_digest(scope),
    )


def _describing(file: FileRecord, part: Part | None) -> Headers:
    """The headers of an answer with the file, or with a part of it."""
    content = file.content
    length = part.end - part.start if part else content.size
    headers = [
        (b"content-type", type_header(content.content_type)),
        (b"content-length", b"%d" % length),
        (b"accept-ranges", b"bytes"),
        (b"content-disposition", disposition(content.name)),
        (b"repr-digest", digest_header(content.sha256)),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; sandbox"),
        *_caching(f'"{content.sha256}"'),
    ]
    if part:
        place = b"bytes %d-%d/%d" % (part.start, part.end - 1, content.size)
        headers.append((b"content-range", place))
    return headers


def _wants_content(scope: Scope) -> bool:
    """Whether an address of the storage would not do: the client says so (RFC 7240), or names our
    ETag, which the storage does not know."""
    prefers = text_header(scope, b"prefer") or ""
    return _REPRESENTATION.search(prefers) is not None or bool(text_header(scope, b"if-range"))


def _redirecting(address: str) -> Headers:
    return [
        (b"location", address.encode("ascii")),
        (b"content-length", b"0"),
        (b"cache-control", b"private, no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"vary", b"Prefer"),
    ]


def _caching(etag: str) -> Headers:
    return [(b"etag", etag.encode()), (b"cache-control", b"private, no-cache, no-transform")]


async def _send_head(status: int, headers: Headers, send: Send) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def files_router(files: FileService, streams: FileRoutes) -> APIRouter:
    """Routes over the service, and those of `streams`."""
    router = api_router(tag="files")
    streams.declare(router)

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
            return page_body(ListPage([]), FileBody.of)
        return page_body(await files.list(seen_by, limit=limit, cursor=cursor), FileBody.of)

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
