"""OpenTelemetry: what a receiver of OTLP gets of turns, and where traces come from and go on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from support.models import Call, FakeProvider, Reply
from support.receiver import Delivered, Receiver
from support.server import PATIENCE, Serve, ServerProcess, bearer, running
from websockets.asyncio.client import connect

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
SECRET = "whsec_" + "c2VjcmV0" * 5


class Collector(Receiver):
    """A receiver of OTLP, of agents' turns and of webhooks."""

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.of("/v1/traces")
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metrics(self) -> dict[str, Any]:
        return {
            metric.name: metric
            for request in self.of("/v1/metrics")
            for resource in ExportMetricsServiceRequest.FromString(request.body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def successes(self) -> int | None:
        """The turns that the server has counted as successes."""
        turns = self.metrics().get("resonantgenesis_turns")
        points = [] if turns is None else turns.sum.data_points
        counts = {p.attributes[0].value.string_value: p.as_int for p in points}
        return counts.get("success")

    async def span(self, name: str, trace: str = TRACE) -> Span:
        await self.until(lambda: self._of(name, trace))
        return self._of(name, trace)[0]

    def _of(self, name: str, trace: str) -> list[Span]:
        return [s for s in self.spans() if s.name == name and s.trace_id.hex() == trace]


def attributes(span: Span) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in span.attributes
    }


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    def answer(request: Delivered) -> tuple[int, dict[str, str]]:
        return 200, {"Content-Type": "text/plain"} if request.path == "/agent" else {}

    async with Collector(answer).running() as listening:
        for name, value in {
            "OTEL_EXPORTER_OTLP_ENDPOINT": listening.url(""),
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
        }.items():
            monkeypatch.setenv(name, value)
        yield listening


def opened(server: ServerProcess, traceparent: str | None = TRACEPARENT) -> httpx.AsyncClient:
    headers = bearer() | ({"traceparent": traceparent} if traceparent else {})
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE)


async def test_a_turn_is_a_trace_from_its_request_to_its_tools(
    collector: Collector, serve: Serve
) -> None:
    with FakeProvider() as provider:
        call = Call("calculator", {"expression": "6*7"})
        provider.answer("small", Reply(calls=[call]), Reply.saying("It is 42."))
        server = serve(otel="content", llm__base_urls=json.dumps({"local": provider.url}))
        async with opened(server) as client:
            body = {"id": "sums", "name": "Sums", "engine": "llm", "model": "local:small"}
            assert (await client.post("/v1/agents", json=body)).status_code == 201
            execute = {"agent_id": "sums", "goal": "6 times 7?"}
            turn = (await client.post("/v1/sessions/execute", json=execute)).json()
            invoked = await collector.span("invoke_agent sums")
            asked, tool = (
                await collector.span("chat small"),
                await collector.span("execute_tool calculator"),
            )
            request = await collector.span("POST /v1/sessions/execute")
            append = await collector.span("append")
    assert request.parent_span_id.hex() == "00f067aa0ba902b7"
    assert invoked.parent_span_id == request.span_id
    assert {s.parent_span_id for s in (asked, tool, append)} == {invoked.span_id}
    told = attributes(invoked)
    assert told["gen_ai.operation.name"] == "invoke_agent"
    assert told["gen_ai.conversation.id"] == turn["session_id"]
    assert "6 times 7?" in told["gen_ai.input.messages"]
    assert "It is 42." in told["gen_ai.output.messages"]
    model = attributes(asked)
    assert (model["gen_ai.provider.name"], model["gen_ai.request.model"]) == ("local", "small")
    assert model["gen_ai.response.time_to_first_chunk"] > 0
    assert json.loads(attributes(tool)["gen_ai.tool.call.arguments"]) == {"expression": "6*7"}
    figures = {"gen_ai.client.token.usage", "gen_ai.invoke_agent.duration"}
    await collector.until(lambda: figures <= collector.metrics().keys())


