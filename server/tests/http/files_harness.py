"""The whole server without sockets, with callers of several organizations and subjects."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from resonantgenesis_server.app import Parts, open_parts
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets
from support.s3 import Bucket

KEY = "rg_test_bootstrap_key_0123"


@dataclass
class World:
    parts: Parts
    data: Path
    client: httpx.AsyncClient
    bucket: Bucket | None = None

    async def key(self, *scopes: str, organization_id: str | None = None) -> dict[str, str]:
        """The headers of a new key."""
        credential = f"rg_test_{secrets.token_hex(8)}"
        if organization_id is None:
            first = await self.parts.records.organizations.first()
            assert first is not None
            organization_id = first.id
        hasher = CredentialHasher(*load_secrets(self.data / "secret"))
        await self.parts.records.keys.create(
            organization_id,
            name="test",
            hash=hasher.hash(credential),
            scopes=frozenset(scopes or {"*"}),
        )
        return {"Authorization": f"Bearer {credential}"}

    async def stranger(self) -> dict[str, str]:
        """The headers of a key of another organization."""
        other = await self.parts.records.organizations.create("other")
        return await self.key(organization_id=other.id)

    async def token(self, **bound: Any) -> dict[str, str]:
        answer = await self.client.post("/v1/tokens", json={"scopes": ["*"], **bound})
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def upload(
        self, content: bytes = b"content", name: str = "a.txt", **options: Any
    ) -> dict[str, Any]:
        answer = await self.client.post(f"/v1/files?name={name}", content=content, **options)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def kept(self) -> list[str]:
        """Everything that is stored, finished (by its digest) or not."""
        if self.bucket is not None:
            return self.bucket.kept()
        found = (self.data / "files").rglob("*")
        return [path.name.partition(".")[0] for path in found if path.is_file()]


@asynccontextmanager
async def opened(data: Path, bucket: Bucket | None = None, **limits: Any) -> AsyncIterator[World]:
    """Files lie in the bucket, else on disk."""
    data.mkdir(exist_ok=True)
    where = {} if bucket is None else {"files": bucket.address, "files_endpoint": bucket.endpoint}
    settings = Settings(data=data, bootstrap_key=KEY, limits=Limits(**limits), **where)
    async with open_parts(settings) as parts:
        transport = httpx.ASGITransport(parts.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://testserver",
            headers={"Authorization": f"Bearer {KEY}"},
        ) as client:
            yield World(parts, data, client, bucket)
