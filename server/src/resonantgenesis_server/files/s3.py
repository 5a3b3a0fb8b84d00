"""Blobs in S3-compatible storage: one object each, under `up/ID` below the prefix.

An object appears whole, once the storage has acknowledged its last request, or not at all. Content
of one part or less goes up in one request. Larger content goes up in parts while it comes (a
multipart upload). A discarded upload is aborted. A dead process leaves parts or an object without a
row; both are removed when they are old by the storage's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import S3Store

from .base import BlobDamaged, BlobError, BlobGone, BlobsRefused
from .s3_requests import BrokenUploads, Signer, credentials_of_variables

if TYPE_CHECKING:
    from obstore import BytesStream, GetOptions, GetResult

    _Get = Callable[[str, int, int | None], Awaitable[GetResult]]

log_ = structlog.get_logger("resonantgenesis.files")
T = TypeVar("T")

_MIB = 1024 * 1024
#: Bytes of a part. S3 takes 5 MiB or more, and at most 10,000 parts of one object.
_PART, _PARTS = 5 * _MIB, 10_000
#: Parts of one upload on their way at once. With those that fill, an upload takes four in memory.
_PARTS_AT_ONCE = 2
#: Bytes of a download that are taken from the library at once, at least.
_CHUNK = 128 * 1024
#: Seconds: a connection, one request with a part, silence amid a download, one answer with all its
#: retries, and the last answer of an upload, whose parts the storage puts together first.
_CONNECT, _REQUEST, _SILENCE, _ANSWER, _LAST_ANSWER = 5, 30, 20, 40.0, 90.0
#: Seconds that a start waits for the storage.
_START = 10.0
_RETRIES, _RETRY_SECONDS = 4, 30
#: How often a download that breaks goes on from where it was, without anything new in between.
_RESUMES = 2
#: Objects in a page, which is the most that S3 tells or deletes at once.
_PAGE = 1_000
_ID = re.compile(r"[0-9a-f]{32}")
_FOLDER, _DOCUMENTS, _CLOCK = "up/", "documents/", "clock"
_URL = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,254})(?:/([^?#]*))?")


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where the objects lie: `prefix` without slashes around it, `endpoint` None: that of the
    variables, else Amazon's."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None

    @classmethod
    def parse(cls, url: str, endpoint: str | None = None) -> S3Place:
        """Raises ValueError for a URL that is not like s3://bucket/prefix."""
        match = _URL.fullmatch(url)
        prefix = (match[2] or "").strip("/") if match else ""
        if match is None or any(part in {"", ".", ".."} for part in prefix.split("/") if prefix):
            raise ValueError("is not like s3://bucket/prefix; credentials belong into AWS_…")
        for name in () if endpoint else ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
            endpoint = endpoint or os.environ.get(name)
        return cls(match[1], prefix, endpoint or None)

    def store(self, timeout: timedelta) -> S3Store:
        """The library's store; credentials and region are those of the AWS_ variables or of the
        machine. `timeout`: of one request and its answer's body."""
        options: dict[str, Any] = {"endpoint": self.endpoint} if self.endpoint else {}
        return S3Store(
            self.bucket,
            prefix=self.prefix or None,
            client_options={
                "connect_timeout": timedelta(seconds=_CONNECT),
                "read_timeout": timedelta(seconds=_SILENCE),
                "timeout": timeout,
                "allow_http": (self.endpoint or "").startswith("http://"),
                "default_content_type": "application/octet-stream",
            },
            retry_config={
                "max_retries": _RETRIES,
                "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
            },
            **options,
        )