async def test_without_content_no_word_of_a_turn_leaves(collector: Collector, serve: Serve) -> None:
    server = serve(
        otel="on", http_agents__allow_hosts="127.0.0.1", webhooks__allow_hosts="127.0.0.1"
    )
    async with opened(server) as client:
        remote = {"id": "far", "name": "Far", "engine": "http", "url": collector.url("/agent")}
        assert (await client.post("/v1/agents", json=remote)).status_code == 201
        execute = {
            "agent_id": "far",
            "goal": "a secret goal",
            "callback_url": collector.url("/hook"),
            "callback_secret": SECRET,
        }
        turn = (await client.post("/v1/sessions/execute", json=execute)).json()
        assert turn["output"] == "said"
        invoked = await collector.span("invoke_agent far")
        # The trace goes on in the agent's endpoint, and in the receiver of the webhook.
        (asked,) = collector.of("/agent")
        assert asked.headers["traceparent"] == f"00-{TRACE}-{invoked.span_id.hex()}-01"
        await collector.until(lambda: collector.of("/hook"))
        sent = await collector.span("send session.completed")
        assert collector.of("/hook")[0].headers["traceparent"].split("-")[2] == sent.span_id.hex()
        # A viewer of another trace has a link to the turn.
        path = f"/v1/sessions/{turn['session_id']}/stream?resume_from=0"
        await client.get(path, headers={"traceparent": OTHER})
        viewer = await collector.span(f"GET {path.partition('?')[0]}", "a" * 32)
        assert [link.trace_id.hex() for link in viewer.links] == [TRACE]
        # So have one that polls, one of another protocol, and a socket.
        others = {"traceparent": OTHER}
        session = f"/v1/sessions/{turn['session_id']}"
        await client.get(f"{session}/events?after=0", headers=others)
        ref = f"resp_{turn['session_id']}.{turn['turn']}"
        await client.get(f"/openai/v1/responses/{ref}?stream=true", headers=others)
        async with connect(
            f"ws://127.0.0.1:{server.port}/v1/ws", additional_headers=bearer()
        ) as ws:
            asked = {"type": "subscribe", "channels": [f"session:{turn['session_id']}"]}
            await ws.send(json.dumps(asked | {"resume_from": 0}))
            await collector.until(lambda: "subscribe" in {s.name for s in collector.spans()})
        seen = [span for span in collector.spans() if span.name == "subscribe"]
        for path in (f"{session}/events", f"/openai/v1/responses/{ref}"):
            seen.append(await collector.span(f"GET {path}", "a" * 32))
        assert [[link.trace_id.hex() for link in span.links] for span in seen] == [[TRACE]] * 3
    assert not any(b"a secret goal" in request.body for request in collector.of("/v1/traces"))
    logged = [line for line in server.records() if line.get("session") == turn["session_id"]]
    assert {line.get("trace_id") for line in logged} <= {TRACE}
    # The server's own metrics come under their own names, with the histograms' buckets.
    await collector.until(lambda: collector.successes() == 1)
    commits = collector.metrics()["resonantgenesis_commit_seconds"].histogram.data_points[0]
    assert sum(commits.bucket_counts) == commits.count > 0


async def test_a_socket_names_the_trace_of_each_turn_and_a_failure_its_code(
    collector: Collector, serve: Serve
) -> None:
    server = serve(otel="on", agents={"bad": "support.agents:refusing"})
    url = server.url.replace("http", "ws") + "/v1/ws"
    execute = {"type": "execute", "agent_id": "bad", "goal": "fail", "traceparent": TRACEPARENT}
    async with asyncio.timeout(PATIENCE), connect(url, additional_headers=bearer()) as socket:
        await socket.send(json.dumps(execute))
        invoked = await collector.span("invoke_agent bad")
    assert invoked.status.code == Status.STATUS_CODE_ERROR
    assert attributes(invoked)["error.type"] == "AGENT_FAILED"


async def test_a_collector_that_is_away_stops_nothing(collector: Collector, tmp_path: Path) -> None:
    await collector.kill()
    with running(tmp_path / "data", otel="on") as server:
        async with opened(server) as client:
            execute = {"agent_id": "guide", "goal": "count to 2"}
            turn = (await client.post("/v1/sessions/execute", json=execute)).json()
            assert turn["output"] == "1 2"
            # Headers are no way to write into the server's log.
            garbage = {
                "traceparent": "written-by-a-client" * 50,
                "tracestate": "written-by-a-client",
                "baggage": "written-by-a-client," * 300,
            }
            answer = await client.get("/v1/sessions", headers=garbage)
            await client.get("/v1/sessions", headers=garbage | {"traceparent": TRACEPARENT})
            assert answer.status_code == 200
    assert "written-by-a-client" not in server.log and "Baggage" not in server.log


def test_nothing_of_it_is_loaded_unless_it_is_on() -> None:
    program = "import sys, resonantgenesis_server.serve; print('opentelemetry.sdk' in sys.modules)"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
