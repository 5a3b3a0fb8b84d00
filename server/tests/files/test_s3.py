"""S3-compatible storage: signed addresses, what is left over, and storage that is away or wrong."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from resonantgenesis_server.files import s3
from resonantgenesis_server.files.base import BlobError, BlobsRefused
from resonantgenesis_server.files.s3 import S3Blobs, S3Place
from resonantgenesis_server.files.s3_requests import S3Credentials, Signer
from resonantgenesis_server.files.service import FileService
from resonantgenesis_server.model.errors import Unavailable
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.files import Owner
from resonantgenesis_server.records.store import Records
from support.proxy import EvilProxy
from support.s3 import Bucket, Storage, running_storage

from .conftest import PART
from .test_blobs import put, read

pytestmark = pytest.mark.anyio


@pytest.fixture
def bucket(storage: Storage) -> Bucket:
    return storage.bucket()


@pytest.fixture
async def blobs(bucket: Bucket) -> AsyncIterator[S3Blobs]:
    opened = await S3Blobs.open(S3Place.parse(bucket.address, bucket.endpoint), part=PART)
    yield opened
    await opened.close()


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths, so that what is away is noticed within a test."""
    for name, value in {"_ANSWER": 1.0, "_LAST_ANSWER": 1.0, "_RETRIES": 1}.items():
        monkeypatch.setattr(s3, name, value)


# Addresses ----------------------------------------------------------------------------------------


def test_a_signature_is_that_of_the_documentation() -> None:
    """The example of Amazon's page on signatures in the query."""
    credentials = S3Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    signer = Signer("https://examplebucket.s3.amazonaws.com", "us-east-1", credentials)
    now = datetime(2013, 5, 24, tzinfo=UTC)
    address = signer.url("GET", "test.txt", {}, 86_400, now)
    assert parse_qs(urlsplit(address).query)["X-Amz-Signature"] == [
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    ]
    assert "wJalr" not in repr(signer)


@pytest.mark.parametrize("token", [None, "session/token+="])
def test_signatures_are_those_of_amazons_own_library(token: str | None) -> None:
    credentials = S3Credentials("key", "secret", token)
    signer = Signer("http://127.0.0.1:9000/bucket", "eu-west-3", credentials)
    for method, key, query in (
        ("GET", "a b/ü~(1)", {"response-content-disposition": 'attachment; filename="a b\'s"; x'}),
        ("GET", "", {"uploads": "", "prefix": "some/prefix/up/"}),
        ("DELETE", "up/1", {"uploadId": "a+b/c="}),
    ):
        ours = parse_qs(urlsplit(signer.url(method, key, query, 300)).query, keep_blank_values=True)
        address = f"http://127.0.0.1:9000/bucket/{quote(key)}".removesuffix("/")
        request = AWSRequest(method, address, params=query)
        request.context["signing"] = {}
        auth = S3SigV4QueryAuth(Credentials("key", "secret", token), "s3", "eu-west-3", expires=300)
        auth.add_auth(request)
        theirs = parse_qs(urlsplit(request.prepare().url).query, keep_blank_values=True)
        if ours["X-Amz-Date"] == theirs["X-Amz-Date"]:
            assert ours == theirs


async def test_an_address_shows_one_blob_as_an_attachment(blobs: S3Blobs, bucket: Bucket) -> None:
    content = bytes(range(256)) * 100
    kept, other = await put(blobs, content), await put(blobs, b"other")
    address = await blobs.url(kept.name, "attachment; filename=\"a.html\"; filename*=UTF-8''a", 60)
    async with httpx.AsyncClient() as client:
        answer = await client.get(address)
        assert answer.content == content
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith('attachment; filename="a.html"')
        part = await client.get(address, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, content[5:10])
    assert other.name not in address and "X-Amz-Expires=60" in address


async def test_an_address_needs_credentials_that_are_known(
    blobs: S3Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.check_signing()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BlobsRefused, match="AWS_SECRET_ACCESS_KEY"):
        s3.check_signing()
    with pytest.raises(BlobsRefused, match="AWS_SECRET_ACCESS_KEY"):
        await blobs.url("ab" * 16, "attachment", 60)
    assert await blobs.clear(0) == 0


# What is left over --------------------------------------------------------------------------------


async def abandoned(blobs: S3Blobs, bucket: Bucket) -> str:
    """The key of an upload that its process left in the middle."""
    writer = await blobs.begin()
    await writer.write(bytes(5 * PART))
    assert writer._upload is not None
    while not (mine := [key for key in bucket.uploads() if key.startswith("some/prefix/")]):
        await asyncio.sleep(0.01)
    (key,) = mine
    while not bucket.parts(key):
        await asyncio.sleep(0.01)
    writer._upload.task.cancel()
    await asyncio.gather(writer._upload.task, return_exceptions=True)
    return key


async def test_uploads_that_nobody_goes_on_with_are_aborted(blobs: S3Blobs, bucket: Bucket) -> None:
    other = await S3Blobs.open(
        S3Place.parse(f"s3://{bucket.name}/else", bucket.endpoint), part=PART
    )
    spared = await other.begin()
    await spared.write(bytes(5 * PART))
    key = await abandoned(blobs, bucket)
    assert await blobs.clear(3600) == 0, "its parts are new"
    assert key in bucket.uploads()
    assert await blobs.clear(0) == 1
    assert [one for one in bucket.uploads() if one == key] == []
    await spared.finish()  # is of another prefix, and goes on
    await other.close()


