"""The tables; `versions/` has the steps that lead an older store to them.

Times are whole microseconds since 1970: they compare the same in every database.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    exists,
    select,
)

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql.dml import Insert as PostgresInsert
    from sqlalchemy.dialects.sqlite.dml import Insert as SqliteInsert

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: Ids compare byte by byte, as in SQLite, whatever the database's language is.
ID = String(128).with_variant(String(128, collation="C"), "postgresql")
#: Text that reports are sorted by: in the same order on both databases.
_SORTED_TEXT = Text().with_variant(Text(collation="C"), "postgresql")

organizations = Table(
    "organizations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

keys = Table(
    "api_keys",
    metadata,
    Column("id", ID, primary_key=True),
    Column("organization_id", ID, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("is_bootstrap", Boolean, nullable=False),
    # The id of the server's secret that the hash was made with; None: of the first one.
    Column("hashed_with", String(16)),
    Index(None, "organization_id", "created_at", "id"),
)

agents = Table(
    "agents",
    metadata,
    Column("organization_id", ID, ForeignKey("organizations.id"), primary_key=True),
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("instructions", Text),
    Column("model", Text),
    Column("tools", JSON(none_as_null=True)),
    Column("defaults", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # Of the engine `http`: {url, secret, former, rotated_at}, secrets sealed.
    Column("endpoint", JSON(none_as_null=True)),
    # Of a team: {description, strategy, members, lead, on_failure}.
    Column("team", JSON(none_as_null=True)),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("organization_id", ID, ForeignKey("organizations.id"), nullable=False),
    Column("subject", Text),
    Column("agent_id", ID, nullable=False),
    Column("status", String(32), nullable=False),
    Column("turns", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("metadata", JSON, nullable=False),
    #: Its open asks, and when the first of them expires.
    Column("waiting", JSON(none_as_null=True)),
    Column("wakes_at", BigInteger),
    #: The beginning of its first turn's goal, and what a search looks through.
    Column("first_goal", Text),
    Column("search_text", Text),
    Index(None, "organization_id", "created_at", "id"),
    Index(None, "organization_id", "subject", "created_at", "id"),
    Index(None, "updated_at"),
    Index(None, "wakes_at"),
)

session_places = Table(
    "session_places",
    metadata,
    Column("organization_id", ID, ForeignKey("organizations.id"), primary_key=True),
    Column("epoch", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("organization_id", ID, ForeignKey("organizations.id"), primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("route", String(128), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer),
    Column("body", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    Column("thing", ID),
    Index(None, "created_at"),
)

outbox = Table(
    "outbox",
    metadata,
    # Never given out again: the log gets the events in this order.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("organization_id", ID, ForeignKey("organizations.id"), nullable=False),
    Column("event_id", String(64), nullable=False),
    Column("type", String(200), nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

files = Table(
    "files",
    metadata,
    Column("id", ID, primary_key=True),
    Column("organization_id", ID, ForeignKey("organizations.id"), nullable=False),
    Column("subject", Text),
    Column("session_id", ID),
    Column("agent_id", ID),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "organization_id", "created_at", "id"),
    Index(None, "organization_id", "subject", "created_at", "id"),
    Index(None, "session_id"),
    Index(None, "sha256"),
)

#: Where the content of files lies: one row for each digest, however many files have it. Rows go by
#: `FileRepository.release` alone, which locks them first.
blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    # The name that the store of blobs gave it.
    Column("name", ID, nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("damaged", Boolean, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("organization_id", ID, ForeignKey("organizations.id"), primary_key=True),
    Column("session_id", ID, primary_key=True),
    Column("turn", Integer, primary_key=True),
    Column("agent_id", ID, nullable=False),
    Column("key_id", ID, nullable=False),
    # "" for none, which is grouped and compared like any other.
    Column("subject", _SORTED_TEXT, nullable=False),
    Column("status", String(32), nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    # Days since 1970: every database groups by a number in the same way.
    Column("day", Integer, nullable=False),
    Index(None, "organization_id", "ended_at", "session_id", "turn"),
    Index(None, "organization_id", "subject", "ended_at"),
    Index(None, "ended_at"),
)

usage_places = Table(
    "usage_places",
    metadata,
    Column("organization_id", ID, ForeignKey("organizations.id"), primary_key=True),
    Column("epoch", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("limit_month", String(7)),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", ID, primary_key=True),
    Column("organization_id", ID, ForeignKey("organizations.id"), nullable=False),
    Column("description", Text, nullable=False),
    Column("events", JSON(none_as_null=True)),
    Column("filters", JSON, nullable=False),
    Column("format", String(32), nullable=False),
    # {url, secret, former, rotated_at, headers, header_names}; secrets and headers sealed.
    Column("endpoint", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", String(32)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # Another random number after each change by a caller, none for what the delivery writes.
    Column("revision", BigInteger, nullable=False),
    # Of the callback of a session, or of one of its turns.
    Column("session_id", ID),
    Column("turn", Integer),
    # How far it has got, by position and by the time of that event.
    Column("epoch", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("reached_at", BigInteger, nullable=False),
    # Positions that are sent again first: after the one, up to the other.
    Column("resend_after", BigInteger),
    Column("resend_until", BigInteger),
    # Of the event that the receiver does not take.
    Column("failing_since", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("next_try_at", BigInteger),
    Column("lost_before", BigInteger),
    Index(None, "organization_id", "created_at", "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", ID, primary_key=True),
    # Not a foreign key: what is under way may end after its webhook is deleted.
    Column("webhook_id", ID, nullable=False),
    Column("event_id", String(64), nullable=False),
    Column("event_type", String(200), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("answer", Text),
    Column("duration_ms", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("next_try_at", BigInteger),
    Index(None, "webhook_id", "created_at", "id"),
    Index(None, "created_at"),
)

#: The revision that the store has reached. Apart from the tables of the records: `versions/` has
#: no step that makes it. Name and shape are Alembic's, which wrote it in earlier versions.
schema_version = Table(
    "alembic_version",
    MetaData(naming_convention={"pk": "%(table_name)s_pkc"}),
    Column("version_num", String(32), primary_key=True),
)


def insert_into(dialect: str, table: Table) -> PostgresInsert | SqliteInsert:
    """An INSERT with ON CONFLICT, which both databases have and SQLAlchemy knows per database."""
    # The engine has imported this one; nobody needs the other.
    insert: PostgresInsert | SqliteInsert = importlib.import_module(
        f"sqlalchemy.dialects.{dialect}"
    ).insert(table)
    return insert


def insert_place(dialect: str, table: Table) -> PostgresInsert | SqliteInsert:
    """An INSERT of one row about an organization, which does nothing where that is deleted: a
    process may not have noticed yet."""
    columns = [bindparam(column.name, type_=column.type) for column in table.c]
    owner = bindparam("organization_id", type_=organizations.c.id.type)
    row = select(*columns).where(exists().where(organizations.c.id == owner))
    return insert_into(dialect, table).from_select([c.name for c in table.c], row)


def micros(seconds: float) -> int:
    """Seconds as they are kept."""
    return round(seconds * 1_000_000)


def seconds(kept: int) -> float:
    """The reverse of `micros`; exact for any date of this age of the world."""
    return kept / 1_000_000


def seconds_or_none(kept: int | None) -> float | None:
    return None if kept is None else seconds(kept)


def micros_or_none(given: float | None) -> int | None:
    return None if given is None else micros(given)
