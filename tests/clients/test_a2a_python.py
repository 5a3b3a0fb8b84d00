"""A2A's client for Python, unmodified: over JSON-RPC and over HTTP+JSON, of 1.0 and of 0.3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import Client, ClientConfig
from a2a.client.client_factory import ClientFactory
from a2a.client.errors import A2AClientError
from a2a.compat.v0_3 import a2a_v0_3_pb2
from a2a.compat.v0_3.conversions import to_core_task_push_notification_config
from a2a.compat.v0_3.proto_utils import FromProto
from a2a.types.a2a_pb2 import (
    AgentCard,
    AuthenticationInfo,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError, UnsupportedOperationError
from google.protobuf.json_format import Parse, ParseDict
from support.proxy import EvilProxy
from support.receiver import Delivered, Receiver
from support.server import PATIENCE, ServerProcess, bearer, running

pytestmark = pytest.mark.anyio
RPC, REST = ("JSONRPC", "1.0"), ("HTTP+JSON", "1.0")
OLD, OLD_REST = ("JSONRPC", "0.3"), ("HTTP+JSON", "0.3")
EACH = pytest.mark.parametrize("wire", [RPC, REST, OLD, OLD_REST], ids="-".join)
NEW = pytest.mark.parametrize("wire", [RPC, REST], ids="-".join)
DONE, FAILED = TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_FAILED
ASKS, WORKS = TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_WORKING
CANCELED = TaskState.TASK_STATE_CANCELED
ANSWER = "".join(f"n-{number:06d} " for number in range(1, 11))


@asynccontextmanager
async def client_of(
    url: str, agent: str, wire: tuple[str, str], *, streaming: bool = True, key: str | None = None
) -> AsyncIterator[Client]:
    """The client that the official factory makes of the card, for this one of its interfaces."""
    headers = bearer() if key is None else bearer(key)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE, limits=limits) as http:
        card: AgentCard = await A2ACardResolver(http, f"{url}/a2a/{agent}").get_agent_card()
        assert card.capabilities.push_notifications and card.capabilities.streaming
        for each in list(card.supported_interfaces):
            if (each.protocol_binding, each.protocol_version) != wire:
                card.supported_interfaces.remove(each)
        assert len(card.supported_interfaces) == 1
        config = ClientConfig(
            streaming=streaming, httpx_client=http, supported_protocol_bindings=[wire[0]]
        )
        yield ClientFactory(config).create(card)


def asked(
    *parts: Any,
    metadata: dict[str, Any] | None = None,
    push: dict[str, Any] | None = None,
    at_once: bool = False,
    **message: Any,
) -> SendMessageRequest:
    """A request to send these parts: texts, and anything else as data."""
    said = [{"text" if isinstance(part, str) else "data": part} for part in parts]
    of_message = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": said, **message}
    configuration: dict[str, Any] = {"returnImmediately": at_once}
    if push is not None:
        configuration["taskPushNotificationConfig"] = push
    wire = {"message": of_message, "configuration": configuration, "metadata": metadata or {}}
    return ParseDict(wire, SendMessageRequest())


@dataclass
class Seen:
    """What a client gets of a stream, put together."""

    text: str = ""
    kinds: list[str] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    task: Task = field(default_factory=Task)
    said: str = ""

    def take(self, event: StreamResponse) -> None:
        kind = event.WhichOneof("payload")
        self.kinds.append(kind)
        if kind == "task":
            self.task = event.task
            self.text = text_of(event.task)
            status = event.task.status
        elif kind == "status_update":
            status = event.status_update.status
        else:
            update = event.artifact_update
            before = self.text if update.append else ""
            self.text = before + "".join(part.text for part in update.artifact.parts)
            return
        self.states.append(status.state)
        self.said = "".join(part.text for part in status.message.parts)

    async def read(self, events: AsyncIterator[StreamResponse]) -> Seen:
        async for event in events:
            self.take(event)
        return self


def text_of(task: Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


async def answer(client: Client, request: SendMessageRequest) -> Seen:
    return await Seen().read(client.send_message(request))


@EACH
async def test_a_whole_answer_with_a_tool_call(
    server: ServerProcess, wire: tuple[str, str]
) -> None:
    async with (
        client_of(server.url, "guide", wire) as client,
        client_of(server.url, "guide", wire, streaming=False) as plain,
    ):
        whole = await answer(client, asked("What is 12% of 250?"))
        assert (whole.kinds[0], whole.states[-1]) == ("task", DONE) and "= 30" in whole.text
        context = whole.task.context_id
        further = await answer(plain, asked("count to 3", contextId=context))
        assert (further.text, further.task.context_id) == ("1 2 3", context)
        extended = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
        assert extended.name == "Guide"
        again = await client.get_task(GetTaskRequest(id=further.task.id))
        assert again == further.task and again.status.HasField("timestamp")
        bare = await client.get_task(GetTaskRequest(id=further.task.id, history_length=0))
        assert not bare.history and again.history[0].parts[0].text == "count to 3"
        # Two tabs that begin a context at once with one message.
        tab = asked("count to 9", contextId=f"tabs-{wire}")
        seen = await asyncio.gather(answer(client, tab), answer(client, tab))
        assert [each.text for each in seen] == ["1 2 3 4 5 6 7 8 9"] * 2
        assert len({(each.task.context_id, each.task.id) for each in seen}) == 1


@EACH
async def test_failure_cancel_and_what_is_not_there(
    server: ServerProcess, wire: tuple[str, str]
) -> None:
    async with (
        client_of(server.url, "refusing", wire) as refusing,
        client_of(server.url, "paced", wire) as client,
        client_of(server.url, "guide", wire, key="wrong") as wrong,
    ):
        failed = await answer(refusing, asked("go"))
        assert (failed.states[-1], failed.said) == (FAILED, "the shop is closed")
        slowly = asked("n", metadata={"pace": 20, "count": 1_000})
        first, reloaded = Seen(), Seen()
        events = client.send_message(slowly)
        while len(first.text) < 20:
            first.take(await anext(events))
        follows = client.subscribe(SubscribeToTaskRequest(id=first.task.id))
        reloaded.take(await anext(follows))
        assert reloaded.kinds == ["task"] and reloaded.text
        with pytest.raises(A2AClientError, match=r"SESSION_BUSY|409"):  # a tab that says more
            await answer(client, asked("n", contextId=first.task.context_id))
        cancelled = await client.cancel_task(CancelTaskRequest(id=first.task.id))
        await asyncio.gather(first.read(events), reloaded.read(follows))
        assert first.states[-1] == reloaded.states[-1] == cancelled.status.state == CANCELED
        assert first.text == reloaded.text == text_of(cancelled)
        with pytest.raises(UnsupportedOperationError):
            await Seen().read(client.subscribe(SubscribeToTaskRequest(id=first.task.id)))
        for missing in ("sess_none.1", "x", f"{first.task.id}1"):
            with pytest.raises(TaskNotFoundError):
                await client.get_task(GetTaskRequest(id=missing))
        with pytest.raises(TaskNotFoundError):  # it is another agent's
            await refusing.get_task(GetTaskRequest(id=first.task.id))
        with pytest.raises(Exception, match="401"):
            await answer(wrong, asked("hi"))


@EACH
async def test_what_a_task_asks(
    server: ServerProcess, wire: tuple[str, str], tmp_path: Path
) -> None:
    paid = str(tmp_path / "paid")
    async with client_of(server.url, "refunds", wire) as client:
        for said, ends in (({"approved": True}, "Paid."), ({"approved": False}, "Not paid.")):
            first = await answer(client, asked("1", metadata={"paid": paid}))
            assert first.states[-1] == ASKS and first.said.startswith("Pay it back?")
            to = {"taskId": first.task.id, "contextId": first.task.context_id}
            with pytest.raises(InvalidParamsError):
                await answer(client, asked("yes", **to))
            rest = await answer(client, asked(said, **to))
            assert (rest.states[0], rest.states[-1]) == (WORKS, DONE)
            assert rest.text == f"Looking. {ends}"
        waits = await answer(client, asked("2", metadata={"paid": paid}))
        given_up = await client.cancel_task(CancelTaskRequest(id=waits.task.id))
        assert (waits.states[-1], given_up.status.state) == (ASKS, CANCELED)


@EACH
async def test_answers_that_break_off(server: ServerProcess, wire: tuple[str, str]) -> None:
    """After every so many bytes: at the ends of frames, within them, and in the headers."""
    modes = ["pass"]
    proxy = EvilProxy(server.port, lambda: modes[-1], Random(1))
    count = {"count": 10}
    async with proxy.running(), client_of(proxy.url, "paced", wire) as client:
        broken = resumed = 0
        for budget in range(300, 3_200, 190):
            proxy.budget = lambda budget=budget: budget
            modes.append("cut")
            seen = Seen()
            with pytest.raises((A2AClientError, httpx.HTTPError, EOFError)) as cut:
                await seen.read(client.send_message(asked("n", metadata=count)))
                raise EOFError  # the whole answer was within the budget
            modes.append("pass")
            if cut.type is EOFError:
                assert (seen.text, seen.states[-1]) == (ANSWER, DONE)
                continue
            broken += 1
            assert DONE not in seen.states and ANSWER.startswith(seen.text)
            if not seen.task.id:
                continue  # the client did not even learn its task
            rest = Seen()
            try:
                await rest.read(client.subscribe(SubscribeToTaskRequest(id=seen.task.id)))
            except UnsupportedOperationError:  # it ended meanwhile
                rest.take(
                    StreamResponse(task=await client.get_task(GetTaskRequest(id=seen.task.id)))
                )
            resumed += 1
            assert (rest.text, rest.states[-1]) == (ANSWER, DONE)
        assert broken >= 5 and resumed >= 3


# -- push notifications --------------------------------------------------------------------


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().running() as made:
        yield made


def notified(request: Delivered, wire: tuple[str, str]) -> Task:
    """The task that a receiver is told of."""
    if wire[1] == "0.3":
        assert request.event["kind"] == "task"
        assert request.headers["content-type"] == "application/json"
        status = request.event["status"]["state"].upper().replace("-", "_")
        body = {key: request.event[key] for key in ("id", "contextId")}
        return ParseDict(body | {"status": {"state": f"TASK_STATE_{status}"}}, Task())
    assert request.headers["content-type"] == "application/a2a+json"
    return Parse(request.body, StreamResponse()).task


def config(receiver: Receiver, path: str, name: str = "mine") -> dict[str, Any]:
    proof = {"scheme": "Bearer", "credentials": "of-the-receiver"}
    return {"id": name, "url": receiver.url(path), "token": "secret", "authentication": proof}


@EACH
async def test_a_message_names_its_receiver(
    server: ServerProcess, wire: tuple[str, str], receiver: Receiver
) -> None:
    refusals = [503]
    receiver.answer = lambda _request: (refusals.pop() if refusals else 200, {})
    async with client_of(server.url, "guide", wire, streaming=False) as client:
        seen = await answer(client, asked("count to 3", push=config(receiver, "/a"), at_once=True))
        await receiver.until(lambda: len(receiver.taken) >= 2)
    began, ended = receiver.of("/a")
    assert receiver.requests[0].id == began.id != ended.id  # tried again
    assert notified(began, wire).status.state == WORKS
    task = notified(ended, wire)
    assert (task.id, task.status.state) == (seen.task.id, DONE)
    assert wire[1] == "0.3" or (text_of(task), task.history[0].parts[0].text) == (
        "1 2 3",
        "count to 3",
    )
    for request in receiver.requests:
        assert request.headers["x-a2a-notification-token"] == "secret"
        assert request.headers["authorization"] == "Bearer of-the-receiver"


async def listed_of_old(server: ServerProcess, task_id: str) -> list[TaskPushNotificationConfig]:
    path = f"/a2a/refunds/v1/tasks/{task_id}/pushNotificationConfigs"
    async with httpx.AsyncClient(base_url=server.url, headers=bearer()) as http:
        answer = ParseDict(
            (await http.get(path)).json(), a2a_v0_3_pb2.ListTaskPushNotificationConfigResponse()
        )
    found = [FromProto.task_push_notification_config(each) for each in answer.configs]
    return [to_core_task_push_notification_config(each) for each in found]


@EACH
async def test_configs_of_a_task(
    server: ServerProcess, wire: tuple[str, str], receiver: Receiver, tmp_path: Path
) -> None:
    async with client_of(server.url, "refunds", wire) as client:
        first = await answer(client, asked("1", metadata={"paid": str(tmp_path / "paid")}))
        task_id = first.task.id

        async def create(name: str, path: str, **more: Any) -> TaskPushNotificationConfig:
            wanted = {**config(receiver, path, name), "taskId": task_id, **more}
            request = ParseDict(wanted, TaskPushNotificationConfig())
            return await client.create_task_push_notification_config(request)

        async def listed() -> list[TaskPushNotificationConfig]:
            asked_for = ListTaskPushNotificationConfigsRequest(task_id=task_id)
            if wire == OLD_REST:  # the client cannot, though the protocol can
                return await listed_of_old(server, task_id)
            return list((await client.list_task_push_notification_configs(asked_for)).configs)

        made = await create("one", "/one")
        expected = TaskPushNotificationConfig(
            id="one",
            task_id=task_id,
            url=receiver.url("/one"),
            authentication=AuthenticationInfo(scheme="Bearer"),
        )
        assert made == expected  # secrets are not shown again
        unnamed = await create("", "/two")
        assert unnamed.id == task_id
        assert [each.id for each in await listed()] == ["one", task_id]
        # It waits, and whoever asks to be told of that is told at once.
        await receiver.until(lambda: receiver.of("/one") and receiver.of("/two"))
        assert notified(receiver.of("/one")[0], wire).status.state == ASKS
        replaced = await create("one", "/again", token="another")
        get = GetTaskPushNotificationConfigRequest(task_id=task_id, id="one")
        assert await client.get_task_push_notification_config(get) == replaced != made
        delete = DeleteTaskPushNotificationConfigRequest(task_id=task_id, id=task_id)
        for _ in range(2):
            if wire == OLD_REST:
                path = f"/a2a/refunds/v1/tasks/{task_id}/pushNotificationConfigs/{task_id}"
                async with httpx.AsyncClient(base_url=server.url, headers=bearer()) as http:
                    assert (await http.delete(path)).json() == {}
            else:
                await client.delete_task_push_notification_config(delete)
        assert [each.id for each in await listed()] == ["one"]
        with pytest.raises(TaskNotFoundError):
            get.id = "none"
            await client.get_task_push_notification_config(get)
        to = {"taskId": task_id, "contextId": first.task.context_id}
        await answer(client, asked({"approved": True}, **to))
        await receiver.until(lambda: len(receiver.of("/again")) >= 2)
        *_, last = receiver.of("/again")
        assert notified(last, wire).status.state == DONE
        assert last.headers["x-a2a-notification-token"] == "another"
        assert len(receiver.of("/one")) == len(receiver.of("/two")) == 1
        async with asyncio.timeout(PATIENCE):
            while await listed():  # a config is over with its task
                await asyncio.sleep(0.02)
        await create("late", "/late")  # it may have ended just before
        await receiver.until(lambda: receiver.of("/late"))
        assert notified(receiver.of("/late")[0], wire).status.state == DONE


# -- ListTasks -----------------------------------------------------------------------------


@NEW
async def test_tasks_are_listed_without_a_context(
    server: ServerProcess, wire: tuple[str, str], tmp_path: Path
) -> None:
    async with client_of(server.url, "refunds", wire) as client:
        ids = []
        for number in range(4):
            metadata = {"paid": str(tmp_path / "paid")}
            ids.append((await answer(client, asked(f"{wire}{number}", metadata=metadata))).task.id)
        for task_id in ids[:3]:
            await answer(client, asked({"approved": False}, taskId=task_id))
        ids = [ids[2], ids[1], ids[0], ids[3]]

        async def tasks(**wanted: Any) -> list[Task]:
            """All pages of two."""
            found: list[Task] = []
            request = ListTasksRequest(page_size=2, **wanted)
            while True:
                page = await client.list_tasks(request)
                assert len(page.tasks) <= 2 and page.page_size == 2
                found += page.tasks
                request.page_token = page.next_page_token
                if not page.next_page_token:
                    assert page.total_size >= len(found)
                    return found

        every = await tasks()
        assert [each.id for each in every][:4] == ids
        assert len({each.id for each in every}) == len(every)
        times = [each.status.timestamp.ToNanoseconds() for each in every]
        assert times == sorted(times, reverse=True)
        assert not any(each.artifacts or each.history for each in every)
        waiting = await tasks(status=ASKS)
        assert waiting[0].id == ids[3] and {each.status.state for each in waiting} == {ASKS}
        done = await tasks(status=DONE, status_timestamp_after=every[1].status.timestamp)
        assert [each.id for each in done] == ids[:2]
        (whole,) = await tasks(
            context_id=every[0].context_id, include_artifacts=True, history_length=1
        )
        assert text_of(whole) == "Looking. Not paid." and len(whole.history) == 1
        assert not await tasks(status=TaskState.TASK_STATE_REJECTED)
        await client.cancel_task(CancelTaskRequest(id=ids[3]))


async def test_the_answers_of_http_and_json(server: ServerProcess) -> None:
    headers = bearer() | {"A2A-Version": "1.0", "Content-Type": "application/a2a+json"}
    async with httpx.AsyncClient(base_url=f"{server.url}/a2a/guide", headers=headers) as http:
        said = {"message": {"messageId": "rest", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}
        sent = await http.post("/message:send", content=json.dumps(said))
        assert sent.headers["content-type"] == "application/a2a+json"
        task = sent.json()["task"]
        assert (await http.get(f"/tasks/{task['id']}?historyLength=0")).json().get(
            "history"
        ) is None
        for request, status, reason in (
            (http.get("/tasks/none"), 404, "TASK_NOT_FOUND"),
            (http.post(f"/tasks/{task['id']}:cancel"), 400, "TASK_NOT_CANCELABLE"),
            (http.get(f"/tasks/{task['id']}:subscribe"), 400, "UNSUPPORTED_OPERATION"),
            (http.post("/message:send", content="[]"), 400, "INVALID_REQUEST"),
            (http.post("/message:send", content="{"), 400, "INVALID_REQUEST"),
            (http.post("/message:send", content="{}"), 400, "INVALID_PARAMS"),
            (http.get("/tasks?pageSize=101"), 400, "INVALID_PARAMS"),
            (http.get("/tasks?pageToken=x"), 400, "INVALID_PARAMS"),
            (http.get("/tasks?status=DONE"), 400, "INVALID_PARAMS"),
            (http.get("/tasks", headers={"A2A-Version": "0.3"}), 400, "VERSION_NOT_SUPPORTED"),
        ):
            refused = await request
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (status, status)
            assert error["details"][0]["reason"] == reason
        assert (await http.get("/extendedAgentCard")).json()["name"] == "Guide"


async def test_the_answers_of_http_and_json_of_0_3(server: ServerProcess) -> None:
    headers = bearer() | {"Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=f"{server.url}/a2a/guide/v1", headers=headers) as http:
        part = {"content": [{"text": "count to 3"}]}
        # The names of fields in Protocol Buffers, those in JSON, and the words of JSON-RPC.
        for number, body in enumerate((
            {"request": {"message_id": "0", "role": "ROLE_USER", **part},
             "configuration": {"blocking": True, "history_length": 1}},
            {"message": {"messageId": "1", "role": "ROLE_USER", **part},
             "configuration": {"blocking": True}},
            {"message": {"messageId": "2", "role": "user",
                         "parts": [{"kind": "text", "text": "count to 3"}]}},
        )):  # fmt: skip
            sent = await http.post("/message:send", json=body)
            assert sent.headers["content-type"] == "application/json", number
            ParseDict(sent.json(), a2a_v0_3_pb2.SendMessageResponse())  # no field is unknown
            task = sent.json()["task"]
            assert task["status"]["state"] == "TASK_STATE_COMPLETED"
            assert task["artifacts"][0]["parts"] == [{"text": "1 2 3"}]
            (asked_for,) = task["history"]
            assert asked_for["role"] == "ROLE_USER" and asked_for["content"] == part["content"]
        assert (await http.get(f"/tasks/{task['id']}?historyLength=0")).json().get(
            "history"
        ) is None
        streamed = await http.post("/message:stream", json=body)
        events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: ")]
        kinds = [
            Parse(each, a2a_v0_3_pb2.StreamResponse()).WhichOneof("payload") for each in events
        ]
        assert kinds[0] == "task" and kinds[-1] == "status_update" and "artifact_update" in kinds
        configs = f"/tasks/{task['id']}/pushNotificationConfigs"
        config = {"config": {"pushNotificationConfig": {"url": "http://127.0.0.1:9/"}}}
        made = (await http.post(configs, json={"configId": "mine", **config})).json()
        assert made["name"] == configs.removeprefix("/") + "/mine"
        for request, status, name in (
            (http.get("/tasks/none"), 404, "TaskNotFoundError"),
            (http.post(f"/tasks/{task['id']}:cancel"), 400, "TaskNotCancelableError"),
            (http.get(f"/tasks/{task['id']}:subscribe"), 400, "UnsupportedOperationError"),
            (http.get(f"{configs}/none"), 404, "TaskNotFoundError"),
            (http.post(configs, json={"config": "x"}), 400, "InvalidParamsError"),
            (http.post("/message:send", json=[]), 400, "InvalidRequestError"),
            (http.post("/message:send", content="{"), 400, "InvalidRequestError"),
            (http.post("/message:send", json={}), 400, "InvalidParamsError"),
            (http.post("/message:send", json={"request": 1}), 400, "InvalidParamsError"),
            (
                http.post("/message:send", json=body | {"configuration": "x"}),
                400,
                "InvalidParamsError",
            ),
            (http.get("/card", headers={"A2A-Version": "1.0"}), 400, "VersionNotSupportedError"),
        ):
            refused = await request
            assert (refused.status_code, refused.json()["type"]) == (status, name), refused.text
            assert refused.json()["message"] and refused.json()["code"] < 0
        assert (await http.get("/card")).json()["name"] == "Guide"


async def test_there_are_no_tenants(server: ServerProcess) -> None:
    """The credential says whose the tasks are, and no card names a tenant."""
    headers = bearer() | {"A2A-Version": "1.0"}
    said = {"message": {"messageId": "t", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}
    async with httpx.AsyncClient(base_url=f"{server.url}/a2a/guide", headers=headers) as http:
        card = (await http.get("/.well-known/agent-card.json")).json()
        assert not any("tenant" in each for each in card["supportedInterfaces"])
        assert (await http.post("/acme/message:send", json=said)).status_code == 404
        assert (await http.get("/acme/tasks")).status_code == 404
        call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": said}
        for tenant, refused in (("", False), ("acme", True)):
            by_rest = await http.post("/message:send", json=said | {"tenant": tenant})
            params = {"params": said | {"tenant": tenant}}
            by_rpc = (await http.post(f"{server.url}/a2a/guide", json=call | params)).json()
            assert by_rest.status_code == (400 if refused else 200)
            assert ("error" in by_rpc) == refused
        assert by_rpc["error"]["code"] == -32602 and "tenant" in by_rpc["error"]["message"]
        assert by_rest.json()["error"]["details"][0]["reason"] == "INVALID_PARAMS"


async def test_configs_that_are_refused(server: ServerProcess) -> None:
    headers = bearer() | {"A2A-Version": "1.0"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
        said = {"message": {"messageId": "c", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}
        sent = await http.post("/a2a/guide/message:send", json=said)
        path = f"/a2a/guide/tasks/{sent.json()['task']['id']}/pushNotificationConfigs"
        for wrong in (
            {"url": "https://10.0.0.1/"},
            {"url": "https://169.254.169.254/"},
            {"url": "http://[::1]:9/"},
            {"url": "file:///etc/passwd"},
            {"url": "http://127.0.0.1:9/", "token": "a\r\nX-Other: b"},
            {"url": "http://127.0.0.1:9/", "token": "x" * 1_001},
            {"url": "http://127.0.0.1:9/", "id": "a/b"},
        ):
            refused = await http.post(path, json=wrong)
            assert refused.status_code == 400, wrong
            message = said | {"configuration": {"taskPushNotificationConfig": wrong}}
            refused = await http.post("/a2a/guide/message:send", json=message)
            assert refused.status_code == 400, wrong


async def test_configs_have_scopes_of_their_own(server: ServerProcess) -> None:
    headers = bearer() | {"A2A-Version": "1.0"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
        said = {"message": {"messageId": "s", "role": "ROLE_USER", "parts": [{"text": "hi"}]}}
        sent = await http.post("/a2a/guide/message:send", json=said)
        path = f"/a2a/guide/tasks/{sent.json()['task']['id']}/pushNotificationConfigs"
        wanted = {"url": "http://127.0.0.1:9/", "id": "mine"}

        async def answered(*scopes: str) -> list[int]:
            """Setting, listing, getting and deleting with this key."""
            body = {"name": "k", "scopes": scopes}
            by = bearer((await http.post("/v1/keys", json=body)).json()["key"])
            found = [
                await http.post(path, json=wanted, headers=by),
                await http.get(path, headers=by),
                await http.get(f"{path}/mine", headers=by),
                await http.delete(f"{path}/mine", headers=by),
            ]
            for each in found:
                if each.status_code == 403:
                    missing = each.json()["error"]["details"]["scope"]
                    assert missing not in scopes and missing in each.text
            return [each.status_code for each in found]

        assert await answered("sessions:read", "sessions:write") == [403] * 4
        # What is sent there has the task's text.
        assert await answered("webhooks:write") == [403, 403, 403, 200]
        assert await answered("webhooks:write", "sessions:read") == [200, 403, 403, 200]
        assert (await http.post(path, json=wanted)).status_code == 200
        assert await answered("webhooks:read") == [403, 200, 200, 403]
        message = said | {"configuration": {"taskPushNotificationConfig": wanted}}
        body = {"name": "k", "scopes": ["sessions:write"]}
        by = bearer((await http.post("/v1/keys", json=body)).json()["key"])
        refused = await http.post("/a2a/guide/message:send", json=message, headers=by)
        assert refused.status_code == 403 and "webhooks:write" in refused.text


async def test_a_token_sets_configs_within_bounds(tmp_path: Path) -> None:
    """So many of a task, and so many of an organization that are not over."""
    options = {"webhooks__allow_hosts": "127.0.0.1", "limits__organization_callbacks": 102}
    headers = bearer() | {"A2A-Version": "1.0"}
    with running(tmp_path / "data", agents={"refunds": "support.agents:refunds"}, **options) as own:
        http = httpx.AsyncClient(base_url=own.url, headers=headers, timeout=PATIENCE)
        scopes = ["sessions:read", "sessions:write", "webhooks:write"]
        token = (await http.post("/v1/tokens", json={"scopes": scopes, "subject": "u"})).json()
        http.headers.update(bearer(token["token"]))

        async def send(text: str, **configuration: Any) -> httpx.Response:
            body = {
                "message": {"messageId": text, "role": "ROLE_USER", "parts": [{"text": text}]},
                "metadata": {"paid": str(tmp_path / "paid")},
                "configuration": configuration,
            }
            return await http.post("/a2a/refunds/message:send", json=body)

        async def put(task: str, name: str) -> httpx.Response:
            path = f"/a2a/refunds/tasks/{task}/pushNotificationConfigs"
            return await http.post(path, json={"url": "http://127.0.0.1:9/", "id": name})

        first, second = [(await send(each)).json()["task"]["id"] for each in ("1", "2")]
        for number in range(100):
            assert (await put(first, f"c{number}")).status_code == 200
        refused = await put(first, "more")
        assert (refused.status_code, "100" in refused.text) == (409, True)
        assert (await put(first, "c7")).status_code == 200  # set again
        assert [(await put(second, each)).status_code for each in "abc"] == [200, 200, 409]
        config = {"url": "http://127.0.0.1:9/"}
        refused = await send("3", taskPushNotificationConfig=config, returnImmediately=True)
        assert (refused.status_code, "102" in refused.text) == (409, True)
        assert (await http.get("/a2a/refunds/tasks")).json()["totalSize"] == 2
        gone = f"/a2a/refunds/tasks/{second}/pushNotificationConfigs/a"
        assert (await http.delete(gone)).status_code == 200
        assert (await put(second, "c")).status_code == 200
        await http.aclose()
        assert own.errors() == []