async def test_an_upload_of_this_process_is_never_aborted(blobs: S3Blobs, bucket: Bucket) -> None:
    writer = await blobs.begin()
    await writer.write(bytes(5 * PART))
    while not bucket.uploads():
        await asyncio.sleep(0.01)
    assert await blobs.clear(0) == 0
    await writer.write(b"and more")
    digest = await writer.finish()
    assert digest == hashlib.sha256(bytes(5 * PART) + b"and more").hexdigest()
    assert await blobs.size(await writer.keep()) == 5 * PART + 8


# Storage that is away, or wrong -------------------------------------------------------------------


async def test_a_download_that_breaks_goes_on_from_where_it_was(
    storage: Storage, bucket: Bucket
) -> None:
    rng = random.Random(1)
    content = rng.randbytes(2_000_000)
    proxy = EvilProxy(int(bucket.endpoint.rpartition(":")[2]), lambda: rng.choice(modes), rng)
    proxy.budget = lambda: 600_000
    modes = ["pass"]
    async with proxy.running(), asyncio.timeout(60):
        blobs = await S3Blobs.open(S3Place.parse(bucket.address, proxy.url), part=PART)
        kept = await put(blobs, content)
        await blobs.close()
        modes[:] = ["cut", "reset"]
        blobs = await S3Blobs.open(S3Place.parse(bucket.address, proxy.url), part=PART)
        before = proxy.connections
        async with await blobs.find(kept.name, kept.digest) as blob:
            pieces = [await blob.read(at, 64_000) for at in range(0, len(content), 64_000)]
        assert b"".join(pieces) == content
        assert proxy.connections - before >= 3
        await blobs.close()


async def test_storage_that_stops_answering_is_unavailable_and_comes_back(
    tmp_path: Path, records: Records, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)
    me = Owner(org.id)
    with running_storage(tmp_path / "log") as storage:
        bucket = storage.bucket()
        blobs = await S3Blobs.open(S3Place.parse(bucket.address, bucket.endpoint), part=PART)
        files = FileService(records.files, blobs, limit=10_000_000)

        async def upload(content: bytes) -> str:
            async with files.receiving(len(content)) as upload:
                for at in range(0, len(content), PART):
                    await upload.write(content[at : at + PART])
                digest = await upload.finish()
                return (await files.create(upload, me, "a", "x/y", digest)).id

        made = await upload(b"content")
        storage.pause()
        for attempt in (
            upload(b"small"),
            upload(bytes(20 * PART)),
            files.open(await files.get(me, made)),
        ):
            with pytest.raises(Unavailable) as caught:
                await attempt
            assert caught.value.retry_after and bucket.name not in caught.value.message
        await files.delete(me, made)  # is deleted all the same
        assert (await files.list(me, limit=5, cursor=None)).items == []
        storage.resume()
        again = await upload(bytes(20 * PART))
        async with await files.open(await files.get(me, again)) as blob:
            assert await blob.read(0, blob.size) == bytes(20 * PART)
        # What was under way when it went is collected by age.
        await FileService(records.files, blobs, limit=1, abandoned=0).collect()
        assert len(bucket.objects()) == 1
        await blobs.close()


async def test_storage_that_is_down_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)
    blobs = await S3Blobs.open(S3Place.parse("s3://bucket", "http://127.0.0.1:1"))
    writer = await blobs.begin()
    await writer.write(b"content")
    with pytest.raises(BlobError, match=r"127\.0\.0\.1:1") as caught:
        await writer.finish()
    assert "\n" not in str(caught.value)
    await blobs.close()


async def test_a_bucket_that_is_not_there_is_told_at_the_start(bucket: Bucket) -> None:
    with pytest.raises(BlobsRefused, match="NoSuchBucket") as caught:
        await S3Blobs.open(S3Place.parse("s3://nobodys-bucket", bucket.endpoint))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///prefix", "s3://b", "s3://bucket/a//b", "s3://bucket/../b", "gs://bucket"],
)
def test_what_is_no_place(url: str) -> None:
    with pytest.raises(ValueError, match="is not like s3://bucket/prefix"):
        S3Place.parse(url)


def test_the_endpoint_is_that_of_the_settings_or_of_the_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert S3Place.parse("s3://bucket/") == S3Place("bucket")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    assert S3Place.parse("s3://bucket/a/b/") == S3Place("bucket", "a/b", "http://minio:9000")
    assert S3Place.parse("s3://bucket", "https://else").endpoint == "https://else"


async def test_parts_are_as_large_as_the_largest_blob_needs(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 takes 10,000 parts."""
    place = S3Place.parse(bucket.address, bucket.endpoint)
    for largest, part in ((0, s3._PART), (5 << 30, s3._PART), (1 << 40, 109_951_163)):
        blobs = await S3Blobs.open(place, largest=largest)
        assert blobs._part == part and part * 10_000 >= largest
        await blobs.close()


async def test_a_blob_of_many_parts(blobs: S3Blobs, bucket: Bucket) -> None:
    content = random.Random(1).randbytes(20 * PART + 1)
    kept = await put(blobs, *(content[at : at + 9_999] for at in range(0, len(content), 9_999)))
    assert await read(blobs, kept) == content
    assert bucket.objects() == [f"some/prefix/up/{kept.name}"]
    assert re.fullmatch(r"[0-9a-f]{32}", kept.name)