class S3Blobs:
    """The blobs below one prefix of a bucket; made by `open`. Several nodes may share them."""

    def __init__(self, place: S3Place, part: int) -> None:
        self._place = place
        self._part = part
        self.store = place.store(timedelta(seconds=_REQUEST))
        # A download lasts as long as its client takes; only silence ends one.
        self._streams = place.store(timedelta(days=1))
        self._uploads: dict[str, _Multipart] = {}
        self._closed = False

    @classmethod
    async def open(cls, place: S3Place, *, largest: int = 0, part: int = _PART) -> S3Blobs:
        """`largest`: bytes that a blob may have. `part`: bytes of a part at least. Raises
        BlobsRefused when the storage refuses a write. Storage that cannot be reached is logged: it
        may come back."""
        try:
            blobs = cls(place, max(part, -(-largest // _PARTS)))
        except (BaseError, ValueError, TypeError) as error:
            raise BlobError(f"{place.bucket}: {_line(error)}") from error
        try:
            with _translated():
                async with asyncio.timeout(_START):
                    await blobs.now()
        except BlobsRefused as error:
            raise BlobsRefused(f"files cannot lie in bucket {place.bucket}: {error}") from error
        except BlobError as error:
            log_.error("the storage of files cannot be reached", error=str(error))
        if credentials_of_variables() is None:
            log_.info("a rule of the bucket has to abort uploads that broke off")
        return blobs

    async def begin(self, _expected: int = 0) -> S3Writer:
        """A new writer. The storage has room for whatever comes."""
        self._check_open()
        return S3Writer(self, secrets.token_hex(16), self._part)

    async def find(
        self, name: str, digest: str, *, start: int = 0, end: int | None = None
    ) -> S3Blob:
        """The blob, open, with the bytes from `start` up to `end` under way. Raises BlobGone."""
        blob = S3Blob(self._get, _key(name), digest, end if end and end > start else None)
        await blob.start(start)
        return blob

    async def size(self, name: str) -> int:
        """Raises BlobGone."""
        return (await self.call(lambda: self.store.head_async(_key(name))))["size"]

    async def remove(self, names: Sequence[str]) -> int:
        """Remove these blobs; return their number. The storage does not tell which were there."""
        keys = [_key(name) for name in names if _ID.fullmatch(name)]
        for first in range(0, len(keys), _PAGE):
            await self.call(partial(self.store.delete_async, keys[first : first + _PAGE]))
        return len(keys)

    async def batches(self, older: float) -> AsyncIterator[list[str]]:
        """The names of all blobs older than so many seconds, some at a time."""
        before = await self.now() - timedelta(seconds=older)
        pages = self.objects(_FOLDER)
        while (page := await self.call(lambda: _next(pages))) is not None:
            yield [
                name
                for meta in page
                if (name := meta["path"].removeprefix(_FOLDER)) and _ID.fullmatch(name)
                if meta["last_modified"] <= before
            ]

    async def clear(self, older: float) -> int:
        """Abort the uploads whose last part is older than so many seconds; return their number.

        The library has no requests for that; this module signs its own. Signing needs credentials
        in the variables. With other credentials a rule of the bucket has to abort uploads."""
        signer = await self._signer()
        if signer is None:
            return 0
        async with httpx.AsyncClient(timeout=_REQUEST) as client:
            storage = BrokenUploads(client, signer, f"{self._prefix}{_FOLDER}")
            with _translated():
                async with asyncio.timeout(_REQUEST * 10):
                    return await storage.abort(older, spared=self._uploads)

    async def url(self, name: str, disposition: str, seconds: int) -> str:
        """An address of the blob, good for so many seconds. The storage answers with this
        Content-Disposition. Raises BlobsRefused without credentials in the variables."""
        signer = await self._signer()
        if signer is None:
            raise BlobsRefused(_NO_CREDENTIALS)
        # The storage cannot be made to say "nosniff". So the type is one that no browser shows.
        return signer.url(
            "GET",
            f"{self._prefix}{_key(name)}",
            {
                "response-content-type": "application/octet-stream",
                "response-content-disposition": disposition,
                "response-cache-control": "private, no-cache, no-transform",
            },
            seconds,
        )

    async def close(self) -> None:
        """Uploads under way are given up."""
        self._closed = True
        await asyncio.gather(*(upload.abort() for upload in list(self._uploads.values())))

    async def now(self) -> datetime:
        """The storage's clock, by an object that is written for it."""

        async def ask() -> datetime:
            await self.store.put_async(_CLOCK, b"", use_multipart=False)
            return (await self.store.head_async(_CLOCK))["last_modified"]

        return await self.call(ask)

    def objects(self, folder: str) -> Any:
        """Pages of what lies in this folder."""
        return self.store.list(folder.rstrip("/"), chunk_size=_PAGE).__aiter__()

    async def put(self, name: str, content: bytes) -> None:
        await self.call(lambda: self.store.put_async(_key(name), content, use_multipart=False))

    def multipart(self, name: str) -> _Multipart:
        """A multipart upload, begun."""

        async def put(pieces: AsyncIterator[bytes]) -> object:
            return await self.store.put_async(
                _key(name),
                pieces,
                use_multipart=True,
                chunk_size=self._part,
                max_concurrency=_PARTS_AT_ONCE,
            )

        upload = _Multipart(put)
        self._uploads[f"{self._prefix}{_key(name)}"] = upload
        upload.task.add_done_callback(
            lambda _: self._uploads.pop(f"{self._prefix}{_key(name)}", None)
        )
        return upload

    async def call(self, request: Callable[[], Awaitable[T]]) -> T:
        """The answer. Raises BlobError, BlobGone."""
        self._check_open()
        with _translated():
            async with asyncio.timeout(_ANSWER):
                return await request()

    async def _get(self, key: str, start: int, end: int | None) -> GetResult:
        span: GetOptions = {}
        if start or end is not None:
            span = {"range": {"offset": start} if end is None else (start, end)}
        return await self.call(lambda: self._streams.get_async(key, options=span))

    async def _signer(self) -> Signer | None:
        credentials = credentials_of_variables()
        if credentials is None:
            return None
        hour = timedelta(hours=1)
        example = await self.call(lambda: obstore.sign_async(self.store, "GET", _CLOCK, hour))
        return Signer.like(example, f"{self._prefix}{_CLOCK}", credentials)

    @property
    def _prefix(self) -> str:
        return f"{self._place.prefix}/" if self._place.prefix else ""

    def _check_open(self) -> None:
        if self._closed:
            raise BlobError("the files are closed")


def check_signing() -> None:
    """Raises BlobsRefused where `S3Blobs.url` could not work."""
    if credentials_of_variables() is None:
        raise BlobsRefused(_NO_CREDENTIALS)


_NO_CREDENTIALS = "signing needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class S3Documents:
    """The documents beside the blobs, under `documents/` below the same prefix."""

    def __init__(self, blobs: S3Blobs) -> None:
        self._blobs = blobs

    async def names(self) -> Sequence[str]:
        found: list[str] = []
        pages = self._blobs.objects(_DOCUMENTS)
        while (page := await self._blobs.call(lambda: _next(pages))) is not None:
            found += [meta["path"].removeprefix(_DOCUMENTS) for meta in page]
        return sorted(found)

    async def read(self, name: str) -> bytes | None:
        async def get() -> bytes:
            return bytes(await (await self._blobs.store.get_async(_DOCUMENTS + name)).bytes_async())

        try:
            return await self._blobs.call(get)
        except BlobGone:
            return None

    async def write(self, name: str, content: bytes) -> None:
        await self._blobs.call(
            lambda: self._blobs.store.put_async(_DOCUMENTS + name, content, use_multipart=False)
        )

    async def remove(self, name: str) -> None:
        await self._blobs.call(lambda: self._blobs.store.delete_async(_DOCUMENTS + name))


class S3Writer:
    """A BlobWriter over one object."""

    def __init__(self, blobs: S3Blobs, name: str, part: int) -> None:
        self._blobs = blobs
        self._name = name
        self._part = part
        self._hash = hashlib.sha256()
        # Content of the first part; a multipart upload begins when more comes.
        self._pieces: list[bytes] = []
        self._size = 0
        self._upload: _Multipart | None = None
        self._may_exist = self._finished = self._kept = self._discarded = False

    async def write(self, data: bytes) -> None:
        if self._finished or self._discarded:
            raise ValueError("the blob is not open")
        await asyncio.to_thread(self._hash.update, data)
        if self._upload is None:
            self._pieces.append(data)
            self._size += len(data)
            if self._size <= self._part:
                return
            self._upload = self._blobs.multipart(self._name)
            for piece in self._pieces:
                await self._upload.give(piece)
            self._pieces = []
        else:
            await self._upload.give(data)

    async def finish(self) -> str:
        if not self._finished:
            self._may_exist = True
            if self._upload is not None:
                await self._upload.finish()
            else:
                await self._blobs.put(self._name, b"".join(self._pieces))
            self._pieces = []
            self._finished = True
        return self._hash.hexdigest()

    async def keep(self) -> str:
        if not self._finished:
            raise ValueError("keep before finish")
        self._kept = True
        return self._name

    async def discard(self) -> None:
        self._discarded = True
        self._pieces = []
        if self._kept:
            return
        if self._upload is not None:
            await self._upload.abort()
        if self._may_exist:
            await self._blobs.remove([self._name])
            self._may_exist = False


class _Multipart:
    """A multipart upload under way: a task of the library's that takes pieces from here.

    It ends by `finish` or `abort` and never by cancelling the task, which would leave its parts in
    the storage.
    """

    def __init__(self, put: Callable[[AsyncIterator[bytes]], Awaitable[object]]) -> None:
        #: The next piece, None: the end; there is one while `_full`.
        self._piece: bytes | None = None
        self._full, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._aborted = False
        self.task = asyncio.create_task(self._run(put), name="upload")
        self.task.add_done_callback(lambda _: self._room.set())

    async def _run(
        self, put: Callable[[AsyncIterator[bytes]], Awaitable[object]]
    ) -> BlobError | None:
        """What went wrong; an exception of a task that nobody awaits would be told as a defect."""
        try:
            with _translated():
                await put(self._given())
        except _GivenUp:
            return BlobError("the upload was given up")
        except BlobError as error:
            return error
        return None

    async def give(self, piece: bytes | None) -> None:
        """Hand over the next piece; returns when more can be taken."""
        with _translated():
            async with asyncio.timeout(_ANSWER):
                await self._room.wait()
        if self.task.done():
            raise self.task.result() or BlobError("the upload has ended")
        self._piece = piece
        self._room.clear()
        self._full.set()

    async def finish(self) -> None:
        """Returns when the object is there."""
        await self.give(None)
        done, _ = await asyncio.wait({self.task}, timeout=_LAST_ANSWER)
        if not done:
            raise BlobError("no answer to the end of an upload")
        if error := self.task.result():
            raise error

    async def abort(self) -> None:
        """Leave no parts in the storage; harmless when it has ended."""
        self._aborted = True
        self._full.set()
        await asyncio.wait({self.task}, timeout=_ANSWER)

    async def _given(self) -> AsyncIterator[bytes]:
        while True:
            await self._full.wait()
            if self._aborted:
                raise _GivenUp
            piece, self._piece = self._piece, None
            self._full.clear()
            if piece is None:
                return
            self._room.set()
            yield piece


class _GivenUp(Exception):
    """Makes the library abort the upload."""


class S3Blob:
    """A Blob over one request, which goes on as fast as it is read, and over others where it
    breaks or the reader jumps."""

    def __init__(self, get: _Get, key: str, digest: str, end: int | None) -> None:
        self._get = get
        self._key = key
        self._digest = digest
        self._end = end
        self.size = 0
        self._stream: BytesStream | None = None
        #: What has come of the stream and was not read yet, and where it begins.
        self._chunk, self._place = b"", 0
        #: Of what came from the beginning on, without a gap: so many bytes.
        self._hash, self._hashed = hashlib.sha256(), 0

    async def start(self, place: int) -> None:
        """To be called first."""
        self._stream, self._chunk, self._place = None, b"", place
        result = await self._get(self._key, place, self._end)
        self.size = result.meta["size"]
        self._stream = result.stream(min_chunk_size=_CHUNK)

    async def read(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        if self._end is not None and offset + size > self._end:
            self._end = None  # more is wanted than was told
            await self.start(offset)
        elif offset != self._place:
            await self.start(offset)
        while len(self._chunk) < size:
            self._chunk += await self._next()
        data, self._chunk = self._chunk[:size], self._chunk[size:]
        self._place += size
        return data

    async def _next(self) -> bytes:
        """What comes next of the stream, checked. Raises BlobError when there is none."""
        place = self._place + len(self._chunk)
        for attempt in range(_RESUMES + 1):
            try:
                if self._stream is None:
                    result = await self._get(self._key, place, self._end)
                    self._stream = result.stream(min_chunk_size=_CHUNK)
                chunk = await self._received(self._stream)
                break
            except BlobGone:
                raise
            except BlobError:
                self._stream = None
                if attempt == _RESUMES:
                    raise
        if place == self._hashed:
            await asyncio.to_thread(self._hash.update, chunk)
            self._hashed += len(chunk)
            if self._hashed == self.size and self._hash.hexdigest() != self._digest:
                raise BlobDamaged(f"{self._key}: is not what was written")
        return chunk

    async def _received(self, stream: BytesStream) -> bytes:
        with _translated():
            async with asyncio.timeout(_ANSWER):
                chunk = await _next(stream)
        if not chunk:
            raise BlobError(f"{self._key}: an answer ended before its end")
        return bytes(chunk)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream, self._chunk = None, b""


async def _next(stream: Any) -> Any:
    """The next item of the library's stream; None at its end."""
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        return None


def _key(name: str) -> str:
    """Raises BlobGone for a name of another store: the settings have changed."""
    if _ID.fullmatch(name) is None:
        raise BlobGone(f"{name[:80]!r} is no blob's name in S3")
    return _FOLDER + name


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The library's errors, and those of HTTP, as ours."""
    try:
        yield
    except FileNotFoundError as error:
        line = _line(error)
        raise (BlobsRefused if "NoSuchBucket" in line else BlobGone)(line) from error
    except obstore.exceptions.PermissionDeniedError as error:
        raise BlobsRefused(_line(error)) from error
    except obstore.exceptions.UnauthenticatedError as error:
        raise BlobsRefused(_line(error)) from error
    except TimeoutError as error:
        raise BlobError("the storage does not answer") from error
    except (BaseError, httpx.HTTPError, OSError) as error:
        raise BlobError(_line(error)) from error


def _line(error: Exception) -> str:
    """The library's message as one line; what follows is for its developers, or XML."""
    text = str(error)
    code = re.search(r"<Code>([^<]*)</Code>", text)
    line = text.partition("\n")[0].partition(": <?xml")[0].strip() or type(error).__name__
    return f"{line}: {code[1]}"[:500] if code else line[:500]
