"""What only PostgreSQL has: nodes that start and write at the same time, outages, a language."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from resonantgenesis_server.records.base import (
    AgentRecord,
    SessionRecord,
    StoreUnusable,
)
from resonantgenesis_server.records.database import RecordsDatabase
from resonantgenesis_server.records.files import Owner
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.usage import (
    PlaceMoved,
    UsageFilter,
    UsagePlace,
    UsageRow,
)
from support.postgres import PostgresServer, encrypted_server

from .records_support import run_sql_at

pytestmark = pytest.mark.anyio

START = """\
import asyncio, pathlib, sys
from resonantgenesis_server.records.bootstrap import bootstrap
from resonantgenesis_server.records.credentials import CredentialHasher
from resonantgenesis_server.records.store import Records

async def main():
    url, folder = sys.argv[1:]
    records = await Records.open(url)
    file = pathlib.Path(folder) / "api-key"
    made = await bootstrap(records, CredentialHasher(b"s" * 32), None, file, is_shared=True)
    await records.close()
    print(made.organization_id, made.generated or "-")

asyncio.run(main())
"""


async def start(url: str, folder: Path) -> tuple[str, str]:
    """A node's start, in a process of its own: its organization, and the key that it made."""
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START, url, str(folder), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    organization, key = output.decode().split()
    return organization, key


@pytest.mark.parametrize("round_", range(3))
async def test_nodes_that_start_at_once_make_one_store_and_one_key(
    postgres: str, tmp_path: Path, round_: int
) -> None:
    nodes = 4
    started = await asyncio.gather(*(start(postgres, tmp_path / str(n)) for n in range(nodes)))
    assert len({organization for organization, _ in started}) == 1
    assert len([key for _, key in started if key != "-"]) == 1
    assert len([*tmp_path.glob("*/api-key")]) == 1
    found = await run_sql_at(
        postgres, "SELECT (SELECT count(*) FROM organizations), (SELECT count(*) FROM api_keys)"
    )
    assert found == [(1, 1)]
    again, key = await start(postgres, tmp_path / "later")
    assert (again, key) == (started[0][0], "-")


async def test_nodes_that_start_at_once_in_one_process_too(postgres: str) -> None:
    opened = await asyncio.gather(*(Records.open(postgres) for _ in range(6)))
    for records in opened:
        await records.close()


@pytest.fixture
async def nodes(postgres: str) -> AsyncIterator[tuple[Records, Records]]:
    opened = (await Records.open(postgres), await Records.open(postgres))
    yield opened
    for records in opened:
        await records.close()


def usage_row(organization_id: str, number: int, **other: str) -> UsageRow:
    row = UsageRow(organization_id, f"s{number}", 1, "a", "k", None, None, 1, 0, 1, 1, 1.0)
    return replace(row, **other)  # type: ignore[arg-type]


async def test_a_place_that_another_node_moved_is_not_written(
    nodes: tuple[Records, Records],
) -> None:
    one, two = nodes
    org = (await one.organizations.create("o")).id
    first, second = UsagePlace("e", 1), UsagePlace("e", 2)
    await one.usage.take_in(org, [usage_row(org, 1)], first, behind=None)
    for behind in (None, second, UsagePlace("another", 1)):
        with pytest.raises(PlaceMoved):
            await two.usage.take_in(org, [usage_row(org, 2)], second, behind=behind)
    assert await two.usage.place(org) == first
    assert (await two.usage.standing(org, 0.0))[0] == 1
    await two.usage.take_in(org, [usage_row(org, 2)], second, behind=first)
    assert await one.usage.place(org) == second


