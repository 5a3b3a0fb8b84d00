"""Write deploy/monitoring/dashboard.json, a dashboard for Grafana 11 and newer.

.venv/bin/python scripts/dashboard.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parents[1] / "deploy" / "monitoring" / "dashboard.json"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
#: Of what the person chose, over what Grafana thinks right.
_CHOSEN = '{instance=~"$instance"}'
_WINDOW = "[$__rate_interval]"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """`queries` are pairs of an expression and its legend; `unit` is one of Grafana's."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _rate(metric: str, by: str = "") -> str:
    grouping = f" by ({by})" if by else ""
    return (
        f'sum{grouping} (rate(resonantgenesis_{metric}{{instance=~"$instance"}}[$__rate_interval]))'
    )


def _gauge(metric: str, by: str) -> str:
    return f"sum by ({by}) (resonantgenesis_{metric}{_CHOSEN})"


def _quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    of = _rate(f"{metric}_bucket", "le")
    return tuple((f"histogram_quantile({q}, {of})", f"p{q * 100:g}") for q in (0.5, 0.99))


_PROCESSOR = f"sum by (instance) (rate(process_cpu_seconds_total{_CHOSEN}{_WINDOW}))"
_MEMORY = f"sum by (instance) (process_resident_memory_bytes{_CHOSEN})"
PANELS = (
    Panel("Open streams", "short", ((_gauge("streams_open", "transport"), "{{transport}}"),)),
    Panel("Viewers", "short", ((_gauge("viewers", "state"), "{{state}}"),)),
    Panel("Open turns", "short", ((_gauge("turns_open", "state"), "{{state}}"),)),
    Panel("Entries appended", "ops", ((_rate("entries_appended_total", "stream"), "{{stream}}"),)),
    Panel("Chunks delivered", "ops", ((_rate("chunks_delivered_total", "way"), "{{way}}"),)),
    Panel("Turns ended", "ops", ((_rate("turns_total", "status"), "{{status}}"),)),
    Panel("From append to socket", "s", _quantiles("append_to_socket_seconds")),
    Panel("Commits", "s", _quantiles("commit_seconds")),
    Panel("Lag of the event loop", "s", _quantiles("event_loop_lag_seconds")),
    Panel("Errors of requests", "ops", ((_rate("request_errors_total", "code"), "{{code}}"),)),
    Panel("Errors of turns", "ops", ((_rate("turn_errors_total", "code"), "{{code}}"),)),
    Panel("Limits hit", "ops", ((_rate("limits_hit_total", "limit"), "{{limit}}"),)),
    Panel("Asks", "ops", ((_rate("turn_asks_total", "kind"), "{{kind}}"),)),
    Panel(
        "Webhook deliveries", "ops", ((_rate("webhook_deliveries_total", "result"), "{{result}}"),)
    ),
    Panel("Nodes alive", "short", (("max(resonantgenesis_nodes_alive)", "nodes"),)),
    Panel("Processor", "percentunit", ((_PROCESSOR, "{{instance}}"),)),
    Panel("Memory", "bytes", ((_MEMORY, "{{instance}}"),)),
    Panel("Waiting for the disk", "bytes", ((_gauge("log_queue_bytes", "instance"), "bytes"),)),
)


def dashboard() -> dict[str, Any]:
    return {
        "title": "ResonantGenesis Streaming",
        "uid": "resonantgenesis",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "type": "query",
                    "datasource": _SOURCE,
                    "query": "label_values(resonantgenesis_build_info, instance)",
                    "includeAll": True,
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                    "refresh": 2,
                },
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {
            "x": number % _COLUMNS * _WIDTH,
            "y": number // _COLUMNS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def render() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
