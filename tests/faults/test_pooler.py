"""A pooler in transaction mode between a node and its database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from support.pgbouncer import PROGRAM, PgBouncer
from support.postgres import PostgresServer
from support.server import Serve
from support.wire import dense, execute, read_all

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        PROGRAM is None and not os.environ.get("CI"),
        reason="no PgBouncer here: sudo apt-get install pgbouncer",
    ),
]
SECRET = "5e" * 32


@pytest.fixture
def pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    made = PgBouncer(postgres_server)
    yield made
    made.close()


async def test_the_records_go_through_a_pooler_and_the_log_goes_directly(
    postgres: str, postgres_server: PostgresServer, pooler: PgBouncer, serve: Serve
) -> None:
    store = pooler.url(postgres)
    server = serve(store=store, store_direct=postgres, secret=SECRET)
    async with server.client() as client:
        made = [await execute(client, goal="count to 3") for _ in range(20)]
        for each in made:
            found = await read_all(client, each["session_id"])
            dense(found)
            assert found[-1].body["status"] == "success"
        bodies = [{"name": f"key {number}", "scopes": ["*"]} for number in range(10)]
        answers = await asyncio.gather(*(client.post("/v1/keys", json=body) for body in bodies))
        assert [answer.status_code for answer in answers] == [201] * 10
        assert len((await client.get("/v1/keys")).json()["data"]) == 11
        assert len((await client.get("/v1/sessions")).json()["data"]) == 20
        name = postgres.partition("?")[0].rpartition("/")[2]
        seen = postgres_server.sql(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname='{name}'"
            " AND application_name='resonantgenesis/records'"
        )
        assert 0 < int(seen) <= 3, "the pooler's own connections"
    server.stop()
    server.start()
    async with server.client() as client:
        assert len((await client.get("/v1/sessions")).json()["data"]) == 20
