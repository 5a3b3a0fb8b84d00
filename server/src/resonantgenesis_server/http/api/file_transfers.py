"""Files up and down in streams of constant memory: plain ASGI, whatever their size."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...files.names import check_name
from ...files.service import FileService, Upload, pieces
from ...model.errors import InvalidRequest
from ...model.limits import Limits
from ...model.principal import Principal
from ...records.files import FileRecord, Owner
from ...sessions.idempotency import check_key
from ..auth.authenticator import require
from ..idempotency import IdempotentPosts, Making
from ..middleware import FastRoute, fast_route
from ..params import QueryParams, text_header
from ..transfer import (
    Answer,
    Headers,
    Part,
    Stalled,
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
from .files import CONTENT, PATH, FileBody

#: Bytes read from the disk and given to the connection at once.
BLOCK = 64 * 1024
_MAX_QUERY = 2_048


class _Announced(BaseModel):
    """What an upload says of its file; with the digest of what came, what makes it the same."""

    name: str
    content_type: str
    subject: str | None
    sha256: str | None


class FileRoutes:
    """Upload and download; plain ASGI."""

    def __init__(
        self, files: FileService, limits: Limits, watch: StreamWatchdog, once: IdempotentPosts
    ) -> None:
        self._files = files
        self._limits = limits
        self._watch = watch
        self._once = once

    def routes(self) -> list[FastRoute]:
        return [
            fast_route("POST", PATH, self.upload),
            fast_route("GET", CONTENT, self.content),
            fast_route("HEAD", CONTENT, self.content),
        ]

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/files."""
        response = await self._take(_Incoming(scope, receive))
        await response(scope, receive, send)

    async def _take(self, incoming: _Incoming) -> Response:
        scope, principal = incoming.scope, incoming.principal
        require(principal, "files:write")
        key = text_header(scope, b"idempotency-key")
        if key is not None:
            check_key(key)
        announced = _announced(scope, principal)
        self._watch.check_room(principal)
        size = announced_size(scope)
        if key is None:  # else it may be a repeat, of what is stored already
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
        start, end = (part.start, part.end) if part else (0, file.content.size)
        async with await self._files.open(file) as blob:
            answer = Answer(
                206 if part else 200,
                _describing(file, part),
                pieces(blob, start, end, BLOCK),
            )
            await send_answer(answer, scope, receive, send, watch=self._watch, limits=self._limits)


class _Incoming:
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
    """Raises ApiError for what no file can be."""
    query = QueryParams(scope)
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
    """What is about to be sent: the file, or a part of it."""
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


def _caching(etag: str) -> Headers:
    return [(b"etag", etag.encode()), (b"cache-control", b"private, no-cache, no-transform")]


async def _send_head(status: int, headers: Headers, send: Send) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
