"""`client.files` over real sockets: up and down, through faults, both clients alike."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis import (
    Conflict,
    ConnectionLost,
    File,
    InvalidRequest,
    NotFound,
    Reconnection,
    ResonantGenesis,
    StreamError,
    SyncResonantGenesis,
)

from ..conftest import KEY, hasten
from ..support.fake_files import Download, FakeFiles, cut_after, with_status
from ..support.fake_wire import error

pytestmark = pytest.mark.anyio
CONTENT = os.urandom(300_000)


class Both:
    """The same calls on either client; the synchronous one in a thread."""

    def __init__(self, kind: str, client: Any) -> None:
        self._is_async = kind == "async"
        self.client = client

    async def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        call = getattr(self.client.files, method)
        if self._is_async:
            return await call(*arguments, **options)
        return await asyncio.to_thread(call, *arguments, **options)

    async def content(self, file_id: str | File, **options: Any) -> bytes:
        """A file's content, as `stream` brings it."""
        stream = self.client.files.stream(file_id, **options)
        if self._is_async:
            return b"".join([block async for block in stream])
        return await asyncio.to_thread(b"".join, stream)


@pytest.fixture
async def fake() -> AsyncIterator[FakeFiles]:
    server = FakeFiles()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=["async", "sync"])
async def files(request: Any, fake: FakeFiles) -> AsyncIterator[Both]:
    if request.param == "async":
        async with ResonantGenesis(api_key=KEY, base_url=fake.url, max_retries=3) as client:
            yield Both("async", hasten(client))
    else:
        with SyncResonantGenesis(api_key=KEY, base_url=fake.url, max_retries=3) as client:
            yield Both("sync", hasten(client))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Up -------------------------------------------------------------------------------------------


