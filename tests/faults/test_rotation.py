"""The server is killed while its secret changes."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import pytest
from resonantgenesis_server.agents.engines.http.endpoint import EndpointRecords
from resonantgenesis_server.codec.json import loads
from resonantgenesis_server.records.credentials import CredentialHasher, load_secrets
from resonantgenesis_server.records.server_secret import SETTLE_SECONDS
from support.server import KEY, PATIENCE, ServerProcess, bearer, running

HOOKS = 400
SHOWN = "whsec_" + "c2VjcmV0" * 5


@pytest.mark.parametrize(
    "kills", [pytest.param(1, id="short"), pytest.param(25, id="long", marks=pytest.mark.soak)]
)
def test_no_key_and_no_sealed_secret_is_lost(tmp_path: Path, kills: int) -> None:
    with running(tmp_path / "data", webhooks__allow_hosts="127.0.0.1") as server:
        credential = fill(server)
        for _ in range(kills):
            asking = threading.Thread(target=rotate, args=[server])
            asking.start()
            time.sleep(random.uniform(0.0, 0.3))  # anywhere in it
            server.kill()
            asking.join()
            server.start()
            finish(server)
            for key in (credential, KEY):
                answer = httpx.get(f"{server.url}/v1/agents", headers=bearer(key))
                assert answer.status_code == 200
            check_sealed(server.data)
            time.sleep(SETTLE_SECONDS)
            retire = f"{server.url}/v1/secret/retire"
            answer = httpx.post(retire, json={}, headers=bearer(), timeout=PATIENCE)
            assert answer.json() == {"revoked_keys": {"count": 0, "first": []}}


def fill(server: ServerProcess) -> str:
    """Make a key, and HOOKS webhooks with one secret; the key."""
    with httpx.Client(base_url=server.url, headers=bearer()) as client:
        made = client.post("/v1/keys", json={"name": "k", "scopes": ["*"]}).json()
        body = {"url": "http://127.0.0.1:9/", "secret": SHOWN}
        client.post("/v1/webhooks", json=body).raise_for_status()
    with contextlib.closing(sqlite3.connect(server.data / "records.db")) as records, records:
        names = [row[1] for row in records.execute("PRAGMA table_info(webhooks)")]
        rest = ", ".join(f'"{name}"' for name in names if name != "id")
        for number in range(HOOKS - 1):
            values = (
                f"SELECT 'wh_{number}', {rest} FROM webhooks WHERE id NOT LIKE 'wh\\__' LIMIT 1"
            )
            records.execute(f'INSERT INTO webhooks ("id", {rest}) {values}')
    return str(made["key"])


def rotate(server: ServerProcess) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{server.url}/v1/secret/rotate", json={}, headers=bearer(), timeout=PATIENCE)


def finish(server: ServerProcess) -> None:
    """Rotate again, unless the rotation that was killed had been committed."""
    known = httpx.get(f"{server.url}/v1/secret", headers=bearer()).json()
    if not known["former"]:
        answer = httpx.post(
            f"{server.url}/v1/secret/rotate", json={}, headers=bearer(), timeout=PATIENCE
        )
        assert answer.status_code == 200
        assert known["coming"] in {None, answer.json()["id"]}


def check_sealed(data: Path) -> None:
    """All are sealed under the newest secret alone."""
    newest = EndpointRecords(CredentialHasher(load_secrets(data / "secret")[0]).derives)
    with contextlib.closing(sqlite3.connect(data / "records.db")) as records:
        kept = [loads(row[0]) for row in records.execute("SELECT endpoint FROM webhooks")]
    assert len(kept) == HOOKS
    assert all(newest.open(each).secrets == (b"secret" * 5,) for each in kept)
