"""Every endpoint and every message of a socket, what it needs, and a right request for it.

What is new on the server must come in here too: the tests of credentials fail until it does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Ids that never were, of the right form.
MISSING = {
    "agent_id": "agent_00000000000000000000",
    "team_id": "team_00000000000000000000",
    "session_id": "sess_00000000000000000000",
    "event_id": "evt_00000000000000000000",
    "file_id": "file_00000000000000000000",
    "key_id": "key_00000000000000000000",
    "webhook_id": "wh_00000000000000000000",
    "organization_id": "org_00000000000000000000",
    "turn": "1",
    "chat_id": "none",
}
#: In place of a scope: open to all, for the server's bootstrap key alone, for the code of a link or
#: the token that it was exchanged for.
PUBLIC, ADMINISTRATOR, LINK = None, "bootstrap", "link"
_GOAL = {"agent_id": "guide", "goal": "count to 1"}


@dataclass(frozen=True)
class Endpoint:
    """`needs` is a scope; `unbound`: refused to a token that is bound, whatever its scopes;
    `no_token`: refused to every token."""

    needs: str | None
    body: dict[str, Any] | None = None
    content: bytes | None = None
    query: dict[str, str] = field(default_factory=dict)
    unbound: bool = False
    no_token: bool = False


def _key_body(scope: str) -> dict[str, Any]:
    return {"name": "k", "scopes": [scope]}


_SESSION = "/v1/sessions/{session_id}"
_WEBHOOK = "/v1/webhooks/{webhook_id}"
_COPILOTKIT = "/copilotkit/agent/{agent_id}"
_RUN = {"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": "count to 1"}]}
_OPENAI = "/openai/v1"
_RESPONSE = _OPENAI + "/responses/resp_{session_id}.1"
_CONVERSATION = _OPENAI + "/conversations/conv_{session_id}"
_SEND: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "SendMessage",
    "params": {"message": {"messageId": "m", "role": "user", "parts": [{"text": "count to 1"}]}},
}
_A2A = "/a2a/{agent_id}"
_A2A_TASK = _A2A + "/tasks/{session_id}.1"
_OLD_A2A = _A2A + "/v1"
_OLD_TASK = _OLD_A2A + "/tasks/{session_id}.1"
_TOOL_CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "ask_guide", "arguments": {"goal": "count to 1"}},
}
_LANGGRAPH = "/langgraph"
_THREAD = _LANGGRAPH + "/threads/{session_id}"
_THREAD_RUN = _THREAD + "/runs/00000001-0000-8000-8000-000000000000"
_RUN_BODY = {
    "assistant_id": "guide",
    "input": {"messages": [{"role": "user", "content": "count to 1"}]},
}
_COMMAND = {"id": 1, "method": "run.start", "params": _RUN_BODY}
_CHAT = "/v1/agents/{agent_id}/chat"
_CHAT_BODY = {"messages": [{"role": "user", "parts": [{"type": "text", "text": "count to 1"}]}]}
_TEAM = {"name": "n", "strategy": "sequential", "members": [{"agent_id": "guide"}]}
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "/healthz"): Endpoint(PUBLIC),
    ("GET", "/livez"): Endpoint(PUBLIC),
    ("GET", "/readyz"): Endpoint(PUBLIC),
    ("GET", "/metrics"): Endpoint(PUBLIC),
    ("GET", "/openapi.json"): Endpoint(PUBLIC),
    ("GET", "/asyncapi.json"): Endpoint(PUBLIC),
    ("GET", "/"): Endpoint(PUBLIC),
    ("GET", "/docs"): Endpoint(PUBLIC),
    ("GET", "/console"): Endpoint(PUBLIC),
    ("GET", "/llms.txt"): Endpoint(PUBLIC),
    ("POST", "/v1/agents"): Endpoint(
        "agents:write", {"name": "n", "engine": "guide"}, unbound=True
    ),
    ("GET", "/v1/agents"): Endpoint("agents:read"),
    ("GET", "/v1/agents/{agent_id}"): Endpoint("agents:read"),
    ("PATCH", "/v1/agents/{agent_id}"): Endpoint("agents:write", {"name": "n"}, unbound=True),
    ("DELETE", "/v1/agents/{agent_id}"): Endpoint("agents:write", unbound=True),
    ("POST", "/v1/teams"): Endpoint("teams:write", _TEAM, unbound=True),
    ("GET", "/v1/teams"): Endpoint("teams:read"),
    ("GET", "/v1/teams/{team_id}"): Endpoint("teams:read"),
    ("PATCH", "/v1/teams/{team_id}"): Endpoint("teams:write", {"name": "n"}, unbound=True),
    ("DELETE", "/v1/teams/{team_id}"): Endpoint("teams:write", unbound=True),
    ("POST", _CHAT): Endpoint("sessions:write", _CHAT_BODY),
    ("GET", _CHAT + "/{chat_id}/stream"): Endpoint("sessions:read"),
    ("GET", _CHAT + "/{chat_id}/messages"): Endpoint("sessions:read"),
    ("GET", "/v1/workers"): Endpoint("agents:read", unbound=True),
    ("GET", "/v1/metrics"): Endpoint("metrics:read", unbound=True),
    ("GET", "/v1/tools"): Endpoint("agents:read"),
    ("POST", "/v1/keys"): Endpoint("keys:write", _key_body("keys:write"), unbound=True),
    ("GET", "/v1/keys"): Endpoint("keys:read", unbound=True),
    ("GET", "/v1/keys/{key_id}"): Endpoint("keys:read", unbound=True),
    ("DELETE", "/v1/keys/{key_id}"): Endpoint("keys:write", unbound=True),
    ("POST", "/v1/tokens"): Endpoint("tokens:write", {"scopes": ["tokens:write"]}),
    ("POST", "/v1/tokens/links"): Endpoint("tokens:write", {}, unbound=True, no_token=True),
    ("POST", "/v1/tokens/sign-in"): Endpoint(LINK, {}),
    ("POST", "/v1/tokens/renew"): Endpoint(LINK, {}),
    ("POST", "/v1/tokens/rotate"): Endpoint(ADMINISTRATOR, {}),
    ("GET", "/v1/secret"): Endpoint(ADMINISTRATOR),
    ("POST", "/v1/secret/rotate"): Endpoint(ADMINISTRATOR, {}),
    ("POST", "/v1/secret/retire"): Endpoint(ADMINISTRATOR, {}),
    ("GET", "/v1/nodes"): Endpoint(ADMINISTRATOR),
    ("POST", "/v1/organizations"): Endpoint(ADMINISTRATOR, {"name": "n"}),
    ("GET", "/v1/organizations"): Endpoint(ADMINISTRATOR),
    ("GET", "/v1/organizations/{organization_id}"): Endpoint(ADMINISTRATOR),
    ("PATCH", "/v1/organizations/{organization_id}"): Endpoint(ADMINISTRATOR, {"name": "n"}),
    ("DELETE", "/v1/organizations/{organization_id}"): Endpoint(ADMINISTRATOR),
    ("DELETE", "/v1/subjects"): Endpoint(
        "subjects:write", query={"subject": "nobody"}, unbound=True
    ),
    ("POST", "/v1/organizations/{organization_id}/keys"): Endpoint(ADMINISTRATOR, _key_body("*")),
    ("POST", "/v1/sessions"): Endpoint("sessions:write", {"agent_id": "guide"}),
    ("GET", "/v1/sessions"): Endpoint("sessions:read"),
    ("POST", "/v1/sessions/execute"): Endpoint("sessions:write", _GOAL),
    ("POST", "/v1/sessions/cancel"): Endpoint("sessions:write", {"idempotency_key": "none"}),
    ("GET", _SESSION): Endpoint("sessions:read"),
    ("DELETE", _SESSION): Endpoint("sessions:write"),
    ("POST", _SESSION + "/execute"): Endpoint("sessions:write", {"goal": "count to 1"}),
    ("POST", _SESSION + "/cancel"): Endpoint("sessions:write", {}),
    ("POST", _SESSION + "/input"): Endpoint(
        "sessions:write", {"call_id": "call_1", "approved": True}
    ),
    ("GET", _SESSION + "/stream"): Endpoint("sessions:read", query={"resume_from": "0"}),
    ("GET", _SESSION + "/events"): Endpoint("sessions:read"),
    ("GET", _SESSION + "/steps"): Endpoint("sessions:read"),
    ("GET", _SESSION + "/messages"): Endpoint("sessions:read"),
    ("POST", _SESSION + "/messages"): Endpoint("sessions:write", {"content": "and?"}),
    ("POST", _SESSION + "/fork"): Endpoint("sessions:write", {}),
    ("GET", _SESSION + "/queue"): Endpoint("sessions:read"),
    ("PATCH", _SESSION + "/queue/{turn}"): Endpoint("sessions:write", {"goal": "count to 1"}),
    ("DELETE", _SESSION + "/queue/{turn}"): Endpoint("sessions:write"),
    ("GET", _SESSION + "/export"): Endpoint("sessions:read"),
    ("GET", _SESSION + "/durable"): Endpoint("sessions:read"),
    ("POST", "/v1/events"): Endpoint("events:write", {"type": "app.x", "data": {}}),
    ("GET", "/v1/events"): Endpoint("events:read"),
    ("GET", "/v1/events/subscribe"): Endpoint("events:read"),
    ("POST", "/v1/events/replay"): Endpoint("events:read", {"since": "2026-01-01T00:00:00Z"}),
    ("GET", "/v1/events/export"): Endpoint("events:read"),
    ("GET", "/v1/events/{event_id}"): Endpoint("events:read"),
    ("POST", "/v1/files"): Endpoint("files:write", content=b"content", query={"name": "a.txt"}),
    ("GET", "/v1/files"): Endpoint("files:read"),
    ("GET", "/v1/files/{file_id}"): Endpoint("files:read"),
    ("DELETE", "/v1/files/{file_id}"): Endpoint("files:write"),
    ("GET", "/v1/files/{file_id}/content"): Endpoint("files:read"),
    ("HEAD", "/v1/files/{file_id}/content"): Endpoint("files:read"),
    ("GET", "/v1/usage"): Endpoint("usage:read"),
    ("POST", "/v1/webhooks"): Endpoint(
        "webhooks:write", {"url": "https://hooks.example/", "enabled": False}, unbound=True
    ),
    ("GET", "/v1/webhooks"): Endpoint("webhooks:read", unbound=True),
    ("GET", _WEBHOOK): Endpoint("webhooks:read", unbound=True),
    ("PATCH", _WEBHOOK): Endpoint("webhooks:write", {"description": "d"}, unbound=True),
    ("DELETE", _WEBHOOK): Endpoint("webhooks:write", unbound=True),
    ("POST", _WEBHOOK + "/rotate"): Endpoint("webhooks:write", {}, unbound=True),
    ("POST", _WEBHOOK + "/test"): Endpoint("webhooks:write", unbound=True),
    ("GET", _WEBHOOK + "/deliveries"): Endpoint("webhooks:read", unbound=True),
    ("POST", _WEBHOOK + "/resend"): Endpoint(
        "webhooks:write", {"event_id": "evt_00000000000000000000"}, unbound=True
    ),
}


#: Endpoints of other people's protocols, which our description leaves to theirs.
OF_CLIENTS: dict[tuple[str, str], Endpoint] = {
    ("GET", _OPENAI + "/models"): Endpoint("agents:read"),
    ("GET", _OPENAI + "/models/{agent_id}"): Endpoint("agents:read"),
    ("POST", _OPENAI + "/responses"): Endpoint(
        "sessions:write", {"model": "guide", "input": "count to 1"}
    ),
    ("GET", _RESPONSE): Endpoint("sessions:read"),
    ("DELETE", _RESPONSE): Endpoint("sessions:write"),
    ("POST", _RESPONSE + "/cancel"): Endpoint("sessions:write", {}),
    ("GET", _RESPONSE + "/input_items"): Endpoint("sessions:read"),
    ("POST", _OPENAI + "/conversations"): Endpoint("sessions:write", {}),
    ("GET", _CONVERSATION): Endpoint("sessions:read"),
    ("DELETE", _CONVERSATION): Endpoint("sessions:write"),
    ("GET", _CONVERSATION + "/items"): Endpoint("sessions:read"),
    ("POST", "/v1/agents/{agent_id}/ag-ui"): Endpoint("sessions:write", _RUN),
    ("GET", "/copilotkit/info"): Endpoint("agents:read"),
    ("POST", _COPILOTKIT + "/run"): Endpoint("sessions:write", _RUN),
    ("POST", _COPILOTKIT + "/connect"): Endpoint("sessions:read", _RUN),
    ("POST", _COPILOTKIT + "/stop/none"): Endpoint("sessions:write", {}),
    ("GET", _LANGGRAPH + "/ok"): Endpoint(PUBLIC),
    ("GET", _LANGGRAPH + "/info"): Endpoint(PUBLIC),
    ("POST", _LANGGRAPH + "/assistants/search"): Endpoint("agents:read", {}),
    ("GET", _LANGGRAPH + "/assistants/{agent_id}"): Endpoint("agents:read"),
    ("GET", _LANGGRAPH + "/assistants/{agent_id}/graph"): Endpoint("agents:read"),
    ("GET", _LANGGRAPH + "/assistants/{agent_id}/schemas"): Endpoint("agents:read"),
    ("POST", _LANGGRAPH + "/threads"): Endpoint("sessions:write", {}),
    ("POST", _LANGGRAPH + "/threads/search"): Endpoint("sessions:read", {}),
    ("POST", _LANGGRAPH + "/runs"): Endpoint("sessions:write", _RUN_BODY),
    ("POST", _LANGGRAPH + "/runs/stream"): Endpoint("sessions:write", _RUN_BODY),
    ("POST", _LANGGRAPH + "/runs/wait"): Endpoint("sessions:write", _RUN_BODY),
    ("GET", _THREAD): Endpoint("sessions:read"),
    ("PATCH", _THREAD): Endpoint("sessions:write", {"metadata": {}}),
    ("DELETE", _THREAD): Endpoint("sessions:write"),
    ("POST", _THREAD + "/copy"): Endpoint("sessions:write", {}),
    ("GET", _THREAD + "/state"): Endpoint("sessions:read"),
    ("GET", _THREAD + "/state/none"): Endpoint("sessions:read"),
    ("GET", _THREAD + "/history"): Endpoint("sessions:read"),
    ("POST", _THREAD + "/history"): Endpoint("sessions:read", {}),
    ("GET", _THREAD + "/runs"): Endpoint("sessions:read"),
    ("POST", _THREAD + "/runs"): Endpoint("sessions:write", _RUN_BODY),
    ("POST", _THREAD + "/runs/stream"): Endpoint("sessions:write", _RUN_BODY),
    ("POST", _THREAD + "/runs/wait"): Endpoint("sessions:write", _RUN_BODY),
    ("GET", _THREAD_RUN): Endpoint("sessions:read"),
    ("GET", _THREAD_RUN + "/stream"): Endpoint("sessions:read"),
    ("GET", _THREAD_RUN + "/join"): Endpoint("sessions:read"),
    ("POST", _THREAD_RUN + "/cancel"): Endpoint("sessions:write", {}),
    ("POST", _THREAD + "/commands"): Endpoint("sessions:write", _COMMAND),
    ("POST", _THREAD + "/stream/events"): Endpoint("sessions:read", {"channels": ["values"]}),
    ("POST", _OPENAI + "/chat/completions"): Endpoint(
        "sessions:write",
        {"model": "guide", "messages": [{"role": "user", "content": "count to 1"}]},
    ),
    ("POST", "/mcp"): Endpoint("sessions:write", _TOOL_CALL),
    ("GET", "/mcp"): Endpoint("sessions:write"),
    ("DELETE", "/mcp"): Endpoint("sessions:write"),
    ("POST", "/a2a/{agent_id}"): Endpoint("sessions:write", _SEND),
    ("GET", "/a2a/{agent_id}/.well-known/agent-card.json"): Endpoint(PUBLIC),
    ("POST", _A2A + "/message:send"): Endpoint("sessions:write", _SEND["params"]),
    ("POST", _A2A + "/message:stream"): Endpoint("sessions:write", _SEND["params"]),
    ("GET", _A2A + "/tasks"): Endpoint("sessions:read"),
    ("GET", _A2A_TASK): Endpoint("sessions:read"),
    ("POST", _A2A_TASK + ":cancel"): Endpoint("sessions:write", {}),
    ("GET", _A2A_TASK + ":subscribe"): Endpoint("sessions:read"),
    ("POST", _A2A_TASK + ":subscribe"): Endpoint("sessions:read"),
    ("POST", _A2A_TASK + "/pushNotificationConfigs"): Endpoint(
        "webhooks:write", {"url": "https://hooks.example/"}
    ),
    ("GET", _A2A_TASK + "/pushNotificationConfigs"): Endpoint("webhooks:read"),
    ("GET", _A2A_TASK + "/pushNotificationConfigs/mine"): Endpoint("webhooks:read"),
    ("DELETE", _A2A_TASK + "/pushNotificationConfigs/mine"): Endpoint("webhooks:write"),
    ("GET", _A2A + "/extendedAgentCard"): Endpoint("agents:read"),
    ("POST", _OLD_A2A + "/message:send"): Endpoint("sessions:write", _SEND["params"]),
    ("POST", _OLD_A2A + "/message:stream"): Endpoint("sessions:write", _SEND["params"]),
    ("GET", _OLD_TASK): Endpoint("sessions:read"),
    ("POST", _OLD_TASK + ":cancel"): Endpoint("sessions:write", {}),
    ("GET", _OLD_TASK + ":subscribe"): Endpoint("sessions:read"),
    ("POST", _OLD_TASK + ":subscribe"): Endpoint("sessions:read"),
    ("POST", _OLD_TASK + "/pushNotificationConfigs"): Endpoint(
        "webhooks:write", {"config": {"pushNotificationConfig": {"url": "https://hooks.example/"}}}
    ),
    ("GET", _OLD_TASK + "/pushNotificationConfigs"): Endpoint("webhooks:read"),
    ("GET", _OLD_TASK + "/pushNotificationConfigs/mine"): Endpoint("webhooks:read"),
    ("DELETE", _OLD_TASK + "/pushNotificationConfigs/mine"): Endpoint("webhooks:write"),
    ("GET", _OLD_A2A + "/card"): Endpoint("agents:read"),
}
ALL = ENDPOINTS | OF_CLIENTS


@dataclass(frozen=True)
class Message:
    """What a client sends on a socket; `session_id` and `agent_id` are filled in."""

    needs: str | None
    body: dict[str, Any]


#: By type; several of one type where what they need differs.
MESSAGES: dict[str, list[Message]] = {
    "auth": [],  # carries the credential itself
    "ping": [Message(None, {})],
    "unsubscribe": [Message(None, {"channels": ["app"]})],
    "subscribe": [
        Message("events:read", {"channels": ["app"]}),
        Message("sessions:read", {"channels": ["session:{session_id}"]}),
    ],
    "execute": [
        Message("sessions:write", _GOAL),
        Message("sessions:write", {**_GOAL, "session_id": "{session_id}"}),
        Message("sessions:write", {**_GOAL, "agent_id": "{agent_id}"}),
        Message("sessions:read", {**_GOAL, "session_id": "{session_id}", "resume_from": 0}),
    ],
    "cancel": [Message("sessions:write", {"session_id": "{session_id}"})],
    "message": [Message("sessions:write", {"session_id": "{session_id}", "content": "and?"})],
    "input": [
        Message(
            "sessions:write",
            {"session_id": "{session_id}", "call_id": "call_1", "approved": True},
        )
    ],
}


def path_of(template: str, ids: dict[str, str]) -> str:
    """The path with these ids; a KeyError for one that nobody has thought of."""
    return template.format(**{**MISSING, **ids})


def with_ids(body: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """The message with these ids."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.format(**ids)
        return [fill(one) for one in value] if isinstance(value, list) else value

    return {name: fill(value) for name, value in body.items()}
