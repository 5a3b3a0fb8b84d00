"""Dashboard and alerts ask for what /metrics has, in queries that Prometheus understands."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import httpx
import promql_parser
import pytest
import yaml
from support.server import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"

#: What Grafana puts in itself.
_INTERVAL = re.compile(r"\$__rate_interval")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")
#: Metrics of Prometheus itself.
_OWN = {"up"}


def alerts() -> list[tuple[str, str]]:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    return [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]


def queries() -> list[tuple[str, str]]:
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    return [(panel["title"], one["expr"]) for panel in panels for one in panel["targets"]]


@pytest.fixture(scope="module")
def metrics(server: ServerProcess) -> set[str]:
    """The names of all series, as a scrape shows them."""
    text = httpx.get(f"{server.url}/metrics").text
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_the_dashboard_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "dashboard.py"))
    written = (MONITORING / "dashboard.json").read_text(encoding="utf-8")
    assert written == script["render"]()


@pytest.mark.parametrize(("name", "query"), [*alerts(), *queries()])
def test_a_query_asks_for_what_there_is(metrics: set[str], name: str, query: str) -> None:
    query = _INTERVAL.sub("5m", query)
    promql_parser.parse(query)
    named = set(re.findall(r"\b(?:resonantgenesis|process)_\w+|\bup\b", query))
    assert named, name
    for one in named - _OWN:
        # Some exist on PostgreSQL alone.
        assert _SUFFIX.sub("", one) in metrics or one.startswith("resonantgenesis_node_"), one


def test_every_alert_is_explained() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    section = page.partition("## What deserves an alarm")[2]
    for name, _ in alerts():
        assert f"`{name}`" in section, name
