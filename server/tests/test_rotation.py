"""Another secret in the place of the server's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from resonantgenesis_server import rotation
from resonantgenesis_server.agents.engines.http.endpoint import EndpointRecords
from resonantgenesis_server.app import Parts, open_parts
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.records import server_secret
from resonantgenesis_server.records.base import StoreUnusable
from resonantgenesis_server.records.credentials import (
    CredentialHasher,
    keep_secrets,
    load_secrets,
    new_secret,
)
from sqlalchemy import Engine, event
from support.postgres import PostgresServer

pytestmark = pytest.mark.anyio
KEY = "rg_test_bootstrap_of_rotation"
SHOWN = "whsec_" + "c2VjcmV0" * 5
#: Seconds within which a node follows, and some for a busy machine.
SOON = 1.0 + 4.0


class Server:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._transport = httpx.ASGITransport(parts.app)

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str = KEY
    ) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://testserver"
        ) as client:
            named = {"Authorization": f"Bearer {key}"}
            return await client.request(method, path, json=body, headers=named)

    async def make(self, path: str, **body: Any) -> Any:
        answer = await self.ask("POST", path, body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def status(self, key: str) -> int:
        return (await self.ask("GET", "/v1/agents", key=key)).status_code

    async def rotate(self) -> Any:
        answer = await self.ask("POST", "/v1/secret/rotate", {})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, verb: str) -> str:
        answer = await self.ask("POST", f"/v1/secret/{verb}", {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")
        return str(answer.json()["error"]["message"])

    async def endpoints(self) -> list[Any]:
        """As they are kept: of the one agent, and of the one webhook."""
        records = self.parts.records
        organization = await records.organizations.first()
        assert organization is not None
        hooks = await records.webhooks.list(organization.id)
        agents = await records.agents.list(organization.id)
        return [agents.items[0].endpoint, hooks.items[0].endpoint]


@contextlib.asynccontextmanager
async def serving(data: Path, **settings: Any) -> AsyncIterator[Server]:
    data.mkdir(exist_ok=True)
    settings |= {
        "bootstrap_key": KEY,
        "http_agents": {"allow_hosts": "127.0.0.1"},
        "webhooks": {"allow_hosts": "127.0.0.1"},
    }
    async with open_parts(Settings(data=data, **settings)) as parts:
        yield Server(parts)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A former secret can be retired as soon as another one is in use."""
    monkeypatch.setattr(server_secret, "SETTLE_SECONDS", 0.0)


async def fill(server: Server) -> tuple[Any, Any, str]:
    """Two keys, and a token; an agent and a webhook with secrets."""
    used = await server.make("/v1/keys", name="used", scopes=["*"])
    unused = await server.make("/v1/keys", name="unused", scopes=["*"])
    token = (await server.make("/v1/tokens", scopes=["*"]))["token"]
    url = "http://127.0.0.1:9/"  # nobody listens there
    await server.make("/v1/agents", id="far", name="far", engine="http", url=url, secret=SHOWN)
    await server.make("/v1/webhooks", url=url, secret=SHOWN)
    return used, unused, token


def opens(secrets: tuple[bytes, ...], kept: list[Any]) -> bool:
    """Whether these secrets of the server open what is sealed."""
    records = EndpointRecords(CredentialHasher(*secrets).derives)
    shown = {tuple(records.open(each).secrets) for each in kept}
    return shown == {(b"secret" * 5,)}


async def test_all_goes_on_until_the_former_secret_is_retired(
    tmp_path: Path, at_once: None
) -> None:
    async with serving(tmp_path / "data") as server:
        used, unused, token = await fill(server)
        (first,) = load_secrets(tmp_path / "data" / "secret")
        before = (await server.ask("GET", "/v1/secret")).json()
        assert (before["rotated_at"], before["former"], before["coming"]) == (None, 0, None)
        assert "no former secret" in await server.refused("retire")

        after = await server.rotate()
        assert after["id"] != before["id"] and after["former"] == 1 and after["rotated_at"]
        second, *others = load_secrets(tmp_path / "data" / "secret")
        assert others == [first]
        assert opens((second,), await server.endpoints())
        with pytest.raises(Exception, match="another secret"):
            opens((first,), await server.endpoints())
        fresh = (await server.make("/v1/tokens", scopes=["*"]))["token"]
        late = await server.make("/v1/keys", name="late", scopes=["*"])
        good = [KEY, used["key"], token, fresh, late["key"]]
        for _ in range(2):  # the second time by its new hash
            assert [await server.status(each) for each in good] == [200] * 5
        assert "retire it first" in await server.refused("rotate")
        report = (await server.ask("GET", "/v1/secret")).json()
        (left,) = report["unused_keys"]["first"]
        assert (left["id"], left["name"]) == (unused["id"], "unused")

    async with serving(tmp_path / "data") as server:  # a restart changes nothing
        assert (await server.ask("GET", "/v1/secret")).json() == report
        sealed = await server.endpoints()
        answer = await server.ask("POST", "/v1/secret/retire", {})
        assert answer.json()["revoked_keys"] == {"count": 1, "first": [left]}
        assert load_secrets(tmp_path / "data" / "secret") == (second,)
        good = [KEY, used["key"], fresh, late["key"]]
        assert [await server.status(each) for each in good] == [200] * 4
        assert [await server.status(each) for each in (unused["key"], token)] == [401] * 2
        assert await server.endpoints() == sealed and opens((second,), sealed)
        assert (await server.rotate())["id"] not in {before["id"], after["id"]}
        acts: list[str] = []
        async with asyncio.timeout(SOON):  # they come to the log behind the answers
            while len(acts) < 3:
                audit = await server.ask("GET", "/v1/events?events=system.audit.secret.*")
                acts = [event["type"].rpartition(".")[2] for event in audit.json()["events"]]
        assert acts == ["rotated", "retired", "rotated"]


