"""Push notifications of A2A: a config is a callback of the task's turn that has the client's name.

Nothing is kept beside that callback, and nothing is sent but by what sends webhooks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...codec.json import dumps
from ...http.api.session_models import validated
from ...http.auth.authenticator import require
from ...log.base import Entry
from ...model.errors import PositionExpired
from ...model.limits import KIB
from ...records.webhooks import WebhookRecord
from ...sessions.request import TurnRef
from ...sessions.service import SessionService
from ...webhooks.sender import CALLBACK_EVENTS, Compose
from ...webhooks.service import NewCallback, WebhookService
from ..json_rpc import Json, RpcError
from .call import PROTOCOL, A2aCall, rest_type
from .card import VERSIONS
from .errors import NO_TASK
from .requests import OldPushBody, OldSetPushBody, PushBody, PushConfig, SetPushBody
from .snapshot import changed_at, task_so_far, task_turn

_NEW, _OLD = VERSIONS
#: Notifications that are composed at once: each reads a turn.
_AT_ONCE = 4
#: Bytes of a notification with the whole task.
_LONGEST = 64 * KIB
#: Each of these changes the state of a task, or ends it.
_EVENTS = ("session.started", "session.resumed", *CALLBACK_EVENTS)


class PushConfigs:
    def __init__(self, service: SessionService, webhooks: WebhookService) -> None:
        self._service = service
        self._webhooks = webhooks

    # -- methods ---------------------------------------------------------------------------

    async def create(self, call: A2aCall) -> None:
        """Set a config, or set it again. The receiver of a task that has ended, or that waits, is
        told so at once: it may have done so just before."""
        config, task_id = _config_in(call)
        ref, _ = await task_turn(self._service, call.principal, call.agent_id, task_id)
        require(call.principal, "sessions:read")  # notifications have the task's text
        callback = await self.callback(call, config)
        # Looked at behind the place from which events are sent, so none falls between.
        state = await self._service.authorize(call.principal, ref.session_id)
        turn = state.turn(ref.turn)
        if turn is not None and (turn.last or turn.status == "waiting"):
            callback = await self._webhooks.since(callback, changed_at(state, turn))
        record = await self.keep(callback, ref)
        await call.answer(_shown(record, call))

    async def get(self, call: A2aCall) -> None:
        body = _named_in(call)
        found = await self._configs(call, body.task_id)
        wanted = [each for each in found if body.id in {"", each.endpoint["name"]}]
        if not wanted or not (body.id or call.is_old):
            raise RpcError(NO_TASK, "the task has no such push notification config")
        await call.answer(_shown(wanted[0], call))

    async def list(self, call: A2aCall) -> None:
        """All of a task; there are at most MAX_OF_TURN."""
        body = _named_in(call)
        found = await self._configs(call, body.task_id)
        shown = [_shown(each, call) for each in found]
        if isinstance(body, OldPushBody):
            await call.answer({"configs": shown} if call.is_proto else shown)
            return
        behind = [each for each in shown if each["id"] > body.page_token]
        size = body.page_size or len(behind)
        more = behind[size - 1]["id"] if len(behind) > size else ""
        await call.answer({"configs": behind[:size], "nextPageToken": more})

    async def delete(self, call: A2aCall) -> None:
        """Remove a config; it is no error if it is not there."""
        body = _named_in(call)
        principal = call.principal
        ref, _ = await task_turn(self._service, principal, call.agent_id, body.task_id)
        await self._webhooks.drop(principal, ref, body.id or body.task_id)
        await call.answer({} if call.rpc_id is None else None)

    # -- of a message ----------------------------------------------------------------------

    async def callback(self, call: A2aCall, config: PushConfig) -> NewCallback:
        """A config that waits for its task. Raises ApiError."""
        require(call.principal, "webhooks:write")
        given = config.authentication
        about = {
            "protocol": PROTOCOL,
            "version": _OLD if call.is_old else _NEW,
            "scheme": "" if given is None else given.name,
        }
        return await self._webhooks.callback_of(
            call.principal, config.url, config.id or "", about, config.headers(), _EVENTS
        )

    async def check_room(self, call: A2aCall) -> None:
        """Raises Conflict if a task that begins can have no config."""
        await self._webhooks.check_room(call.principal)

    async def keep(self, callback: NewCallback, ref: TurnRef) -> WebhookRecord:
        """Keep the config of a task. One without an id has the task's, as in the official SDKs."""
        name = callback.name or f"{ref.session_id}.{ref.turn}"
        named = replace(callback, name=name, endpoint={**callback.endpoint, "name": name})
        await self._webhooks.keep_of(named, ref, self._service.authorize)
        return named.of(ref.session_id, ref.turn)

    # -- inside ----------------------------------------------------------------------------

    async def _configs(self, call: A2aCall, task_id: str) -> Sequence[WebhookRecord]:
        """The configs of a task, by name."""
        principal = call.principal
        ref, _ = await task_turn(self._service, principal, call.agent_id, task_id)
        found = await self._webhooks.callbacks_of(principal, ref, PROTOCOL)
        return sorted(found, key=lambda each: str(each.endpoint["name"]))


def notifications(service: SessionService) -> dict[str, Compose]:
    """What the receivers of configs are sent, for the sender of webhooks."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def compose(webhook: WebhookRecord, entry: Entry) -> tuple[bytes, str] | None:
        """The task as it was when the event was written. What it has said is left out where it is
        long: a message is held in memory until its receiver takes it."""
        is_old = webhook.endpoint["version"] == _OLD
        ref = TurnRef(webhook.session_id or "", webhook.turn or 0)
        try:
            async with slots:
                task, _ = await task_so_far(service, ref, is_old=is_old, until=entry.at)
        except (RpcError, PositionExpired):  # it was deleted, or is no longer kept
            return None
        body = dumps(task.result())
        if len(body) > _LONGEST:
            body = dumps(task.result(0, artifacts=False))
        return body, rest_type(is_old=is_old)

    return {PROTOCOL: compose}


def _config_in(call: A2aCall) -> tuple[PushConfig, str]:
    if call.is_old:
        old = validated(OldSetPushBody, call.params, lenient=True)
        return old.config, old.task_id
    body = validated(SetPushBody, call.params, lenient=True)
    return body, body.task_id


def _named_in(call: A2aCall) -> PushBody | OldPushBody:
    if call.is_old:
        return validated(OldPushBody, call.params, lenient=True)
    return validated(PushBody, call.params, lenient=True)


def _shown(record: WebhookRecord, call: A2aCall) -> Json:
    """A config without its secrets, which are sealed and never shown."""
    endpoint = record.endpoint
    task_id = f"{record.session_id}.{record.turn}"
    config: dict[str, Any] = {"id": endpoint["name"], "url": endpoint["url"]}
    if scheme := endpoint["scheme"]:
        config["authentication"] = {"schemes": [scheme]} if call.is_old else {"scheme": scheme}
    if call.is_proto:
        name = f"tasks/{task_id}/pushNotificationConfigs/{config['id']}"
        return {"name": name, "pushNotificationConfig": config}
    if call.is_old:
        return {"taskId": task_id, "pushNotificationConfig": config}
    return {"taskId": task_id, **config}
