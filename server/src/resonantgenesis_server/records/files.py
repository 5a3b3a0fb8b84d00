"""Files, each within its organization: their names, owners and contents.

The guarantees are those of `base`. A content lies in a blob store; several files may hold the same.
One row for each digest names its blob, and nodes agree by that row: `create` locks the row before
it adds a file, `release` locks the row before it looks for files. So a blob is given up only when
no file holds its content, and none begins to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.ids import new_id
from ..model.principal import Principal
from . import tables
from .base import ListPage, Once
from .database import RecordsDatabase
from .idempotency import use_key
from .paging import by_creation, read_page
from .tables import micros, seconds


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a file, or the files that a caller sees. A field of None restricts nothing."""

    organization_id: str
    subject: str | None = None
    session_id: str | None = None
    agent_id: str | None = None

    @classmethod
    def of(cls, principal: Principal) -> Owner:
        """The owner of the files that the caller makes, and the files that it sees."""
        return cls(
            principal.organization_id,
            principal.subject,
            principal.session_id,
            principal.agent_id,
        )


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file; `size` in bytes, `sha256` in hexadecimal."""

    name: str
    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file; it never changes."""

    id: str
    owner: Owner
    content: Content
    created_at: float


class FileRepository:
    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        owner: Owner,
        content: Content,
        *,
        blob: str | None = None,
        once: Once[FileRecord] | None = None,
    ) -> FileRecord:
        """The file, over the blob that holds this content already, else over the one named `blob`
        (None: as the digest); `blob_of` tells which it is."""
        now = micros(self._clock())
        query = insert(tables.files).values(
            id=new_id("file"),
            organization_id=owner.organization_id,
            subject=owner.subject,
            session_id=owner.session_id,
            agent_id=owner.agent_id,
            name=content.name,
            content_type=content.content_type,
            size=content.size,
            sha256=content.sha256,
            created_at=now,
        )
        async with self._database.write() as connection:
            await _hold(connection, content, blob or content.sha256)
            result = await connection.execute(query.returning(tables.files))
            made = _file(result.mappings().one())
            await use_key(connection, once, made, self._database.passed())
        return made

    async def get(self, seen_by: Owner, file_id: str) -> FileRecord | None:
        query = select(tables.files).where(_one(seen_by, file_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _file(row)

    async def list(
        self, seen_by: Owner, *, limit: int = 50, cursor: str | None = None
    ) -> ListPage[FileRecord]:
        """Newest first."""
        table = tables.files
        query = by_creation(select(table).where(_seen(seen_by)), table, cursor)
        async with self._database.read() as connection:
            return await read_page(connection, query, limit, _file, _place)

    async def delete(self, seen_by: Owner, file_id: str) -> FileRecord | None:
        """The deleted file; None if there was none. `SessionRepository.delete` removes the files of
        a session in the transaction that removes the session."""
        query = delete(tables.files).where(_one(seen_by, file_id)).returning(tables.files)
        async with self._database.write() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _file(row)

    async def size_of(self, organization_id: str) -> int:
        """Bytes of all its files together."""
        columns = tables.files.c
        query = select(func.coalesce(func.sum(columns.size), 0))
        async with self._database.read() as connection:
            found = await connection.execute(
                query.where(columns.organization_id == organization_id)
            )
            return int(found.scalar_one())

    async def blob_of(self, digest: str) -> str | None:
        """The name of the blob with this content."""
        query = select(tables.blobs.c.name).where(tables.blobs.c.digest == digest)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar()

    async def mark_damaged(self, digest: str, blob: str) -> None:
        """Let the next file with this content bring a blob of its own in the place of this one."""
        columns = tables.blobs.c
        query = update(tables.blobs).where(columns.digest == digest, columns.name == blob)
        async with self._database.write() as connection:
            await connection.execute(query.values(damaged=True))

    async def unheld(self, limit: int = 500) -> Sequence[str]:
        """Digests of blobs that no file of any organization holds; some of them."""
        query = select(tables.blobs.c.digest).where(~_is_held()).limit(limit)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalars().all()

    async def release(self, digests: Sequence[str]) -> Sequence[str]:
        """The names of the blobs with these contents that no file holds. They are the caller's
        now, and its alone, to be removed: no row names them any more."""
        digest = tables.blobs.c.digest
        lock = select(digest).where(digest.in_(digests)).order_by(digest).with_for_update()
        free = delete(tables.blobs).where(digest.in_(digests), ~_is_held())
        async with self._database.write() as connection:
            # A statement sees what was committed before it began. So the locks come first, then
            # a statement that sees the files of all who had them.
            await connection.execute(lock)
            return (await connection.execute(free.returning(tables.blobs.c.name))).scalars().all()

    async def named(self, blobs: Sequence[str]) -> frozenset[str]:
        """Those of these blobs that a row names."""
        name = tables.blobs.c.name
        async with self._database.read() as connection:
            found = await connection.execute(select(name).where(name.in_(blobs)))
            return frozenset(found.scalars())


async def _hold(connection: AsyncConnection, content: Content, blob: str) -> None:
    """Lock the row of this content, made where there is none, until the transaction ends."""
    table = tables.blobs
    query = tables.insert_into(connection.dialect.name, table).values(
        digest=content.sha256, name=blob, size=content.size, damaged=False
    )
    name = case((table.c.damaged, query.excluded.name), else_=table.c.name)
    held = query.on_conflict_do_update(
        index_elements=[table.c.digest], set_={"name": name, "damaged": false()}
    )
    await connection.execute(held)


def _is_held() -> ColumnElement[bool]:
    return exists().where(tables.files.c.sha256 == tables.blobs.c.digest)


def _seen(seen_by: Owner) -> ColumnElement[bool]:
    columns = tables.files.c
    wanted = [columns.organization_id == seen_by.organization_id]
    for column, value in (
        (columns.subject, seen_by.subject),
        (columns.session_id, seen_by.session_id),
        (columns.agent_id, seen_by.agent_id),
    ):
        if value is not None:
            wanted.append(column == value)
    return and_(*wanted)


def _one(seen_by: Owner, file_id: str) -> ColumnElement[bool]:
    return and_(_seen(seen_by), tables.files.c.id == file_id)


def _place(file: FileRecord) -> tuple[int, str]:
    return micros(file.created_at), file.id


def _file(row: RowMapping) -> FileRecord:
    return FileRecord(
        row["id"],
        Owner(row["organization_id"], row["subject"], row["session_id"], row["agent_id"]),
        Content(row["name"], row["content_type"], row["size"], row["sha256"]),
        seconds(row["created_at"]),
    )
