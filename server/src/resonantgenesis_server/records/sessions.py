"""The list of sessions, for lists and retention. It follows the sessions' logs, the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Insert, RowMapping, and_, delete, exists, func, select, tuple_

from . import tables
from .base import ListPage, ListPlace, SessionRecord
from .database import RecordsDatabase, few_at_once
from .paging import by_creation, encode_cursor, read_page
from .search import Search, text_of
from .tables import micros, seconds

#: The status in the row of a session that is deleted, and that its forks still show.
DELETED = "deleted"
#: Sessions that one page of a search looks at: they take some tenths of a second.
SEARCHED = 100_000


def _upsert(dialect: str, *, anew: bool) -> Insert:
    """Made once per repository: to make the statement costs more than to run it."""
    query = tables.insert_into(dialect, tables.sessions)
    new = query.excluded
    mine = tables.sessions.c.organization_id == new.organization_id
    return query.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "agent_id": new.agent_id,
            "status": new.status,
            "turns": new.turns,
            "updated_at": new.updated_at,
            "metadata": new["metadata"],
            "waiting": new.waiting,
            "wakes_at": new.wakes_at,
            "first_goal": new.first_goal,
            "search_text": new.search_text,
        },
        where=mine if anew else and_(tables.sessions.c.updated_at <= new.updated_at, mine),
    )


def _upsert_place(dialect: str) -> Insert:
    query = tables.insert_place(dialect, tables.session_places)
    new = query.excluded
    return query.on_conflict_do_update(
        index_elements=["organization_id"],
        set_={"epoch": new.epoch, "position": new.position},
    )


class SessionRepository:
    def __init__(self, database: RecordsDatabase) -> None:
        self._database = database
        self._upsert = _upsert(database.dialect, anew=False)
        self._upsert_anew = _upsert(database.dialect, anew=True)
        self._upsert_place = _upsert_place(database.dialect)

    async def upsert_many(
        self,
        rows: Sequence[SessionRecord],
        places: Sequence[ListPlace] = (),
        *,
        anew: bool = False,
    ) -> None:
        """Write these sessions, and the places that the list reaches with them, in one transaction.

        A row with an older `updated_at` than the kept one is ignored: rows may come in any order,
        and more than once. With `anew` every row is written: the log has another history than the
        one that the list followed.
        """
        if not rows and not places:
            return
        upsert = self._upsert_anew if anew else self._upsert
        async with self._database.write() as connection:
            if rows:
                # In one order, so that two nodes that write the same rows wait and do not deadlock.
                ordered = sorted(rows, key=lambda session: session.id)
                await connection.execute(upsert, [_row(session) for session in ordered])
            if places:
                reached = sorted(places, key=lambda place: place.organization_id)
                await connection.execute(self._upsert_place, [asdict(place) for place in reached])

    async def places(self) -> Sequence[ListPlace]:
        """The places of all organizations that have one."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(tables.session_places))).all()
        return [ListPlace(*row) for row in rows]

    async def get(self, organization_id: str, session_id: str) -> SessionRecord | None:
        columns = tables.sessions.c
        query = select(tables.sessions).where(
            columns.id == session_id, columns.organization_id == organization_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _session(row)

    async def list(
        self,
        organization_id: str,
        *,
        subject: str | None = None,
        agent_id: str | None = None,
        status: str | None = None,
        search: Search | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ListPage[SessionRecord]:
        """Newest first by creation; a filter that is None lets everything through.

        A page of a search may be short, and empty, before the last: see SEARCHED.
        """
        columns = tables.sessions.c
        query = select(tables.sessions).where(columns.organization_id == organization_id)
        if subject is not None:
            query = query.where(columns.subject == subject)
        query = by_creation(query, tables.sessions, cursor)
        # The index alone tells it.
        ends = query.with_only_columns(columns.created_at, columns.id).offset(SEARCHED - 1).limit(1)
        query = query.where(columns.status != DELETED)
        for column, wanted in ((columns.agent_id, agent_id), (columns.status, status)):
            if wanted is not None:
                query = query.where(column == wanted)
        async with self._database.read() as connection:
            if search is None:
                return await read_page(connection, query, limit, _session, _place)
            end = (await connection.execute(ends)).first()
            query = query.where(search.condition())
            if end is not None:
                query = query.where(tuple_(columns.created_at, columns.id) >= tuple_(*end))
            page = await read_page(connection, query, limit, _session, _place)
        if end is None or page.next_cursor is not None:
            return page
        return ListPage(page.items, encode_cursor(*end))

    async def having(self, organization_ids: Sequence[str]) -> Sequence[str]:
        """Those of the organizations that have a row."""
        organizations, sessions = tables.organizations.c, tables.sessions.c
        has = exists().where(sessions.organization_id == organizations.id)
        found: list[str] = []
        async with self._database.read() as connection:
            for few in few_at_once(organization_ids):
                query = select(organizations.id).where(organizations.id.in_(few), has)
                found += (await connection.execute(query)).scalars()
        return found

    async def open(
        self,
        organization_id: str,
        agent_id: str,
        *,
        subject: str | None = None,
        session_id: str | None = None,
        since: float = 0.0,
        behind: tuple[int, str] | None = None,
        limit: int = 50,
    ) -> tuple[Sequence[SessionRecord], int]:
        """Sessions of an agent with a turn that has not ended, changed last first; and how many
        there are. `behind`: from this `updated_at` in microseconds, and this id, on."""
        columns = tables.sessions.c
        wanted = [
            columns.organization_id == organization_id,
            columns.agent_id == agent_id,
            columns.status.in_(("queued", "running", "waiting")),
            columns.updated_at >= micros(since),
        ]
        for column, value in ((columns.subject, subject), (columns.id, session_id)):
            if value is not None:
                wanted.append(column == value)
        query = select(tables.sessions).where(*wanted)
        if behind is not None:
            query = query.where(tuple_(columns.updated_at, columns.id) <= tuple_(*behind))
        query = query.order_by(columns.updated_at.desc(), columns.id.desc()).limit(limit)
        count = select(func.count()).select_from(tables.sessions).where(*wanted)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
            return [_session(row) for row in rows], int(await connection.scalar(count) or 0)

    async def delete(self, session_ids: Sequence[str]) -> None:
        """Forget these sessions, and the files that were made in them."""
        if not session_ids:
            return
        async with self._database.write() as connection:
            for few in few_at_once(session_ids):
                for column in (tables.files.c.session_id, tables.sessions.c.id):
                    await connection.execute(delete(column.table).where(column.in_(few)))

    async def last_used_before(self, time: float, limit: int = 100) -> Sequence[SessionRecord]:
        """Sessions of all organizations whose `updated_at` is before `time`, oldest first. None of
        them waits for an answer."""
        columns = tables.sessions.c
        query = (
            select(tables.sessions)
            .where(
                columns.updated_at < micros(time),
                columns.wakes_at.is_(None),
                columns.status != DELETED,
            )
            .order_by(columns.updated_at, columns.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_session(row) for row in rows]

    async def expired(self, now: float, limit: int = 100) -> tuple[Sequence[str], float | None]:
        """Sessions of all organizations with an ask that has expired, the longest first; and when
        the next one expires, if none has."""
        columns = tables.sessions.c
        query = (
            select(columns.id, columns.wakes_at)
            .where(columns.wakes_at.is_not(None))
            .order_by(columns.wakes_at, columns.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        due = [row.id for row in rows if row.wakes_at <= micros(now)]
        return due, seconds(rows[0].wakes_at) if rows and not due else None

    async def waiting(self, organization_id: str | None = None) -> int:
        """The sessions whose turn waits for answers, of one organization or all."""
        columns = tables.sessions.c
        query = select(func.count()).where(columns.wakes_at.is_not(None))
        if organization_id is not None:
            query = query.where(columns.organization_id == organization_id)
        async with self._database.read() as connection:
            return int(await connection.scalar(query) or 0)

    async def deleted(self, *, after: str = "", limit: int = 100) -> Sequence[SessionRecord]:
        """Deleted sessions that their forks still show, of all organizations, by id."""
        columns = tables.sessions.c
        query = (
            select(tables.sessions)
            .where(columns.status == DELETED, columns.id > after)
            .order_by(columns.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_session(row) for row in rows]


def _place(session: SessionRecord) -> tuple[int, str]:
    return micros(session.created_at), session.id


def _row(session: SessionRecord) -> dict[str, object]:
    return {
        "id": session.id,
        "organization_id": session.organization_id,
        "subject": session.subject,
        "agent_id": session.agent_id,
        "status": session.status,
        "turns": session.turns,
        "created_at": micros(session.created_at),
        "updated_at": micros(session.updated_at),
        "metadata": dict(session.metadata),
        "waiting": [dict(ask) for ask in session.waiting] or None,
        "wakes_at": None if session.wakes_at is None else micros(session.wakes_at),
        "first_goal": session.first_goal,
        "search_text": text_of(session),
    }


def _session(row: RowMapping) -> SessionRecord:
    return SessionRecord(
        id=row["id"],
        organization_id=row["organization_id"],
        subject=row["subject"],
        agent_id=row["agent_id"],
        status=row["status"],
        turns=row["turns"],
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
        metadata=row["metadata"],
        first_goal=row["first_goal"] or "",
        waiting=row["waiting"] or (),
    )
