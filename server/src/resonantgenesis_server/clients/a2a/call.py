"""One request of A2A, over JSON-RPC or over HTTP+JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from ...model.principal import Principal
from ..json_rpc import RpcId, rpc_result
from ..names import SessionAlias
from ..streams import answer_json

#: The media type of 1.0.
A2A_JSON = "application/a2a+json"
PROTOCOL = "a2a"


@dataclass(frozen=True, slots=True)
class A2aCall:
    """One request, with the parts of its connection. `rpc_id` None: over HTTP+JSON. `is_old`: the
    client speaks 0.3."""

    scope: Scope
    receive: Receive
    send: Send
    agent_id: str
    params: Mapping[str, Any]
    rpc_id: RpcId | None = None
    is_old: bool = False

    @property
    def principal(self) -> Principal:
        found: Principal = self.scope["state"]["principal"]
        return found

    @property
    def request_id(self) -> str:
        return str(self.scope["state"]["request_id"])

    def alias(self, context_id: str) -> SessionAlias:
        """The session under the client's own name of it."""
        return SessionAlias(PROTOCOL, self.agent_id, context_id)

    async def answer(self, result: object) -> None:
        if self.rpc_id is None:
            value, media_type = result, A2A_JSON
        else:
            value, media_type = rpc_result(self.rpc_id, result), "application/json"
        await answer_json(self.scope, self.receive, self.send, value, media_type=media_type)
