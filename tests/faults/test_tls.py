"""A node whose way to the database is encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleet import SECRET
from support.postgres import encrypted_server
from support.server import PATIENCE, Serve, ServerProcess
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[str]:
    with encrypted_server(tmp_path) as url:
        yield url


async def test_a_database_that_proves_who_it_is(
    serve: Serve, encrypted: str, tmp_path: Path
) -> None:
    verified = f"{encrypted}?sslmode=verify-full&sslrootcert={tmp_path}"
    servers = [
        serve(may_complain=True, store=f"{verified}/ca.pem", secret=SECRET) for _ in range(2)
    ]
    async with servers[0].client() as client, servers[1].client() as other:
        session_id = (await execute(client, goal="count to 5"))["session_id"]
        found = await read_all(other, session_id)
        assert found[-1].body["status"] == "success"
        nodes = (await other.get("/v1/nodes")).json()["data"]
        assert len(nodes) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("sslmode=verify-full&sslrootcert={folder}/another.pem", "unable to get local issuer"),
        ("sslmode=verify-full&sslrootcert={folder}/none.pem", "No such file"),
        ("sslmode=verify-full&sslrootcert={folder}/ca.pem", "not valid for 'localhost'"),
    ],
)
async def test_a_database_that_does_not_is_refused_in_one_line(
    encrypted: str, tmp_path: Path, options: str, reason: str
) -> None:
    address = encrypted.replace("127.0.0.1", "localhost") if "localhost" in reason else encrypted
    store = f"{address}?{options.format(folder=tmp_path)}"
    node = ServerProcess(tmp_path / "node", store=store, secret=SECRET)
    node.launch()
    assert await asyncio.to_thread(node.wait, PATIENCE) == 2
    (line,) = node.log.splitlines()
    print(line)
    assert line.startswith("resonantgenesis: ") and reason in line
    node.stop()
