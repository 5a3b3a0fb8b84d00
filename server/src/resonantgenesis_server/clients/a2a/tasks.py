"""What A2A's clients do with tasks: begin one, answer what it asks, read, follow and cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...http.api.session_models import ExecuteBody, validated
from ...http.params import text_header
from ...http.waiting import waiting
from ...sessions.request import TurnRef
from ...sessions.state import TurnState
from ...sessions.subscription import wait_over
from ..forms import answer_of
from ..json_rpc import INVALID_PARAMS, Json, RpcError
from ..names import digest_key
from ..streams import ClientStreams
from .call import PROTOCOL, A2aCall
from .encode import TaskFrames
from .errors import NO_TEXT, NOT_CANCELABLE, UNSUPPORTED
from .push import PushConfigs
from .requests import SendBody, SentMessage, TaskBody
from .snapshot import CONTEXT, task_frames, task_so_far, task_turn

#: Seconds that a client may wait for a whole answer, and that a cancelled turn has to end.
_ANSWER, _CANCELLED = 3600.0, 5.0


class Tasks:
    def __init__(self, streams: ClientStreams, pushes: PushConfigs) -> None:
        self._streams = streams
        self._service = streams.service
        self._pushes = pushes

    async def send(self, call: A2aCall) -> None:
        body = validated(SendBody, call.params, lenient=True)
        ref, _, _ = await self._begin(call, body)
        wanted = body.configuration
        if wanted.blocking is not False and not wanted.return_immediately:
            async with waiting(call.scope, call.receive, self._streams.watch) as caller:
                await self._service.result(ref, _ANSWER, caller)
        task, _ = await self._so_far(call, ref)
        await call.answer(task.result(wanted.history_length))

    async def stream(self, call: A2aCall) -> None:
        body = validated(SendBody, call.params, lenient=True)
        ref, task, skip = await self._begin(call, body)
        await self._write(call, ref, skip, task)

    async def subscribe(self, call: A2aCall) -> None:
        body = validated(TaskBody, call.params, lenient=True)
        ref, turn = await self._turn(call, body.id)
        if turn.last:
            raise RpcError(UNSUPPORTED, "the task has ended; get it instead")
        task, skip = await self._so_far(call, ref)
        await self._write(call, ref, skip, task)

    async def get(self, call: A2aCall) -> None:
        body = validated(TaskBody, call.params, lenient=True)
        ref, _ = await self._turn(call, body.id)
        task, _ = await self._so_far(call, ref)
        await call.answer(task.result(body.history_length, is_bare=True))

    async def cancel(self, call: A2aCall) -> None:
        body = validated(TaskBody, call.params, lenient=True)
        ref, turn = await self._turn(call, body.id)
        if turn.last:
            raise RpcError(NOT_CANCELABLE, "the task has ended")
        await self._service.cancel(call.principal, ref.session_id, ref.turn)
        state = await self._service.authorize(call.principal, ref.session_id)
        await wait_over(self._service.states, ref.session_id, state, turn, _CANCELLED)
        task, _ = await self._so_far(call, ref)
        await call.answer(task.result(is_bare=True))

    # -- inside ----------------------------------------------------------------------------

    async def _begin(self, call: A2aCall, body: SendBody) -> tuple[TurnRef, TaskFrames | None, int]:
        """Start the task of a message, or answer the one that it names. Returns its turn; of one
        that was there before, the task so far and the number of its events before the message."""
        message, push = body.message, body.configuration.push
        callback = None if push is None else await self._pushes.callback(call, push)
        task: TaskFrames | None = None
        skip = 0
        if message.task_id:
            ref, task, skip = await self._go_on(call, message)
        else:
            if callback is not None:
                await self._pushes.check_room(call)
            ref = await self._start(call, body)
        if callback is not None:
            await self._pushes.keep(callback, ref)
        return ref, task, skip

    async def _start(self, call: A2aCall, body: SendBody) -> TurnRef:
        message = body.message
        if not message.text:
            raise RpcError(NO_TEXT, "a message needs text")
        fields: Json = {"agent_id": call.agent_id, "goal": message.text}
        if body.metadata:
            fields["context"] = body.metadata
        alias = None
        if message.context_id:
            alias = call.alias(message.context_id)
            fields["metadata"] = {CONTEXT: message.context_id}
        turn_request = validated(ExecuteBody, fields).request(self._streams.limits)
        said = [call.agent_id, message.context_id, message.message_id, message.text]
        key = text_header(call.scope, b"idempotency-key") or digest_key(PROTOCOL, said)
        return await self._streams.start(call.scope, turn_request, alias, key)

    async def _go_on(self, call: A2aCall, message: SentMessage) -> tuple[TurnRef, TaskFrames, int]:
        await self._streams.take_for(call.scope)
        ref, turn = await self._turn(call, message.task_id)
        session = await self._service.get(call.principal, ref.session_id)
        asks = session.get("waiting", []) if turn.status == "waiting" else []
        if not asks:
            raise RpcError(UNSUPPORTED, f"the task asks nothing: it is {turn.status}")
        task, skip = await self._so_far(call, ref)
        for ask, said in _answers(message, asks):
            await self._service.input(
                call.principal,
                ref.session_id,
                replace(answer_of(ask, said), turn=ref.turn),
                request_id=call.request_id,
            )
        task.go_on()
        return ref, task, skip

    async def _write(self, call: A2aCall, ref: TurnRef, skip: int, task: TaskFrames | None) -> None:
        """Write the events after the first `skip`; before them the task as it is, if given."""
        more: dict[str, Any] = {} if task is None else {"opening": task.snapshot()}
        fold = await task_frames(
            self._service, ref, is_old=call.is_old, is_proto=call.is_proto, rpc_id=call.rpc_id
        )
        await self._streams.write(call.scope, call.receive, call.send, ref, fold, skip=skip, **more)

    async def _turn(self, call: A2aCall, task_id: str) -> tuple[TurnRef, TurnState]:
        return await task_turn(self._service, call.principal, call.agent_id, task_id)

    async def _so_far(self, call: A2aCall, ref: TurnRef) -> tuple[TaskFrames, int]:
        return await task_so_far(
            self._service, ref, is_old=call.is_old, is_proto=call.is_proto, rpc_id=call.rpc_id
        )


def _answers(
    message: SentMessage, asks: list[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Json]]:
    """What the message says to the open asks, each as a filled form. Data may name its ask by
    `call_id`, and otherwise answers the first; so does a text. Raises RpcError."""
    found: list[tuple[Mapping[str, Any], Json]] = []
    by_id = {ask["call_id"]: ask for ask in asks}
    for part in message.parts:
        if isinstance(part.data, Mapping):
            content = dict(part.data)
            call_id = content.pop("call_id", None) or asks[0]["call_id"]
            ask = by_id.get(call_id) if isinstance(call_id, str) else None
            if ask is None:
                raise RpcError(INVALID_PARAMS, "the task asks nothing under this call_id")
            found.append((ask, {"action": "accept", "content": content}))
    if not found and message.text:
        if asks[0]["kind"] == "approval":
            raise RpcError(INVALID_PARAMS, 'an approval is data: {"approved": true or false}')
        found.append((asks[0], {"action": "accept", "content": {"value": message.text}}))
    return found
