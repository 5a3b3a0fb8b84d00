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

    @property
    def is_proto(self) -> bool:
        """Whether the client speaks 0.3 over HTTP+JSON, in the JSON of its Protocol Buffers."""
        return self.is_old and self.rpc_id is None

    def alias(self, context_id: str) -> SessionAlias:
        """The session under the client's own name of it."""
        return SessionAlias(PROTOCOL, self.agent_id, context_id)

    async def answer(self, result: object) -> None:
        if self.rpc_id is None:
            value, media_type = result, rest_type(is_old=self.is_old)
        else:
            value, media_type = rpc_result(self.rpc_id, result), "application/json"
        await answer_json(self.scope, self.receive, self.send, value, media_type=media_type)


def rest_type(*, is_old: bool) -> str:
    """The media type of an answer over HTTP+JSON."""
    return "application/json" if is_old else A2A_JSON