def an_iterator(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    return iter([data[:7], b"", data[7:]])


class Pipe:
    """Can be read, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._data = io.BytesIO(path.read_bytes())

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)


def from_the_middle(path: Path) -> io.BytesIO:
    file = io.BytesIO(b"before" + path.read_bytes())
    file.seek(6)
    return file


SOURCES: list[tuple[Callable[[Path], Any], str | None, bool]] = [
    (lambda path: path, None, True),
    (str, None, True),
    (lambda path: path.read_bytes(), "x.bin", True),
    (lambda path: path.open("rb"), None, True),
    (from_the_middle, "x.bin", True),
    (an_iterator, "x.bin", False),
    (Pipe, "x.bin", False),
]


@pytest.mark.parametrize(("make", "name", "has_length"), SOURCES)
async def test_every_kind_of_source(
    fake: FakeFiles,
    files: Both,
    tmp_path: Path,
    make: Callable[[Path], Any],
    name: str | None,
    has_length: bool,
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(CONTENT)
    made = await files("upload", make(path), name=name)
    assert isinstance(made, File)
    assert (made.name, made.size) == ("x.bin", len(CONTENT))
    assert made.sha256 == hashlib.sha256(CONTENT).hexdigest()
    [asked] = fake.uploads()
    assert asked.body == CONTENT and asked.query == {"name": "x.bin"}
    assert ("content-length" in asked.headers) == has_length
    assert asked.headers["idempotency-key"] and "content-type" not in asked.headers


async def test_an_asynchronous_source(fake: FakeFiles) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 50_000):
            yield CONTENT[start : start + 50_000]

    async with ResonantGenesis(api_key=KEY, base_url=fake.url) as client:
        made = await client.files.upload(pieces(), name="a")
    assert made.size == len(CONTENT) and fake.uploads()[0].body == CONTENT


async def test_what_an_upload_says(fake: FakeFiles, files: Both) -> None:
    told: list[tuple[int, int | None]] = []
    checksum = hashlib.sha256(CONTENT).hexdigest()
    await files(
        "upload",
        CONTENT,
        name="ü &.txt",
        content_type="text/x",
        checksum=checksum.upper(),
        subject="ann",
        idempotency_key="mine",
        on_progress=lambda sent, size: told.append((sent, size)),
    )
    [asked] = fake.uploads()
    assert asked.query == {"name": "ü &.txt", "subject": "ann"}
    assert asked.headers["content-type"] == "text/x"
    assert asked.headers["idempotency-key"] == "mine"
    encoded = base64.b64encode(bytes.fromhex(checksum)).decode()
    assert asked.headers["content-digest"] == f"sha-256=:{encoded}:"
    assert told == [(262_144, 300_000), (300_000, 300_000)]


@pytest.mark.parametrize("fault", ["cut", "lose", (503, None), (502, None)])
async def test_an_upload_is_tried_again_under_the_same_key(
    fake: FakeFiles, files: Both, fault: Any
) -> None:
    fake.upload_faults.extend([fault, fault])
    made = await files("upload", CONTENT, name="a")
    assert made.size == len(CONTENT)
    assert len(fake.uploads()) == 3 and len(fake.files) == 1
    assert len({asked.headers["idempotency-key"] for asked in fake.uploads()}) == 1


async def test_one_that_is_just_being_recorded_is_waited_for(fake: FakeFiles, files: Both) -> None:
    running = error("CONFLICT", "the first request is running")
    running["error"]["retry_after"] = 0.001
    fake.upload_faults.append((409, running))
    assert (await files("upload", CONTENT, name="a")).size == len(CONTENT)
    fake.upload_faults.append((409, error("CONFLICT", "used with another body")))
    with pytest.raises(Conflict, match="another body"):
        await files("upload", CONTENT, name="a")


async def test_an_iterator_is_not_tried_again(fake: FakeFiles, files: Both) -> None:
    fake.upload_faults.append("cut")
    with pytest.raises(ConnectionLost):
        await files("upload", iter([CONTENT] * 50), name="a")
    assert len(fake.uploads()) == 1 and not fake.files


async def test_refusals_are_raised_at_once(fake: FakeFiles, files: Both) -> None:
    fake.upload_faults.append((413, error("PAYLOAD_TOO_LARGE", "too large")))
    with pytest.raises(InvalidRequest) as raised:
        await files("upload", CONTENT, name="a")
    assert raised.value.code == "PAYLOAD_TOO_LARGE" and len(fake.uploads()) == 1


async def test_what_is_stored_is_what_was_sent(fake: FakeFiles, files: Both) -> None:
    fake.upload_faults.append("lie")
    with pytest.raises(ConnectionLost, match="not what was sent") as raised:
        await files("upload", CONTENT, name="a")
    assert not fake.files
    assert raised.value.status == 201 and raised.value.details == {"file_id": "file_1"}


async def test_sources_that_cannot_be(files: Both, tmp_path: Path) -> None:
    for source, options, kind, words in (
        (b"x", {}, ValueError, "name="),
        (iter([b"x"]), {}, ValueError, "name="),
        (5, {"name": "a"}, TypeError, "int"),
        (tmp_path / "none", {}, FileNotFoundError, "none"),
        (b"x", {"name": "a", "checksum": "abc"}, ValueError, "SHA-256"),
    ):
        with pytest.raises(kind, match=words):
            await files("upload", source, **options)


class Shrinking(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(size)[:-1]


class Growing(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(size) + b"x"


@pytest.mark.parametrize("kind", [Shrinking, Growing])
async def test_a_file_that_changes_while_it_is_sent(
    fake: FakeFiles, files: Both, kind: type[io.BytesIO]
) -> None:
    with pytest.raises(ValueError, match="changed its size"):
        await files("upload", kind(CONTENT), name="a")
    assert not fake.files


# Down -----------------------------------------------------------------------------------------


async def test_a_download_lands_beside_its_place_first(
    fake: FakeFiles, files: Both, tmp_path: Path
) -> None:
    file_id = fake.put(CONTENT, "report.bin")
    seen: list[list[str]] = []
    told: list[tuple[int, int | None]] = []

    def progress(done: int, size: int | None) -> None:
        told.append((done, size))
        seen.append(left_in(tmp_path))

    (tmp_path / "here.bin").write_bytes(b"what stood there")
    path = await files("download", file_id, tmp_path / "here.bin", on_progress=progress)
    assert path == tmp_path / "here.bin" and path.read_bytes() == CONTENT
    assert left_in(tmp_path) == ["here.bin"]
    assert all(len(names) == 2 and names[0].startswith(".here.bin.") for names in seen)
    assert told[-1] == (len(CONTENT), len(CONTENT)) and told == sorted(told)
    # Into a directory under its own name.
    assert await files("download", file_id, str(tmp_path)) == tmp_path / "report.bin"


async def test_cuts_are_resumed(fake: FakeFiles, files: Both, tmp_path: Path) -> None:
    file_id = fake.put(CONTENT)
    fake.faults.extend([cut_after(100_000), with_status(503, "UNAVAILABLE"), cut_after(50_000)])
    path = await files("download", file_id, tmp_path / "a")
    assert path.read_bytes() == CONTENT
    ranges = [asked.headers.get("range") for asked in fake.downloads()]
    assert ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]


async def test_a_server_that_sends_everything_anew(
    fake: FakeFiles, files: Both, tmp_path: Path
) -> None:
    file_id = fake.put(CONTENT)

    def whole(_: Download) -> Download:
        return Download(200, CONTENT, {})

    fake.faults.extend([cut_after(100_000), whole])
    assert (await files("download", file_id, tmp_path / "a")).read_bytes() == CONTENT


async def test_what_fails_for_good_leaves_what_stood_there(
    fake: FakeFiles, files: Both, tmp_path: Path
) -> None:
    file_id = fake.put(CONTENT)
    place = tmp_path / "a"
    place.write_bytes(b"what stood there")

    def flipped(answer: Download) -> Download:
        answer.content = bytes([answer.content[0] ^ 1]) + answer.content[1:]
        return answer

    def packed(answer: Download) -> Download:
        return Download(200, gzip.compress(CONTENT), {"Content-Encoding": "gzip"})

    for faults in (
        [flipped, flipped],
        [packed] * 4,
        [cut_after(10), with_status(404, "NOT_FOUND")],
        [cut_after(0)] * 4,
    ):
        fake.faults.extend(faults)
        with pytest.raises(StreamError):
            await files("download", file_id, place)
        assert not fake.faults
        assert left_in(tmp_path) == ["a"] and place.read_bytes() == b"what stood there"


async def test_content_comes_once_whatever_breaks(fake: FakeFiles, files: Both) -> None:
    file_id = fake.put(CONTENT)
    done: list[tuple[int, int | None]] = []
    told: list[Reconnection] = []

    def whole(_: Download) -> Download:
        return Download(200, CONTENT, {})

    fake.faults.extend([cut_after(100_000), with_status(503, "UNAVAILABLE"), whole])
    progress: dict[str, Any] = {
        "on_progress": lambda *numbers: done.append(numbers),
        "on_reconnect": told.append,
    }
    assert await files.content(file_id, **progress) == CONTENT
    assert done[-1] == (len(CONTENT), len(CONTENT)) and done == sorted(set(done))
    assert [(one.connected, one.attempt, one.position) for one in told[:2]] == [
        (False, 1, 100_000),
        (False, 2, 100_000),
    ]
    assert told[2].connected and len(told) == 3


async def test_content_that_is_not_the_files_is_an_error(fake: FakeFiles, files: Both) -> None:
    def flipped(answer: Download) -> Download:
        answer.content = bytes([answer.content[0] ^ 1]) + answer.content[1:]
        return answer

    fake.faults.append(flipped)
    with pytest.raises(ConnectionLost, match="not what the server has"):
        await files.content(fake.put(b"x" * 100_000))
    with pytest.raises(NotFound):
        await files.content("file_9")


async def test_transfers_tell_of_cuts(fake: FakeFiles, files: Both, tmp_path: Path) -> None:
    told: list[Reconnection] = []
    fake.upload_faults.extend(["cut", (503, None)])
    made = await files("upload", CONTENT, name="a", on_reconnect=told.append)
    assert [(one.connected, one.attempt, one.position) for one in told] == [
        (False, 1, None),
        (False, 2, None),
        (True, 2, None),
    ]
    told.clear()
    fake.faults.append(cut_after(100_000))
    await files("download", made.id, tmp_path / "a", on_reconnect=told.append)
    assert (told[0].connected, told[0].attempt, told[0].position) == (False, 1, 100_000)
    assert told[1].connected and len(told) == 2


async def test_an_exception_of_the_callback_ends_it(
    fake: FakeFiles, files: Both, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        await files("download", fake.put(CONTENT), tmp_path / "a", on_progress=stop)
    with pytest.raises(KeyError, match="enough"):
        await files("upload", CONTENT, name="a", on_progress=stop)
    assert left_in(tmp_path) == [] and len(fake.files) == 1


async def test_a_cancelled_download_leaves_nothing(fake: FakeFiles, tmp_path: Path) -> None:
    file_id = fake.put(CONTENT)
    begun = asyncio.Event()

    def progress(*_: object) -> None:
        begun.set()

    def stalled(answer: Download) -> Download:
        answer.headers["Content-Length"] = "1000000"
        return answer

    async with ResonantGenesis(api_key=KEY, base_url=fake.url) as client:
        fake.files[file_id][0]["size"] = 1_000_000  # so that more is waited for
        place = tmp_path / "a"
        task = asyncio.create_task(client.files.download(file_id, place, on_progress=progress))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../evil", "evil"),
        ("/etc/passwd", "passwd"),
        ("a\\..\\b.exe", "b.exe"),
        ("..", "download"),
        ("", "download"),
        ("a\0b", "ab"),
    ],
)
async def test_a_servers_name_is_never_a_path(
    fake: FakeFiles, files: Both, tmp_path: Path, name: str, saved: str
) -> None:
    file_id = fake.put(b"content", name)
    (tmp_path / "down").mkdir()
    path = await files("download", file_id, tmp_path / "down")
    assert path == tmp_path / "down" / saved
    assert left_in(tmp_path) == ["down"]


async def test_what_stands_there_can_be_kept(fake: FakeFiles, files: Both, tmp_path: Path) -> None:
    file = await files("get", fake.put(CONTENT, "a.bin"))
    place = tmp_path / "a.bin"
    assert await files("download", file, tmp_path, replace=False) == place
    assert [one.path for one in fake.asked].count(f"/v1/files/{file.id}") == 1
    place.write_bytes(b"mine")
    with pytest.raises(FileExistsError) as raised:
        await files("download", file, tmp_path, replace=False)
    assert raised.value.filename == str(place)
    assert place.read_bytes() == b"mine" and left_in(tmp_path) == ["a.bin"]
    assert await files("download", file, tmp_path) == place and place.read_bytes() == CONTENT
    assert await files.content(file) == CONTENT


async def test_a_place_that_cannot_be_written(fake: FakeFiles, files: Both, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await files("download", fake.put(b"x"), tmp_path / "none" / "a")


async def test_get_list_delete(fake: FakeFiles, files: Both) -> None:
    file_id = fake.put(b"content", "a.txt")
    assert (await files("get", file_id)).name == "a.txt"
    page = await files("list", session_id="sess_1", limit=5)
    assert [file.id for file in page] == [file_id]
    assert fake.asked[-1].query == {"session_id": "sess_1", "limit": "5"}
    await files("delete", file_id)
    for call in ("get", "delete"):
        with pytest.raises(NotFound):
            await files(call, file_id)
    with pytest.raises(ValueError, match="is not an id"):
        await files("get", "..")