async def test_of_nodes_that_write_a_place_at_once_one_wins(nodes: tuple[Records, Records]) -> None:
    org = (await nodes[0].organizations.create("o")).id
    places: list[UsagePlace | None] = [None, *(UsagePlace("e", number) for number in range(1, 30))]
    for behind, place in itertools.pairwise(places):
        assert place is not None
        results = await asyncio.gather(
            *(
                node.usage.take_in(org, [usage_row(org, place.position)], place, behind=behind)
                for node in nodes
            ),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["NoneType", "PlaceMoved"]
    assert (await nodes[0].usage.standing(org, 0.0))[0] == 29


async def test_lists_are_in_the_order_of_their_bytes_in_every_language(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    version = int(postgres_server.sql("SHOW server_version_num"))
    if version < 150_000:
        pytest.skip("databases by ICU came with PostgreSQL 15")
    postgres_server.sql(
        "CREATE DATABASE english TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu"
        " ICU_LOCALE 'en-US'"
    )
    found = []
    for url in (f"sqlite:///{tmp_path / 'records.db'}", postgres_server.url("english")):
        records = await Records.open(url)
        found.append(await orders(records))
        await records.close()
    assert found[0] == found[1]


async def orders(records: Records) -> list[list[str | None]]:
    """Names in the order of each list, page by page."""
    org = (await records.organizations.create("o")).id
    names = ["b", "B", "a", "A", "_", "Z", "z", "a-1", "a_1", "a1"]
    for name in names:
        await records.agents.create(AgentRecord(name, org, name, "e"))
    sessions = [SessionRecord(name, org, name, "a", "idle", 0, 1.0, 1.0) for name in names]
    await records.sessions.upsert_many(sessions)
    rows = [
        usage_row(org, number, subject=name, agent_id=name) for number, name in enumerate(names)
    ]
    await records.usage.take_in(org, rows, UsagePlace("e", 1))
    found: list[list[str | None]] = [[], [], [], []]
    cursor: str | None = None
    while True:
        agents = await records.agents.list(org, limit=3, cursor=cursor)
        found[0] += [agent.id for agent in agents.items]
        if (cursor := agents.next_cursor) is None:
            break
    while True:
        listed = await records.sessions.list(org, limit=3, cursor=cursor)
        found[1] += [session.id for session in listed.items]
        if (cursor := listed.next_cursor) is None:
            break
    for place, group in ((2, "subject"), (3, "agent")):
        while True:
            report = await records.usage.report(
                Owner(org),
                UsageFilter(0.0),
                group,  # type: ignore[arg-type]
                limit=3,
                cursor=cursor,
            )
            found[place] += [next(iter(g.names.values())) for g in report.page.items]
            if (cursor := report.page.next_cursor) is None:
                break
    assert all(sorted(map(str, each)) == sorted(names) for each in found)
    return found


async def test_an_outage_is_an_error_and_is_over_when_the_database_is_back() -> None:
    server = PostgresServer().start()
    try:
        records = await Records.open(server.database())
        # Every connection of the pool is there when the database goes.
        await asyncio.gather(*(records.organizations.first() for _ in range(5)))
        org = await records.organizations.create("kept")
        server.kill()
        for _ in range(6):
            with pytest.raises(StoreUnusable) as caught:
                await records.organizations.create("refused")
            assert "\n" not in str(caught.value)
        with pytest.raises(StoreUnusable):
            await records.ping()
        server.start()
        for _ in range(6):
            assert await records.organizations.get(org.id) == org
        await records.organizations.create("accepted")
        await records.close()
    finally:
        server.close()


async def test_a_pool_that_is_used_up_is_an_error(postgres: str) -> None:
    database = await RecordsDatabase.open(postgres, busy_timeout=0.1, pool_size=2)
    async with database.read(), database.read():
        with pytest.raises(StoreUnusable, match="no connection is free") as caught:
            async with database.read():
                pass
        assert "\n" not in str(caught.value)
    async with database.read():
        pass
    await database.close()


async def test_a_server_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonantgenesis_server.records.postgres._CONNECT", 0.2)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with pytest.raises(StoreUnusable, match="does not answer"):
        await Records.open(f"postgresql://u:secret-word@127.0.0.1:{port}/d?sslmode=disable")
    await listener.aclose()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("/test", "/none_"), "does not exist"),
        (("postgres@", "nobody:secret-word@"), "refuses the user"),
        (("host=/", "host=/none/"), "cannot be reached"),
        (("?", "?sslmode=strange&"), "address"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line_without_the_password(
    postgres: str, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(StoreUnusable, match=words) as caught:
        await Records.open(postgres.replace(*change))
    assert "\n" not in str(caught.value)
    assert "secret-word" not in str(caught.value)


@pytest.fixture
def set_(postgres: str, postgres_server: PostgresServer) -> Iterator[Callable[[str], object]]:
    """Change a setting of the database, until the end of the test."""
    name = postgres.partition("@/")[2].partition("?")[0]
    yield lambda setting: postgres_server.sql(f"ALTER DATABASE {name} SET {setting}")
    postgres_server.sql(f"ALTER DATABASE {name} RESET ALL")


async def test_a_standby_is_refused(postgres: str, set_: Callable[[str], object]) -> None:
    await (await Records.open(postgres)).close()
    set_("default_transaction_read_only = on")
    with pytest.raises(StoreUnusable, match="standby or read-only"):
        await Records.open(postgres)


async def test_commits_are_durable_whatever_the_database_says(
    postgres: str, set_: Callable[[str], object]
) -> None:
    set_("synchronous_commit = off")
    assert await run_sql_at(postgres, "SHOW synchronous_commit") == [("on",)]
    set_("synchronous_commit = remote_apply")
    assert await run_sql_at(postgres, "SHOW synchronous_commit") == [("remote_apply",)]


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[str]:
    with encrypted_server(tmp_path) as url:
        yield url


async def test_the_address_says_how_it_is_encrypted(encrypted: str, tmp_path: Path) -> None:
    asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    for mode, is_encrypted in (("disable", False), ("require", True)):
        assert await run_sql_at(f"{encrypted}?sslmode={mode}", asked) == [(is_encrypted,)]
    verified = f"{encrypted}?sslmode=verify-full&sslrootcert={tmp_path}"
    assert await run_sql_at(f"{verified}/ca.pem", asked) == [(True,)]
    with pytest.raises(StoreUnusable, match="certificate"):
        await Records.open(f"{verified}/another.pem")
    with pytest.raises(StoreUnusable, match="No such file"):
        await Records.open(f"{verified}/none.pem")