async def test_the_former_secret_cannot_be_retired_in_the_same_moment(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server:
        await server.rotate()
        assert "seconds old" in await server.refused("retire")


async def test_others_do_not_wait_for_each_endpoint(tmp_path: Path, at_once: None) -> None:
    """While the rotation writes to SQLite nobody else does, so it writes many in one statement."""
    written: list[int] = []

    def count(_c: Any, _u: Any, text: str, rows: Any, _x: Any, is_many: bool) -> None:
        if text.startswith("UPDATE webhooks"):
            written.append(len(rows) if is_many else 1)

    async with serving(tmp_path / "data") as server:
        for number in range(30):
            await server.make("/v1/webhooks", url=f"http://127.0.0.1:9/{number}", secret=SHOWN)
        event.listen(Engine, "before_cursor_execute", count)
        try:
            await server.rotate()
            assert written == [30]
            await server.ask("POST", "/v1/secret/retire", {})
        finally:
            event.remove(Engine, "before_cursor_execute", count)
        assert written == [30]  # all were sealed under the new secret


async def test_a_rotation_that_broke_off_goes_on_with_its_secret(tmp_path: Path) -> None:
    """The file is written first, so a crash before the commit leaves two secrets in it."""
    data = tmp_path / "data"
    async with serving(data) as server:
        used, _, _ = await fill(server)
    file = data / "secret"
    keep_secrets(file, [new_secret(), *load_secrets(file)])
    values = load_secrets(file)
    async with serving(data) as server:
        coming = (await server.ask("GET", "/v1/secret")).json()["coming"]
        assert coming and await server.status(used["key"]) == 200
        assert opens(values[1:], await server.endpoints())
        assert (await server.rotate())["id"] == coming
        assert load_secrets(file) == values and opens(values[:1], await server.endpoints())


async def test_a_secret_of_the_settings_is_rotated_in_its_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    old, new = new_secret().hex(), new_secret().hex()
    async with serving(tmp_path / "data", secret=old) as server:
        assert "RESONANTGENESIS_SECRET" in await server.refused("rotate")
    file = tmp_path / "mounted"
    file.write_text(f"{old}\n")
    monkeypatch.setenv("RESONANTGENESIS_SECRET_FILE", str(file))
    async with serving(tmp_path / "data", secret=old) as server:
        file.write_text("half a secret")
        assert "RESONANTGENESIS_SECRET" in await server.refused("rotate")
        file.write_text(f"{new},{old}\n")
        await server.rotate()
        await server.ask("POST", "/v1/secret/retire", {})
        assert await server.status(KEY) == 200
    with pytest.raises(StoreUnusable, match="not the one"):
        async with serving(tmp_path / "data", secret=old):
            pass
    # A retired one never comes back, wherever it stands.
    file.write_text(f"{old} {new}\n")
    async with serving(tmp_path / "data", secret=f"{old} {new}") as server:
        assert (await server.ask("GET", "/v1/secret")).json()["coming"] is None
        assert "no new secret" in await server.refused("rotate")


async def test_every_node_takes_over_without_a_restart(
    tmp_path: Path,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    at_once: None,
) -> None:
    url, files = postgres_server.database(), [tmp_path / "mounted", tmp_path / "too"]
    old, new = new_secret().hex(), new_secret().hex()
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for file in files:
            file.write_text(old)
            monkeypatch.setenv("RESONANTGENESIS_SECRET_FILE", str(file))
            node = serving(file.with_suffix(".data"), store=url, secret=old)
            servers.append(await stack.enter_async_context(node))
        one, other = servers
        used, unused, token = await fill(one)
        files[0].write_text(f"{new} {old}")
        assert "1 other nodes do not know" in await one.refused("rotate")
        files[1].write_text(f"{new} {old}")
        answer = await one.rotate()
        good = [KEY, used["key"], token, (await other.make("/v1/tokens", scopes=["*"]))["token"]]
        for server in (one, other, one):
            assert [await server.status(each) for each in good] == [200] * 4
        assert opens((bytes.fromhex(new),), await other.endpoints())
        async with asyncio.timeout(SOON):
            while (await other.ask("GET", "/v1/secret")).json()["id"] != answer["id"]:
                await asyncio.sleep(0.02)
        retired = (await other.ask("POST", "/v1/secret/retire", {})).json()
        assert [key["id"] for key in retired["revoked_keys"]["first"]] == [unused["id"]]
        async with asyncio.timeout(SOON):
            while await one.status(token) != 401:
                await asyncio.sleep(0.02)
        assert [await one.status(each) for each in good] == [200, 200, 401, 200]
    postgres_server.recycle(url)


def test_a_node_looks_every_second() -> None:
    """The bound that the pages tell."""
    assert rotation._LOOK <= 1.0 < server_secret.SETTLE_SECONDS
