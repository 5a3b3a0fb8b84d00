"""Connections of the records to PostgreSQL: the only module of the records that knows asyncpg."""

from __future__ import annotations

from weakref import WeakSet

import asyncpg
from sqlalchemy import Connection

from ..postgres_errors import ERRORS, reason_of
from .base import StoreUnusable

#: The records' own schema: the log has another, and the database may be shared with others.
SCHEMA = "resonantgenesis_records"
OLDEST_VERSION = 14
#: Seconds to connect.
_CONNECT = 5.0
_SETTINGS = {
    "application_name": "resonantgenesis/records",
    "search_path": SCHEMA,
    # Other nodes do not wait longer for a process that is stopped within a transaction.
    "idle_in_transaction_session_timeout": "10s",
    # PostgreSQL releases the locks of a node whose machine is gone (seconds, ms).
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
#: A commit is on stable storage here, and on a synchronous standby if there is one, whatever weaker
#: setting the server or the role has.
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
"""


class Connector:
    """Connects to `url`, in the form of libpq (`sslmode`, several hosts, `passfile`, …).

    A statement waits at most `busy_timeout` seconds for a lock, and takes at most
    `statement_timeout` seconds: a network that swallows packets is an error then.
    """

    def __init__(
        self, url: str, busy_timeout: float, statement_timeout: float, *, is_pooled: bool = False
    ) -> None:
        """`is_pooled`: a pooler in transaction mode is in between, so that each transaction has
        its own settings, and no statement stays prepared."""
        self._is_pooled = is_pooled
        self._url = url
        self._statement_timeout = statement_timeout
        self._settings = {**_SETTINGS, "lock_timeout": f"{int(busy_timeout * 1_000)}ms"}
        self._made: WeakSet[asyncpg.Connection] = WeakSet()

    async def __call__(self, **_options: object) -> asyncpg.Connection:
        """Raises StoreUnusable."""
        try:
            connection = await asyncpg.connect(
                self._url,
                timeout=_CONNECT,
                command_timeout=self._statement_timeout,
                target_session_attrs="read-write",
                **self._kept(),
            )
        except (*ERRORS, ValueError) as error:
            raise StoreUnusable(reason_of(error)) from error
        try:
            _check_server(connection)
            if not self._is_pooled:
                await connection.execute(_DURABLE)
        except ERRORS as error:
            connection.terminate()
            raise StoreUnusable(reason_of(error)) from error
        except BaseException:
            connection.terminate()
            raise
        self._made.add(connection)
        return connection

    def _kept(self) -> dict[str, object]:
        """What a connection is made with."""
        if not self._is_pooled:
            return {"server_settings": self._settings}
        name = {"application_name": self._settings["application_name"]}
        return {"server_settings": name, "statement_cache_size": 0}

    def begin(self, transaction: Connection) -> None:
        """Give a transaction its settings: a pooler keeps none from one to the next."""
        wait = self._settings["lock_timeout"]
        transaction.exec_driver_sql(
            f"SELECT set_config('search_path', '{SCHEMA}', true),"
            f" set_config('lock_timeout', '{wait}', true),"
            " CASE WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
            " THEN set_config('synchronous_commit', 'on', true) END"
        )

    def terminate(self) -> None:
        """Break every connection without a good-bye."""
        for connection in list(self._made):
            connection.terminate()


def _check_server(connection: asyncpg.Connection) -> None:
    version = connection.get_server_version().major
    if version < OLDEST_VERSION:
        raise StoreUnusable(f"PostgreSQL {version} is too old; {OLDEST_VERSION} is needed")
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise StoreUnusable(f"the database is encoded in {encoding}; make one with UTF8")
