"""`/a2a/{agent}`: an agent as a server of A2A 1.0 and 0.3, over JSON-RPC and HTTP+JSON.

A task is a turn, and a context is a session. Over JSON-RPC the name of the method says which
version is meant, over HTTP+JSON the path. Both bindings call the same functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from starlette.types import Receive, Scope, Send

from ...http.auth.authenticator import require
from ...http.body import read_json
from ...http.params import announces_body, text_header
from ...http.routing import FastRoute, fast_route
from ...model.errors import AgentNotFound, ApiError
from ...records.agents import AgentDirectory
from ...usage import UsageService
from ...webhooks.service import WebhookService
from ..json_rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    RpcError,
    RpcMessage,
    as_rpc_error,
    message_of,
)
from ..streams import ClientStreams, answer_json
from .call import A2A_JSON, A2aCall, rest_type
from .card import VERSIONS, agent_card
from .errors import NO_VERSION, rest_error, rpc_error_body
from .listing import TaskList
from .old_rest import old_params
from .push import PushConfigs
from .tasks import Tasks

PATH = "/a2a/{agent_id}"
_TASK, _CONFIGS = "/tasks/{id}", "/tasks/{taskId}/pushNotificationConfigs"
#: Of HTTP+JSON: method, path, and the method of JSON-RPC. The first that matches is taken.
_REST = (
    ("POST", "/message:send", "SendMessage"),
    ("POST", "/message:stream", "SendStreamingMessage"),
    ("GET", "/tasks", "ListTasks"),
    ("POST", f"{_TASK}:cancel", "CancelTask"),
    # The specification has GET, and the official clients use POST.
    ("GET", f"{_TASK}:subscribe", "SubscribeToTask"),
    ("POST", f"{_TASK}:subscribe", "SubscribeToTask"),
    ("GET", _TASK, "GetTask"),
    ("POST", _CONFIGS, "CreateTaskPushNotificationConfig"),
    ("GET", _CONFIGS, "ListTaskPushNotificationConfigs"),
    ("GET", f"{_CONFIGS}/{{id}}", "GetTaskPushNotificationConfig"),
    ("DELETE", f"{_CONFIGS}/{{id}}", "DeleteTaskPushNotificationConfig"),
    ("GET", "/extendedAgentCard", "GetExtendedAgentCard"),
)
_OLD_CONFIGS = "/v1/tasks/{id}/pushNotificationConfigs"
_OLD_CONFIG = f"{_OLD_CONFIGS}/{{pushNotificationConfigId}}"
#: Those of 0.3, whose names in paths are those of its parameters.
_OLD_REST = (
    ("POST", "/v1/message:send", "SendMessage"),
    ("POST", "/v1/message:stream", "SendStreamingMessage"),
    ("POST", f"/v1{_TASK}:cancel", "CancelTask"),
    ("GET", f"/v1{_TASK}:subscribe", "SubscribeToTask"),
    ("POST", f"/v1{_TASK}:subscribe", "SubscribeToTask"),
    ("GET", f"/v1{_TASK}", "GetTask"),
    ("POST", f"/v1{_CONFIGS}", "CreateTaskPushNotificationConfig"),
    ("GET", _OLD_CONFIGS, "ListTaskPushNotificationConfigs"),
    ("GET", _OLD_CONFIG, "GetTaskPushNotificationConfig"),
    ("DELETE", _OLD_CONFIG, "DeleteTaskPushNotificationConfig"),
    ("GET", "/v1/card", "GetExtendedAgentCard"),
)
#: The methods of 0.3, by those of 1.0.
_OLD_METHODS: Mapping[str, str] = {
    "message/send": "SendMessage",
    "message/stream": "SendStreamingMessage",
    "tasks/get": "GetTask",
    "tasks/cancel": "CancelTask",
    "tasks/resubscribe": "SubscribeToTask",
    "agent/getAuthenticatedExtendedCard": "GetExtendedAgentCard",
    "tasks/pushNotificationConfig/set": "CreateTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/get": "GetTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/list": "ListTaskPushNotificationConfigs",
    "tasks/pushNotificationConfig/delete": "DeleteTaskPushNotificationConfig",
}
#: These count their request where they start a turn.
_COUNTING = ("SendMessage", "SendStreamingMessage")


class A2aRoutes:
    """The routes of A2A."""

    def __init__(
        self,
        streams: ClientStreams,
        agents: AgentDirectory,
        webhooks: WebhookService,
        usage: UsageService,
        public_url: str,
    ) -> None:
        """`public_url`: where clients reach this server; "": where they ask for the card."""
        self._streams = streams
        self._agents = agents
        self._public_url = public_url.rstrip("/")
        pushes = PushConfigs(streams.service, webhooks)
        tasks, listed = Tasks(streams, pushes), TaskList(streams, usage)
        #: The scope that each method needs, and what does it.
        self._methods: Mapping[str, tuple[str, Callable[[A2aCall], Awaitable[None]]]] = {
            "SendMessage": ("sessions:write", tasks.send),
            "SendStreamingMessage": ("sessions:write", tasks.stream),
            "GetTask": ("sessions:read", tasks.get),
            "ListTasks": ("sessions:read", listed.list),
            "CancelTask": ("sessions:write", tasks.cancel),
            "SubscribeToTask": ("sessions:read", tasks.subscribe),
            "CreateTaskPushNotificationConfig": ("webhooks:write", pushes.create),
            "GetTaskPushNotificationConfig": ("webhooks:read", pushes.get),
            "ListTaskPushNotificationConfigs": ("webhooks:read", pushes.list),
            "DeleteTaskPushNotificationConfig": ("webhooks:write", pushes.delete),
            "GetExtendedAgentCard": ("agents:read", self._extended),
        }

    def routes(self) -> list[FastRoute]:
        card = PATH + "/.well-known/agent-card.json"
        return [
            fast_route("POST", PATH, self.post, counted=False),
            fast_route("GET", card, self.card, public=True),
            *(
                fast_route(method, PATH + path, partial(self.rest, name, version), counted=False)
                for version, table in zip(VERSIONS, (_REST, _OLD_REST), strict=True)
                for method, path, name in table
            ),
        ]

    async def card(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open to all, whether there is such an agent or not."""
        agent_id = scope["path_params"]["agent_id"]
        card = agent_card(self._address(scope, agent_id), agent_id, None)
        await answer_json(scope, receive, send, card)

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request over JSON-RPC."""
        message = RpcMessage(None, "")
        try:
            message = message_of(await self._body(scope, receive))
            name = _OLD_METHODS.get(message.method, message.method)
            _check_version(scope, VERSIONS)
            if name not in self._methods:
                raise RpcError(METHOD_NOT_FOUND, f"no method {message.method}")
            agent_id, is_old = scope["path_params"]["agent_id"], name != message.method
            call = A2aCall(scope, receive, send, agent_id, message.params, message.id, is_old)
            await self._do(name, call)
        except AgentNotFound:
            raise  # nothing is at this address
        except (ApiError, RpcError) as error:
            body = rpc_error_body(message.rpc_id, _refusal(error))
            await answer_json(scope, receive, send, body)

    async def rest(
        self, name: str, version: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """One request over HTTP+JSON of this version."""
        is_old = version != VERSIONS[0]
        try:
            _check_version(scope, (version,))
            params: dict[str, Any] = dict(scope["state"]["query"].all())
            if announces_body(scope):
                value = await self._body(scope, receive)
                if not isinstance(value, Mapping):
                    raise RpcError(INVALID_REQUEST, "the body must be a JSON object")
                params |= value
            if is_old:
                params = old_params(params)
            named = dict(scope["path_params"])
            agent_id = named.pop("agent_id")
            call = A2aCall(scope, receive, send, agent_id, params | named, is_old=is_old)
            await self._do(name, call)
        except AgentNotFound:
            raise  # nothing is at this address
        except (ApiError, RpcError) as error:
            status, body = rest_error(_refusal(error), is_old=is_old)
            media_type = rest_type(is_old=is_old)
            await answer_json(scope, receive, send, body, status=status, media_type=media_type)

    # -- inside ----------------------------------------------------------------------------

    async def _do(self, name: str, call: A2aCall) -> None:
        if name not in _COUNTING:
            await self._streams.take_for(call.scope)
        needs, method = self._methods[name]
        require(call.principal, needs)
        if call.params.get("tenant"):
            problem = "there are no tenants: the credential says whose the tasks are"
            raise RpcError(INVALID_PARAMS, f"{problem}; leave `tenant` out")
        await self._streams.check_agent(call.principal, call.agent_id)
        await method(call)

    async def _body(self, scope: Scope, receive: Receive) -> object:
        streams = self._streams
        return await read_json(scope, receive, streams.limits, streams.watch, also=A2A_JSON)

    async def _extended(self, call: A2aCall) -> None:
        agent = await self._agents.get(call.principal.organization_id, call.agent_id)
        await call.answer(agent_card(self._address(call.scope, agent.id), agent.id, agent))

    def _address(self, scope: Scope, agent_id: str) -> str:
        base = self._public_url
        if not base:
            base = f"{scope.get('scheme', 'http')}://{text_header(scope, b'host') or 'localhost'}"
        return f"{base}/a2a/{agent_id}"


def _refusal(error: ApiError | RpcError) -> RpcError:
    return error if isinstance(error, RpcError) else as_rpc_error(error)


def _check_version(scope: Scope, spoken: tuple[str, ...]) -> None:
    given = text_header(scope, b"a2a-version")
    if given and ".".join(given.split(".")[:2]) not in spoken:
        raise RpcError(NO_VERSION, f"this server speaks the versions {', '.join(spoken)} here")
