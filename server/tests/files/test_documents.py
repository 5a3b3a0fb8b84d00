"""Named documents beside blobs, on disk and in S3-compatible storage."""

from __future__ import annotations

from pathlib import Path

import pytest
from resonantgenesis_server.files.base import BlobError
from resonantgenesis_server.files.documents import DiskDocuments, Documents
from resonantgenesis_server.files.s3 import S3Blobs, S3Documents, S3Place
from support.s3 import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["disk", "s3"])
async def documents(request: pytest.FixtureRequest, tmp_path: Path) -> Documents:
    if request.param == "disk":
        return DiskDocuments(tmp_path)
    storage: Storage = request.getfixturevalue("storage")
    bucket = storage.bucket()
    place = S3Place.parse(bucket.address, bucket.endpoint)
    return S3Documents(await S3Blobs.open(place))


async def test_a_document_is_written_replaced_listed_and_removed(documents: Documents) -> None:
    assert list(await documents.names()) == []
    assert await documents.read("a") is None
    await documents.write("b", b"1")
    await documents.write("a", b"2")
    await documents.write("b", b"3")
    assert list(await documents.names()) == ["a", "b"]
    assert await documents.read("b") == b"3"
    await documents.remove("b")
    await documents.remove("b")
    assert list(await documents.names()) == ["a"]


async def test_a_folder_that_is_gone_is_an_error_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(BlobError, match="No such file"):
        await DiskDocuments(tmp_path / "gone").write("a", b"1")
