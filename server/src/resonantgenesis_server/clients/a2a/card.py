"""The card of an agent, by which clients of A2A learn its address and what it can do."""

from __future__ import annotations

from ...records.base import AgentRecord
from ..json_rpc import Json

#: The versions that are spoken. A request without one means the last.
VERSIONS = ("1.0", "0.3")
#: The bindings with their versions, the preferred one first. All are at one address.
_INTERFACES = (
    ("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"), ("HTTP+JSON", "0.3"),
)  # fmt: skip
_TEXT = ["text/plain"]


def agent_card(url: str, agent_id: str, agent: AgentRecord | None) -> Json:
    """One card for both versions, which look for other fields. Without `agent` it says nothing but
    what everybody may know, whether there is such an agent or not."""
    name = agent_id if agent is None else agent.name
    about = (agent and agent.description) or f"The agent {name}."
    bearer = {"type": "http", "scheme": "bearer"}
    return {
        "name": name,
        "description": about,
        "version": "1",
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "extendedAgentCard": True,
        },
        "defaultInputModes": _TEXT,
        "defaultOutputModes": _TEXT,
        "skills": [{"id": agent_id, "name": name, "description": about, "tags": ["agent"]}],
        "supportedInterfaces": [
            {"url": url, "protocolBinding": binding, "protocolVersion": version}
            for binding, version in _INTERFACES
        ],
        "securitySchemes": {"bearer": {**bearer, "httpAuthSecurityScheme": {"scheme": "Bearer"}}},
        "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        # Of 0.3 alone:
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [
            {"url": url, "transport": binding}
            for binding, version in _INTERFACES
            if version == VERSIONS[-1]
        ],
        "supportsAuthenticatedExtendedCard": True,
        "security": [{"bearer": []}],
    }
