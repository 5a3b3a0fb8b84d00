"""Files that agents store: whole, their session's, bounded, and none after the turn's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from resonantgenesis_server.agents.base import StoredFile, Turn
from resonantgenesis_server.agents.engines.python import PythonAgent
from resonantgenesis_server.files.base import BlobsFull
from resonantgenesis_server.files.disk import DiskBlobs
from resonantgenesis_server.files.service import FileService
from resonantgenesis_server.model.chunks import AgentChunk, ToolCall, ToolResult
from resonantgenesis_server.model.errors import AgentError
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.records.files import Owner
from resonantgenesis_server.records.store import Records

from .agents import Scripted
from .rig import Json, Rig

pytestmark = pytest.mark.anyio
LIMIT = 1_000_000


class Filing:
    """A node that has a place for files."""

    def __init__(self, rig: Rig, records: Records, files: FileService, organization: str) -> None:
        self.rig = rig
        self.files = files
        self.organization = organization
        self.who = Principal(organization, "key", frozenset({"*"}))
        self._records = records

    async def run(self, script: object, subject: str | None = None) -> tuple[Json, list[Json]]:
        """How a turn of this agent ended, and its chunks."""
        self.rig.agents["filing"] = (
            script if isinstance(script, PythonAgent) else Scripted(script)  # type: ignore[arg-type]
        )
        ref = await self.rig.execute("go", "filing", who=self.who, subject=subject)
        result = await self.rig.result(ref)
        return result, await self.rig.chunks(ref.session_id)

    async def content(self, file_id: str, owner: Owner | None = None) -> bytes:
        file = await self.files.get(owner or Owner(self.organization), file_id)
        async with await self.files.open(file) as blob:
            return await blob.read(0, blob.size)

    async def stored(self) -> int:
        return len((await self.files.list(Owner(self.organization), limit=500, cursor=None)).items)


@pytest.fixture
async def filing(tmp_path: Path) -> AsyncIterator[Filing]:
    records = await Records.open(f"sqlite:///{tmp_path / 'records.db'}")
    organization = await records.organizations.create("first")
    blobs = await DiskBlobs.open(tmp_path / "files")
    rig = Rig(tmp_path)
    rig.files = FileService(records.files, blobs, limit=LIMIT)
    await rig.open()
    yield Filing(rig, records, rig.files, organization.id)
    await rig.close()
    await blobs.close()
    await records.close()


async def report(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield ToolCall("report", {}, "1")
    made = await turn.files.store("report.csv", b"a,b\n1,2\n")
    yield ToolResult("report", made.as_result(), "1")


async def test_a_file_is_handed_over_in_a_tool_result(filing: Filing) -> None:
    result, chunks = await filing.run(report, subject="ann")
    assert result["status"] == "success"
    told = next(c["result"] for c in chunks if c["type"] == "tool_result")
    assert told.keys() == {"file_id", "name", "content_type", "size", "sha256"}
    assert (told["name"], told["content_type"], told["size"]) == ("report.csv", "text/csv", 8)
    assert await filing.content(told["file_id"]) == b"a,b\n1,2\n"
    # It is the session's and its subject's.
    file = await filing.files.get(Owner(filing.organization, "ann"), told["file_id"])
    assert file.owner == Owner(filing.organization, "ann", result["session_id"], "filing")


async def test_what_is_stored_in_pieces_is_read_in_pieces(filing: Filing) -> None:
    pieces = [bytes([n]) * (n * 1_000) for n in range(30)]
    read: list[bytes] = []

    async def in_pieces(turn: Turn) -> AsyncIterator[AgentChunk]:
        async def content() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        made = await turn.files.store("a.bin", content(), "application/x-mine")
        assert await turn.files.get(made.file_id) == made
        read.extend([piece async for piece in turn.files.read(made.file_id)])
        yield f"{made.content_type} {made.size}"

    result, _ = await filing.run(in_pieces)
    assert result["output"] == f"application/x-mine {sum(map(len, pieces))}"
    assert b"".join(read) == b"".join(pieces)
    assert max(map(len, read)) <= 256 * 1024


async def test_a_plain_function_stores_from_its_thread(filing: Filing) -> None:
    def plain(turn: Turn) -> Iterator[AgentChunk]:
        made = turn.files.store_from_thread("a.txt", b"from a thread")
        yield made.file_id

    result, _ = await filing.run(PythonAgent("plain", plain))
    assert await filing.content(result["output"]) == b"from a thread"

    async def wrong(turn: Turn) -> AsyncIterator[AgentChunk]:
        with pytest.raises(RuntimeError, match="await store"):
            turn.files.store_from_thread("a.txt", b"x")
        yield "told"

    assert (await filing.run(wrong))[0]["output"] == "told"


async def test_a_turn_stores_so_many_files_and_bytes(filing: Filing) -> None:
    async def many(turn: Turn) -> AsyncIterator[AgentChunk]:
        for number in range(101):
            await turn.files.store(f"{number}.txt", b"x")
        yield "never"

    result, _ = await filing.run(many)
    assert (result["status"], result["error"]["code"]) == ("failed", "PAYLOAD_TOO_LARGE")
    assert await filing.stored() == 100

    async def large(turn: Turn) -> AsyncIterator[AgentChunk]:
        await turn.files.store("1", bytes(LIMIT // 2))
        await turn.files.store("2", bytes(LIMIT - LIMIT // 2))
        yield "so much"
        await turn.files.store("3", b"x")

    result, _ = await filing.run(large)
    assert (result["output"], result["error"]["code"]) == ("so much", "PAYLOAD_TOO_LARGE")
    assert await filing.stored() == 102


async def test_a_cancelled_store_leaves_nothing(filing: Filing, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless(turn: Turn) -> AsyncIterator[AgentChunk]:
        async def content() -> AsyncIterator[bytes]:
            yield bytes(500_000)
            begun.set()
            await asyncio.Event().wait()

        await turn.files.store("a", content())
        yield "never"

    filing.rig.agents["filing"] = Scripted(endless)
    ref = await filing.rig.execute("go", "filing", who=filing.who)
    await begun.wait()
    await filing.rig.service.cancel(filing.who, ref.session_id, None)
    assert (await filing.rig.result(ref))["status"] == "cancelled"
    assert await filing.stored() == 0
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


async def test_nothing_comes_after_the_turn(filing: Filing) -> None:
    """Also from an agent that ignores its cancellation."""
    goes_on, told = asyncio.Event(), asyncio.Event()
    kept: list[Turn] = []
    errors: list[Exception] = []

    async def stubborn(turn: Turn) -> AsyncIterator[AgentChunk]:
        kept.append(turn)
        yield "on"
        while not goes_on.is_set():
            try:
                await goes_on.wait()
            except asyncio.CancelledError:
                continue
        try:
            await turn.files.store("late", b"x")
        except RuntimeError as error:
            errors.append(error)
        told.set()

    filing.rig.agents["filing"] = Scripted(stubborn)
    ref = await filing.rig.execute("go", "filing", who=filing.who)
    async with asyncio.timeout(10):
        while not kept:
            await asyncio.sleep(0.01)
    await filing.rig.service.cancel(filing.who, ref.session_id, None)
    assert (await filing.rig.result(ref))["status"] == "cancelled"
    goes_on.set()
    async with asyncio.timeout(10):
        await told.wait()
    assert [str(error) for error in errors] == ["the turn has ended"]
    for late in (
        lambda files: files.store("a", b"x"),
        lambda files: files.get("file_x"),
        lambda files: anext(files.read("file_x")),
    ):
        with pytest.raises(RuntimeError, match="ended"):
            await late(kept[0].files)
    assert await filing.stored() == 0


async def test_an_agent_reads_what_its_subject_sees(filing: Filing) -> None:
    found: dict[str, StoredFile | str] = {}

    async def put(turn: Turn) -> AsyncIterator[AgentChunk]:
        found["anns"] = await turn.files.store("a", b"ann's")
        yield ""

    await filing.run(put, subject="ann")
    anns = found["anns"]
    assert isinstance(anns, StoredFile)

    async def get(turn: Turn) -> AsyncIterator[AgentChunk]:
        try:
            yield b"".join([piece async for piece in turn.files.read(anns.file_id)]).decode()
        except AgentError as error:
            yield error.message

    assert (await filing.run(get, subject="ann"))[0]["output"] == "ann's"
    assert (await filing.run(get))[0]["output"] == "ann's"
    assert (await filing.run(get, subject="bob"))[0]["output"] == "no such file"


async def test_what_the_client_is_told(filing: Filing, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bad_name(turn: Turn) -> AsyncIterator[AgentChunk]:
        with pytest.raises(ValueError, match="path"):
            await turn.files.store("../a", b"x")
        with pytest.raises(ValueError, match="type"):
            await turn.files.store("a", b"x", "no type")
        yield "told"

    assert (await filing.run(bad_name))[0]["output"] == "told"
    monkeypatch.setattr(filing.files, "_blobs", Full())
    result, _ = await filing.run(report)
    error = result["error"]
    assert (error["code"], error["retryable"]) == ("AGENT_FAILED", True)
    assert error["message"] == "there is no room for files" and error["retry_after"] > 0


class Full:
    """A disk without room."""

    async def begin(self, expected: int = 0) -> None:
        raise BlobsFull("/secret: no space")


async def test_a_turn_outside_a_server_has_no_place_for_files() -> None:
    turn = Turn("go", "sess_1", 1, "a")
    with pytest.raises(AgentError, match="no place for files"):
        await turn.files.store("a", b"x")
    with pytest.raises(AgentError, match="no place for files"):
        turn.files.store_from_thread("a", b"x")
    with pytest.raises(AgentError, match="no place for files"):
        await turn.files.get("file_x")
    with pytest.raises(AgentError, match="no place for files"):
        await anext(turn.files.read("file_x"))
