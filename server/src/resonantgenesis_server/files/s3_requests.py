"""Requests to S3 that the library lacks: signed addresses, and the end of broken uploads."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree

import httpx

from .base import BlobError

#: Pages that S3 needs at most for the parts of one upload: 10,000 parts, 1,000 in a page.
_PART_PAGES = 10


@dataclass(frozen=True, slots=True)
class S3Credentials:
    key: str
    secret: str = field(repr=False)
    token: str | None = field(repr=False, default=None)


def credentials_of_variables() -> S3Credentials | None:
    """Those of the variables; there are other ways to have some, which only the library knows."""
    found = os.environ.get
    key, secret = found("AWS_ACCESS_KEY_ID"), found("AWS_SECRET_ACCESS_KEY")
    token = found("AWS_SESSION_TOKEN") or found("AWS_TOKEN") or None
    return S3Credentials(key, secret, token) if key and secret else None


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs addresses with parameters (Signature Version 4, in the query)."""

    #: The address of the bucket, without a slash behind it.
    bucket: str
    region: str
    credentials: S3Credentials

    @classmethod
    def like(cls, signed: str, key: str, credentials: S3Credentials) -> Signer:
        """For the bucket and region of an address of this key that the library has signed."""
        bucket = signed.partition("?")[0].removesuffix(f"/{quote(key)}")
        scope = parse_qs(urlsplit(signed).query)["X-Amz-Credential"][0].split("/")
        return cls(bucket, scope[2], credentials)

    def url(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        seconds: int,
        now: datetime | None = None,
    ) -> str:
        """An address for one such request within so many seconds; an empty key is the bucket."""
        time = f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        scope = f"{time[:8]}/{self.region}/s3/aws4_request"
        address = f"{self.bucket}/{quote(key)}" if key else self.bucket
        every = dict(query) | {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.credentials.key}/{scope}",
            "X-Amz-Date": time,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if self.credentials.token:
            every["X-Amz-Security-Token"] = self.credentials.token
        pairs = sorted((quote(name, safe=""), quote(text, safe="")) for name, text in every.items())
        encoded = "&".join(f"{name}={text}" for name, text in pairs)
        parts = urlsplit(address)
        request = (method, parts.path or "/", encoded, f"host:{parts.netloc}\n", "host")
        canonical = "\n".join([*request, "UNSIGNED-PAYLOAD"])
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashed])
        signing = f"AWS4{self.credentials.secret}".encode()
        for step in scope.split("/"):
            signing = _hmac(signing, step)
        return f"{address}?{encoded}&X-Amz-Signature={_hmac(signing, to_sign).hex()}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


@dataclass(frozen=True, slots=True)
class BrokenUploads:
    """The multipart uploads of the keys that begin like this."""

    client: httpx.AsyncClient
    signer: Signer
    prefix: str

    async def abort(self, older: float, spared: Mapping[str, object]) -> int:
        """Those that nothing was added to for so many seconds; but not these keys'."""
        aborted = 0
        place = {"key-marker": "", "upload-id-marker": ""}
        while True:
            page, now = await self._ask("GET", "", {"uploads": "", "prefix": self.prefix} | place)
            before = now - timedelta(seconds=older)
            for upload in _each(page, "Upload"):
                key, upload_id = _text(upload, "Key"), _text(upload, "UploadId")
                if key in spared or not key.startswith(self.prefix):
                    continue
                if await self._touched(key, upload_id, _time(upload, "Initiated")) <= before:
                    await self._ask("DELETE", key, {"uploadId": upload_id})
                    aborted += 1
            if _text(page, "IsTruncated") != "true":
                return aborted
            place = {
                "key-marker": _text(page, "NextKeyMarker"),
                "upload-id-marker": _text(page, "NextUploadIdMarker"),
            }

    async def _touched(self, key: str, upload_id: str, begun: datetime) -> datetime:
        """When its last part came: a large file may be on its way for days."""
        marker = "0"
        for _ in range(_PART_PAGES + 1):
            query = {"uploadId": upload_id, "part-number-marker": marker}
            page, _now = await self._ask("GET", key, query)
            begun = max([begun, *(_time(part, "LastModified") for part in _each(page, "Part"))])
            if _text(page, "IsTruncated") != "true":
                break
            marker = _text(page, "NextPartNumberMarker")
        return begun

    async def _ask(
        self, method: str, key: str, query: Mapping[str, str]
    ) -> tuple[ElementTree.Element, datetime]:
        """The answer, and the storage's clock. Raises BlobError."""
        answer = await self.client.request(method, self.signer.url(method, key, query, 300))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return ElementTree.Element("gone"), datetime.now(UTC)  # ended meanwhile
        if not answer.is_success:
            code = re.search(r"<Code>([^<]*)</Code>", answer.text)
            raise BlobError(f"uploads: status {answer.status_code}: {code[1] if code else ''}")
        try:
            page = ElementTree.fromstring(answer.text or "<none/>")  # noqa: S314 - our storage's
            return page, parsedate_to_datetime(answer.headers.get("date", ""))
        except (ElementTree.ParseError, ValueError) as error:
            raise BlobError("uploads: the storage's answer cannot be read") from error


def _each(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _text(element: ElementTree.Element, name: str) -> str:
    return next((child.text or "" for child in _each(element, name)), "")


def _time(element: ElementTree.Element, name: str) -> datetime:
    return datetime.fromisoformat(_text(element, name).replace("Z", "+00:00"))
