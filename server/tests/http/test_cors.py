"""What browsers of other origins are told."""

from __future__ import annotations

import pytest
from http_harness import Serve, Service

pytestmark = pytest.mark.anyio

PAGE = "https://app.example"


def preflight(origin: str = PAGE, asked: str = "authorization,content-type") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
        "Authorization": "",
    }


async def test_by_default_any_origin_reads_without_credentials(service: Service) -> None:
    for path in ("/v1/agents", "/v1/none", "/healthz"):
        answer = await service.client.get(path, headers={"Origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert exposed >= {
            "X-Session-Id",
            "X-Turn",
            "X-Log-Epoch",
            "X-Heartbeat-Seconds",
            "X-Request-Id",
            "Retry-After",
            "RateLimit",
            "RateLimit-Policy",
            "X-RateLimit-Remaining",
            "ETag",
            "Content-Range",
            "Content-Disposition",
            "Repr-Digest",
        }
    plain = await service.client.get("/v1/agents")
    assert "access-control-allow-origin" not in plain.headers


async def test_refusals_are_readable_too(service: Service) -> None:
    answer = await service.client.get(
        "/v1/agents", headers={"Origin": PAGE, "Authorization": "Bearer wrong"}
    )
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_preflight_needs_no_credential(service: Service) -> None:
    answer = await service.client.options("/v1/sessions/execute", headers=preflight())
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert allowed == {
        "Authorization",
        "Cache-Control",
        "Content-Type",
        "Content-Digest",
        "Idempotency-Key",
        "If-None-Match",
        "If-Range",
        "Last-Event-ID",
        "Prefer",
        "Range",
        "X-Log-Epoch",
        "X-Request-Id",
        "X-Requested-With",
        "traceparent",
        "tracestate",
        "baggage",
    }
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize("origins", [[], [PAGE]])
async def test_headers_that_libraries_add_are_granted(serve: Serve, origins: list[str]) -> None:
    """An AI SDK's, a monitor's: whatever a page asks for, but what proxies believe."""
    service = await serve(cors_origins=origins)
    asked = (
        "x-stainless-os, Sentry-Trace,x-datadog-trace-id, b3, anthropic-version, b3,"
        " X-Forwarded-For, forwarded, x-real-ip, X-Original-URL, x-rewrite-url,"
        " x-http-method-override, bad name, , x:y"
    )
    answer = await service.client.options("/v1/agents", headers=preflight(PAGE, asked))
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    expected = ["x-stainless-os", "sentry-trace", "x-datadog-trace-id", "b3", "anthropic-version"]
    assert allowed[-5:] == expected
    assert "Authorization" in allowed
    many = ",".join(f"x-{number}" for number in range(5_000))
    answer = await service.client.options("/v1/agents", headers=preflight(PAGE, many))
    assert answer.status_code == 204
    assert "x-1" not in answer.headers["access-control-allow-headers"].split(", ")
    if origins:
        other = preflight("https://other.example", asked)
        refused = await service.client.options("/v1/agents", headers=other)
        assert refused.status_code == 403
        assert "access-control-allow-headers" not in refused.headers


CLIENTS_SEND = {
    "openai": "authorization,content-type,user-agent,x-stainless-helper-method,x-stainless-lang,"
    "x-stainless-retry-count,openai-organization,openai-project",
    "a2a": "a2a-version,a2a-extensions",
    "mcp": "mcp-protocol-version,mcp-session-id,mcp-method,mcp-name,last-event-id",
    "langgraph": "x-api-key,last-event-id",
    "copilotkit": "x-copilotkit-runtime-client-gql-version",
}


@pytest.mark.parametrize("client", CLIENTS_SEND)
async def test_pages_with_other_peoples_clients_may_call(service: Service, client: str) -> None:
    asked = CLIENTS_SEND[client]
    answer = await service.client.options("/v1/agents", headers=preflight(PAGE, asked))
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert set(asked.split(",")) <= set(allowed)
    answer = await service.client.get("/v1/agents", headers={"Origin": PAGE})
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {
        "X-Vercel-AI-UI-Message-Stream",
        "X-Workflow-Run-Id",
        "X-Workflow-Stream-Tail-Index",
        "X-Should-Retry",
        "Location",
        "Content-Location",
        "Mcp-Session-Id",
        "Stream-Next-Offset",
    }


async def test_configured_origins_get_credentials_and_others_nothing(serve: Serve) -> None:
    service = await serve(cors_origins=[PAGE + "/"])
    mine = await service.client.get("/v1/agents", headers={"Origin": PAGE})
    assert mine.headers["access-control-allow-origin"] == PAGE
    assert mine.headers["access-control-allow-credentials"] == "true"
    assert mine.headers["vary"] == "Origin"
    for foreign in ("https://app.example.evil", "http://app.example", "null"):
        answer = await service.client.get("/v1/agents", headers={"Origin": foreign})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"
        refused = await service.client.options("/v1/agents", headers=preflight(foreign))
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "FORBIDDEN"
        assert "access-control-allow-origin" not in refused.headers
    granted = await service.client.options("/v1/agents", headers=preflight())
    assert granted.status_code == 204
    assert granted.headers["access-control-allow-origin"] == PAGE


async def test_options_without_a_preflight_is_a_method_like_others(service: Service) -> None:
    answer = await service.client.options("/v1/agents")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
