"""What clients were told, held against what a server says after a crash.

`Ledger.drive` asks for one thing after the other until the server is gone; `check` holds all that
was answered by some moment against the server that came after: nothing lost, changed or doubled,
and every door says the same. What was under way then may have been done or not, but whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.server import PATIENCE, ServerProcess, bearer

Json = dict[str, Any]
_KINDS = ("turn", "file", "session", "key", "turn", "agent", "event", "delete", "file", "drop")
_GONE = {404}
_NEVER = float("inf")


@dataclass
class Asked:
    """A request, and its answer; times as `time.time` tells them. `names` is what a deletion was
    to delete."""

    number: int
    kind: str
    began: float
    names: str = ""
    answered: float = _NEVER
    body: Json = field(default_factory=dict)


class Ledger:
    """All that was asked of one data directory, over all its servers."""

    def __init__(self, seed: int = 0) -> None:
        self.asked: list[Asked] = []
        self._seed = seed
        self._numbers = itertools.count()

    # -- asking ----------------------------------------------------------------------------

    async def drive(self, server: ServerProcess, count: int, *, at_once: int = 2) -> bool:
        """Ask for so many things; False if the server was gone before."""
        async with _client(server) as client:

            async def one_after_the_other() -> bool:
                for _ in range(count // at_once):
                    try:
                        await self._ask(client, next(self._numbers))
                    except httpx.TransportError:
                        return False
                return True

            return all(await asyncio.gather(*(one_after_the_other() for _ in range(at_once))))

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        kind = _KINDS[number % len(_KINDS)]
        asked = Asked(number, kind, time.time())
        if kind in {"delete", "drop"}:
            asked.names = self._victim("turn" if kind == "delete" else "file")
            if not asked.names:
                return
        self.asked.append(asked)
        answer = await self._send(client, asked)
        assert answer.status_code in {200, 201, 204}, (kind, answer.text)
        asked.answered = time.time()
        asked.body = {} if answer.status_code == 204 else answer.json()

    def _victim(self, kind: str) -> str:
        """One that was made and that nobody has asked to delete."""
        taken = {each.names for each in self.asked}
        made = (_id(each) for each in self.asked if each.kind == kind and each.body)
        return next((name for name in made if name not in taken), "")

    async def _send(self, client: httpx.AsyncClient, asked: Asked) -> httpx.Response:
        """The request, the same however often it is sent."""
        number = asked.number
        headers = {"Idempotency-Key": f"key-{number}"}

        async def post(path: str, body: Json) -> httpx.Response:
            return await client.post(path, json=body, headers=headers)

        match asked.kind:
            case "turn":
                body = {"agent_id": "guide", "goal": f"count to {number % 5 + 1}"}
                return await post("/v1/sessions/execute", body)
            case "session":
                body = {"agent_id": "guide", "metadata": {"number": number}}
                return await post("/v1/sessions", body)
            case "file":
                path = f"/v1/files?name=file-{number}"
                return await client.post(path, content=self.content(number), headers=headers)
            case "key":
                return await post("/v1/keys", {"name": f"key-{number}", "scopes": ["agents:read"]})
            case "agent":
                body = {"id": f"agent-{number}", "name": "n", "engine": "guide"}
                return await post("/v1/agents", body)
            case "event":
                return await post("/v1/events", {"type": "app.x", "data": {"number": number}})
            case "delete":
                return await client.delete(f"/v1/sessions/{asked.names}")
            case _:
                return await client.delete(f"/v1/files/{asked.names}")

    def content(self, number: int) -> bytes:
        """What the file of this number holds: some nothing, some more than a block."""
        chosen = random.Random(self._seed * 1_000 + number)
        return chosen.randbytes(chosen.choice([0, 10, 5_000, 150_000]))

    # -- checking --------------------------------------------------------------------------

    async def check(self, server: ServerProcess, moment: float = _NEVER) -> None:
        """All that was answered before this moment; then everything that had begun by then is
        asked once more, under its key. `server` must be one that came after."""
        begun = [each for each in self.asked if each.began <= moment]
        told = [each for each in begun if each.answered <= moment and each.answered < _NEVER]
        async with _client(server) as client:
            view = _View(client)
            await view.agrees()
            gone = {each.names for each in told if each.names}
            unsure = {each.names for each in begun if each.names} - gone
            for each in told:
                name = _id(each)
                if name in gone:
                    await view.lacks(name)
                elif name and name not in unsure:
                    await self._has(view, each)
            # Whatever was under way: the same again, and nothing of it twice.
            made = {await self._again(client, each, told) for each in begun if not each.names}
            for each in begun:
                if each.names:
                    assert (await self._send(client, each)).status_code in {204, 404}
            await _View(client).agrees()
            await self._nothing_twice(client, made, gone | unsure)

    async def _has(self, view: _View, asked: Asked) -> None:
        body, client = asked.body, view.client
        match asked.kind:
            case "turn":
                name = body["session_id"]
                assert view.sessions[name]["status"] == "completed", name
                found = await _get(client, f"/v1/sessions/{name}")
                assert found["output"] == body["output"]
                assert found["position"] == body["position"]
                polled = await _get(client, f"/v1/sessions/{name}/events?limit=1000")
                positions = [chunk["position"] for chunk in polled["events"]]
                assert positions == list(range(1, body["position"] + 1))
                assert polled["events"][-1]["output"] == body["output"]
            case "session":
                assert view.sessions[body["session_id"]]["status"] == "created"
            case "file":
                assert view.files[body["id"]] == body
            case "key":
                own = bearer(body["key"])
                assert (await client.get("/v1/agents", headers=own)).status_code == 200
            case "agent":
                assert await _get(client, f"/v1/agents/{body['id']}") == body
            case "event":
                assert await _get(client, f"/v1/events/{body['id']}") == body

    async def _again(self, client: httpx.AsyncClient, asked: Asked, told: list[Asked]) -> str:
        """The id of what a repeat has, or had, made."""
        answer = await self._send(client, asked)
        if asked.kind == "key" and answer.status_code == 409:
            return str(answer.json()["error"]["details"]["id"])
        if answer.status_code == 404:  # its session was deleted meanwhile
            return ""
        assert answer.status_code in {200, 201}, answer.text
        made = _id_in(answer.json())
        if asked in told and asked.kind != "turn":
            assert made == _id(asked), asked
        return made

    async def _nothing_twice(
        self, client: httpx.AsyncClient, made: set[str], gone: set[str]
    ) -> None:
        for path, name in (("/v1/files", "name"), ("/v1/keys", "name"), ("/v1/agents", "id")):
            names = Counter([item[name] async for item in _all(client, path)])
            del names["bootstrap"], names["bootstrap (configured)"]
            assert not [each for each, count in names.items() if count > 1], path
        listed = [item async for item in _all(client, "/v1/sessions")]
        assert {item["session_id"] for item in listed} <= made - gone
        events = await _get(client, "/v1/events?events=billing.usage.recorded&limit=1000")
        turns = [event["data"]["session_id"] for event in events["events"]]
        assert len(turns) == len(set(turns))
        assert (await _get(client, "/v1/usage"))["totals"]["turns"] == len(turns)


class _View:
    """What a server shows through its lists, each item held against what it says by itself."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.sessions: dict[str, Json] = {}
        self.files: dict[str, Json] = {}

    async def agrees(self) -> None:
        async for item in _all(self.client, "/v1/sessions"):
            name = item["session_id"]
            self.sessions[name] = item
            whole = await _get(self.client, f"/v1/sessions/{name}")
            listed = {key: (value, whole.get(key)) for key, value in item.items()}
            assert all(here == there for here, there in listed.values()), listed
            assert item["status"] in {"created", "completed", "failed"}, item
        for status in ("completed", "failed", "created", "running"):
            filtered = {
                item["session_id"]
                async for item in _all(self.client, "/v1/sessions", status=status)
            }
            wanted = {name for name, item in self.sessions.items() if item["status"] == status}
            assert filtered == wanted
        async for item in _all(self.client, "/v1/files"):
            self.files[item["id"]] = item
            content = (await self.client.get(f"/v1/files/{item['id']}/content")).content
            assert hashlib.sha256(content).hexdigest() == item["sha256"]
            assert len(content) == item["size"]

    async def lacks(self, name: str) -> None:
        assert name not in self.sessions and name not in self.files
        kind = "sessions" if name.startswith("sess_") else "files"
        assert (await self.client.get(f"/v1/{kind}/{name}")).status_code in _GONE


def _client(server: ServerProcess) -> httpx.AsyncClient:
    """With the key that the server's own file names."""
    key = (server.data / "api-key").read_text().strip()
    return server.client(headers=bearer(key), timeout=PATIENCE)


async def _get(client: httpx.AsyncClient, path: str) -> Json:
    answer = await client.get(path)
    assert answer.status_code == 200, (path, answer.text)
    found: Json = answer.json()
    return found


async def _all(client: httpx.AsyncClient, path: str, **query: str) -> AsyncIterator[Json]:
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = (await client.get(path, params={"limit": "50", **query, **more})).json()
        for item in page["data"]:
            yield item
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _id(asked: Asked) -> str:
    return _id_in(asked.body)


def _id_in(body: Json) -> str:
    return str(body.get("session_id") or body.get("id") or "")
