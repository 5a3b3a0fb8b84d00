"""`GET /metrics`: who may read it, and that it shows and documents what it should."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from resonantgenesis_server import metrics
from resonantgenesis_server.app import Parts, open_parts
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.metrics import METERS, PREFIX

pytestmark = pytest.mark.anyio

KEY = "rg_test_bootstrap_key_0123"
TOKEN = "metrics-token-0123456789"
PAGE = (Path(__file__).parents[4] / "docs/monitoring.md").read_text()
Ask = Callable[..., Any]


@asynccontextmanager
async def opened(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Parts, Ask]]:
    """The server without sockets, and a way to ask for its metrics as from an address."""
    data = tmp_path / "data"
    data.mkdir()
    async with open_parts(Settings(data=data, bootstrap_key=KEY, **settings)) as parts:

        async def ask(
            address: str = "127.0.0.1", host: str = "127.0.0.1:8080", **headers: str
        ) -> httpx.Response:
            transport = httpx.ASGITransport(parts.app, client=(address, 1))
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.get("/metrics", headers=sent)

        yield parts, ask


async def test_programs_on_this_machine_need_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ask):
        for address, host in (
            ("127.0.0.1", "127.0.0.1:8080"),
            ("127.0.0.1", "localhost"),
            ("::1", "[::1]:8080"),
            ("::ffff:127.0.0.1", "localhost:8080"),
        ):
            answer = await ask(address, host)
            assert answer.status_code == 200, (address, host)
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    "asked",
    [
        {"address": "192.0.2.7"},
        {"address": "192.0.2.7", "host": "localhost"},
        {"host": "agents.example"},
        {"host": "rebound.example:8080"},
        {"X_Forwarded_For": "192.0.2.7"},
        {"Forwarded": "for=192.0.2.7"},
        {"Origin": "https://evil.example"},
        {"Authorization": f"Bearer {KEY}", "address": "192.0.2.7"},
    ],
)
async def test_others_are_refused(tmp_path: Path, asked: dict[str, str]) -> None:
    async with opened(tmp_path) as (_, ask):
        answer = await ask(**asked)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "UNAUTHENTICATED"
        assert "metrics_token" in answer.json()["error"]["message"]
        assert PREFIX not in answer.text


async def test_with_a_token_everybody_needs_it(tmp_path: Path) -> None:
    async with opened(tmp_path, metrics_token=TOKEN) as (_, ask):
        for address in ("127.0.0.1", "192.0.2.7"):
            assert (await ask(address)).status_code == 401
            assert (await ask(address, Authorization=f"Bearer {TOKEN}x")).status_code == 401
            assert (await ask(address, Authorization=f"Basic {TOKEN}")).status_code == 401
            assert (await ask(address, Authorization=f"Bearer {KEY}")).status_code == 401
            answer = await ask(address, host="agents.example", Authorization=f"Bearer {TOKEN}")
            assert answer.status_code == 200


async def test_every_metric_is_there_and_in_the_documentation(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ask):
        shown = list(text_string_to_metric_families((await ask()).text))
    ours = {family.name: family for family in shown if family.name.startswith(PREFIX)}
    described = {f"{PREFIX}{metric.name}".removesuffix("_total"): metric for metric in METERS.table}
    assert ours.keys() == described.keys()
    for name, metric in described.items():
        assert (ours[name].type, ours[name].documentation) == (metric.kind, metric.help)
    label = {metric: f"`{metric.label}`" if metric.label else "" for metric in METERS.table}
    rows = [f"| `{PREFIX}{m.name}` | {m.kind} | {label[m]} | {m.help} |" for m in METERS.table]
    assert [line for line in PAGE.splitlines() if line.startswith(f"| `{PREFIX}")] == rows
    others = {family.name.split("_")[0] for family in shown} - {PREFIX.removesuffix("_")}
    assert others == {"process", "python"}
    assert "process_*" in PAGE
    assert "python_gc_*" in PAGE


async def test_labels_are_those_of_the_table_and_no_ids(tmp_path: Path) -> None:
    async with opened(tmp_path) as (parts, ask):
        transport = httpx.ASGITransport(parts.app)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", headers=headers
        ) as client:
            body = {"agent_id": "guide", "goal": "count to 3"}
            done = (await client.post("/v1/sessions/execute", json=body)).json()
            assert done["status"] == "success"
            assert (await client.get("/v1/sessions/sess_none")).status_code == 404
        text = (await ask()).text
    assert done["session_id"] not in text
    assert "sess_none" not in text
    assert "guide" not in text
    by_name = {f"{PREFIX}{metric.name}": metric for metric in METERS.table}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            metric = by_name.get(sample.name)
            if metric is not None:
                assert set(sample.labels) == ({metric.label} if metric.label else set())
    assert 'request_errors_total{code="SESSION_NOT_FOUND"}' in text
    assert metrics.METERS.turns.counts["success"] >= 1
