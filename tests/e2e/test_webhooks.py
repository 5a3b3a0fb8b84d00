"""Webhooks: events that are sent to real receivers, over all that can go wrong with one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Iterator
from json import dumps, loads
from typing import Any

import httpx
import pytest
from resonantgenesis import (
    NotFound,
    ResonantGenesis,
    WebhookVerificationError,
    new_webhook_secret,
    verify_webhook,
)
from standardwebhooks.webhooks import Webhook
from support.receiver import Delivered, Receiver
from support.server import KEY, PATIENCE, Serve, ServerProcess, bearer
from websockets.asyncio.client import connect

pytestmark = pytest.mark.anyio

#: Soon again, and no longer than the tests wait.
SETTINGS = {"webhooks__allow_hosts": "127.0.0.1", "webhooks__first_retry": 0.05}
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    made = ServerProcess(
        tmp_path_factory.mktemp("server") / "data",
        limits__organization_webhooks=200,
        limits__organization_requests_per_minute=0,
        **SETTINGS,
    )
    yield made.start()
    made.stop()
    assert made.errors() == []


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=PATIENCE) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().running() as running:
        yield running


async def make(client: httpx.AsyncClient, url: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def publish(client: httpx.AsyncClient, kind: str, *numbers: int) -> list[str]:
    """The ids of the events."""
    ids: list[str] = []
    for number in numbers:
        answer = await client.post("/v1/events", json={"type": kind, "data": {"number": number}})
        ids.append(answer.json()["id"])
    return ids


async def until(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    """The resource, once it has these values."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found: dict[str, Any] = await get(client, path)
            if fields.items() <= found.items():
                return found
            await asyncio.sleep(0.02)


def firsts(requests: list[Delivered]) -> list[str]:
    """The ids, each where it came first."""
    return list(dict.fromkeys(request.id for request in requests))


def own_signature(secret: str, request: Delivered) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = request.headers["x-webhook-timestamp"].encode() + b"." + request.body
    return "sha256=" + hmac.new(key, content, hashlib.sha256).hexdigest()


async def test_events_come_signed_and_in_order(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(
        client,
        receiver.url(),
        events=["app.a.*"],
        headers={"X-Tenant": "7"},
        filters={"number": [1, 2, 4]},
    )
    cloud = await make(client, receiver.url("/cloud"), events=["app.a.b"], format="cloudevents")
    ids = await publish(client, "app.a.b", 1, 2, 3, 4)
    await receiver.until(lambda: len(receiver.taken) == 7)
    plain = receiver.of("/hook")
    assert [each.id for each in plain] == [ids[0], ids[1], ids[3]]
    for each in plain:
        payload = Webhook(made["secret"]).verify(each.body, each.headers)
        assert payload["type"] == "app.a.b" and payload["timestamp"] == payload["created_at"]
        assert each.headers["x-webhook-timestamp"] == each.headers["webhook-timestamp"]
        assert each.headers["x-webhook-signature"] == own_signature(made["secret"], each)
        assert each.headers["x-tenant"] == "7"
    event = (await get(client, f"/v1/events/{ids[0]}")) | {"timestamp": plain[0].event["timestamp"]}
    assert plain[0].event == event
    of_cloud = receiver.of("/cloud")[0]
    Webhook(cloud["secret"]).verify(of_cloud.body, of_cloud.headers)
    assert of_cloud.headers["content-type"].startswith("application/cloudevents+json")
    assert of_cloud.event == {
        "specversion": "1.0",
        "id": ids[0],
        "source": f"/organizations/{event['metadata']['organization_id']}",
        "type": "app.a.b",
        "time": event["created_at"],
        "datacontenttype": "application/json",
        "data": {"number": 1},
    }
    # Deliveries are events themselves, and no webhook is sent them.
    kinds = {"webhook.sent": 7, "webhook.failed": 0}
    await sent(client, {each["id"]: 7 for each in (made, cloud)}, kinds)
    shown = await get(client, f"/v1/webhooks/{made['id']}")
    assert "secret" not in shown and shown["headers"] == ["X-Tenant"]
    page = await get(client, f"/v1/webhooks/{made['id']}/deliveries?limit=2")
    assert [each["event_id"] for each in page["data"]] == [ids[3], ids[1]] and page["has_more"]
    assert page["data"][0] | {"id": "", "duration_ms": 0, "created_at": ""} == {
        "id": "", "event_id": ids[3], "event_type": "app.a.b", "attempt": 1, "status": 200,
        "error": None, "answer": "said", "duration_ms": 0, "created_at": "", "next_try_at": None,
    }  # fmt: skip


async def sent(client: httpx.AsyncClient, of: dict[str, int], kinds: dict[str, int]) -> None:
    """Wait until there are so many events of the deliveries of these webhooks."""
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await get(client, "/v1/events?events=webhook.*&limit=1000")
            mine = [each for each in page["events"] if each["data"]["webhook_id"] in of]
            counts = {kind: sum(each["type"] == kind for each in mine) for kind in kinds}
            if counts == kinds:
                return
            await asyncio.sleep(0.02)


async def test_a_receiver_that_was_away_gets_all_in_order(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(client, receiver.url(), events=["app.away"])
    ids = await publish(client, "app.away", *range(10))
    await receiver.until(lambda: len(receiver.taken) >= 3)
    await receiver.kill()
    ids += await publish(client, "app.away", *range(10, 20))
    failing = await get(client, f"/v1/webhooks/{made['id']}")
    async with asyncio.timeout(PATIENCE):
        while failing["failing_since"] is None:
            failing = await get(client, f"/v1/webhooks/{made['id']}")
    assert failing["attempts"] >= 1 and failing["next_try_at"]
    await receiver.start()
    await receiver.until(lambda: firsts(receiver.taken) == ids)
    await until(client, f"/v1/webhooks/{made['id']}", failing_since=None, attempts=0)
    failed = await get(client, f"/v1/webhooks/{made['id']}/deliveries?failed=true")
    assert failed["data"] and all(each["status"] is None for each in failed["data"])


async def test_a_server_that_is_killed_goes_on_where_it_was(
    serve: Serve, receiver: Receiver
) -> None:
    server = serve(may_complain=True, **SETTINGS)
    async with httpx.AsyncClient(headers=bearer(), timeout=PATIENCE) as client:
        client.base_url = httpx.URL(server.url)
        made = await make(client, receiver.url(), events=["app.killed"])
        ids = await publish(client, "app.killed", *range(20))
        await receiver.until(lambda: len(receiver.taken) >= 5)
        receiver.answer = lambda _: None  # it is killed in the middle of a delivery
        count = len(receiver.requests)
        ids += await publish(client, "app.killed", 20)
        await receiver.until(lambda: len(receiver.requests) > count or len(receiver.taken) >= 20)
        await asyncio.to_thread(server.kill)
        receiver.answer = lambda _: (200, {})
        await asyncio.to_thread(server.start)
        await receiver.until(lambda: firsts(receiver.taken) == ids)
        assert set(await sent_ids(client, made["id"], ids)) == set(ids)


async def sent_ids(client: httpx.AsyncClient, webhook_id: str, ids: list[str]) -> list[str]:
    """The events of which the deliveries tell, once all of these are among them."""
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await get(client, f"/v1/webhooks/{webhook_id}/deliveries?failed=false&limit=100")
            found = [each["event_id"] for each in page["data"]]
            if set(ids) <= set(found):
                return found
            await asyncio.sleep(0.02)


async def test_while_a_secret_is_replaced_both_sign(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(client, receiver.url(), events=["app.rotated"], secret=SECRET)
    assert made["secret"] == SECRET
    answer = await client.post(f"/v1/webhooks/{made['id']}/rotate")
    new = answer.json()["secret"]
    assert new != SECRET
    request = Delivered("", {"webhook-signature": ""}, b"")
    async with asyncio.timeout(PATIENCE):
        while len(request.headers["webhook-signature"].split(" ")) < 2:
            count = len(receiver.taken)
            await publish(client, "app.rotated", count)
            await receiver.until(lambda count=count: len(receiver.taken) > count)
            request = receiver.taken[-1]
    for secret in (SECRET, new):
        Webhook(secret).verify(request.body, request.headers)
    assert request.headers["x-webhook-signature"] == own_signature(new, request)


async def test_redirects_are_not_followed(client: httpx.AsyncClient, receiver: Receiver) -> None:
    receiver.answer = lambda _: (307, {"Location": receiver.url("/inside")})
    made = await make(client, receiver.url(), events=["app.moved"])
    await publish(client, "app.moved", 1)
    await receiver.until(lambda: len(receiver.requests) >= 2)
    await client.patch(f"/v1/webhooks/{made['id']}", json={"enabled": False})
    assert {each.path for each in receiver.requests} == {"/hook"}
    page: dict[str, Any] = {"data": []}
    async with asyncio.timeout(PATIENCE):
        while not page["data"]:
            page = await get(client, f"/v1/webhooks/{made['id']}/deliveries")
    assert page["data"][0]["status"] == 307
    assert "/inside, which is not followed" in page["data"][0]["error"]


async def test_a_receiver_that_is_gone_disables_its_webhook(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.answer = lambda _: (410, {})
    made = await make(client, receiver.url(), events=["app.gone"])
    path = f"/v1/webhooks/{made['id']}"
    ids = await publish(client, "app.gone", 1, 2)
    await until(client, path, enabled=False, disabled_reason="gone")
    assert len(receiver.requests) == 1
    await sent(client, {made["id"]: 2}, {"webhook.disabled": 1, "webhook.failed": 1})
    conflict = await client.post(f"{path}/resend", json={"event_id": ids[0]})
    assert conflict.status_code == 409
    receiver.answer = lambda _: (204, {})
    enabled = (await client.patch(path, json={"enabled": True})).json()
    assert enabled["enabled"] and enabled["disabled_reason"] is None
    await receiver.until(lambda: [each.id for each in receiver.taken] == ids)


async def test_what_was_missed_can_be_left_out(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(client, receiver.url(), events=["app.missed"], enabled=False)
    path = f"/v1/webhooks/{made['id']}"
    await publish(client, "app.missed", 1, 2)
    await client.patch(path, json={"enabled": True, "skip_missed": True})
    ids = await publish(client, "app.missed", 3)
    await receiver.until(lambda: [each.id for each in receiver.taken] == ids)


async def test_an_event_is_tried_as_long_as_the_setting_says(
    serve: Serve, receiver: Receiver
) -> None:
    server = serve(**SETTINGS, webhooks__retry_for=0.4)
    receiver.answer = lambda _: (500, {})
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=PATIENCE) as client:
        made = await make(client, receiver.url(), events=["app.refused"])
        await publish(client, "app.refused", 1)
        await until(client, f"/v1/webhooks/{made['id']}", enabled=False, disabled_reason="failing")
        assert 3 <= len(receiver.requests) <= 6
        assert len({each.id for each in receiver.requests}) == 1
        tried = (await get(client, f"/v1/webhooks/{made['id']}/deliveries"))["data"]
        assert [each["attempt"] for each in tried] == list(range(len(tried), 0, -1))
        assert tried[0]["next_try_at"] is None and tried[0]["answer"] == "said"
        asked = await make(client, receiver.url("/later"), events=["app.asked"])
        receiver.answer = lambda _: (503, {"Retry-After": "1"})
        await publish(client, "app.asked", 1)
        # Later than it may be tried, so this was the last attempt.
        await until(client, f"/v1/webhooks/{asked['id']}", enabled=False)


async def test_the_receiver_may_say_when_to_come_again(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    times: list[float] = []

    def answer(_: Delivered) -> tuple[int, dict[str, str]]:
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}) if len(times) == 1 else (200, {})

    receiver.answer = answer
    await make(client, receiver.url(), events=["app.busy"])
    await publish(client, "app.busy", 1)
    await receiver.until(lambda: receiver.taken)
    assert times[1] - times[0] >= 1


async def test_receivers_that_hang_hold_up_no_others(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    """Other tests keep the processors busy, which delays everything. So beyond a second it counts
    what deliveries take without those that hang, before them and after them."""
    crowd = await Crowd.made(client, receiver, 50)
    usual = await crowd.p99(rounds=5)
    await crowd.hang(10)
    beside_hanging = await crowd.p99(rounds=5)
    await crowd.unhang()
    assert beside_hanging < max(1, 2 * usual, 2 * await crowd.p99(rounds=5))


@pytest.mark.soak
async def test_ten_of_a_thousand_receivers_hang(serve: Serve, receiver: Receiver) -> None:
    """By the clock on the wall, since that is what is promised: campaigns run by themselves."""
    server = serve(limits__organization_webhooks=0, **SETTINGS)
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=PATIENCE) as client:
        crowd = await Crowd.made(client, receiver, 990)
        await crowd.hang(10)
        assert await crowd.p99(rounds=200) < 1


class Crowd:
    """Webhooks in shards of ten, one of which each event goes to, and others that hang."""

    def __init__(self, client: httpx.AsyncClient, receiver: Receiver, webhooks: int) -> None:
        self._client, self._receiver = client, receiver
        self._shards, self._hanging = webhooks // 10, 0
        self._taken: list[tuple[str, float]] = []
        receiver.answer = self._answer

    @classmethod
    async def made(cls, client: httpx.AsyncClient, receiver: Receiver, webhooks: int) -> Crowd:
        crowd = cls(client, receiver, webhooks)
        for number in range(webhooks):
            shard = {"shard": number % crowd._shards}
            url = receiver.url(f"/{number}")
            await make(client, url, events=["app.crowd"], filters=shard)
        return crowd

    async def hang(self, count: int) -> None:
        """Make so many that take every event and do not answer."""
        self._hanging = count
        for _ in range(count):
            await make(self._client, self._receiver.url("/hangs"), events=["app.crowd"])

    async def unhang(self) -> None:
        for webhook in (await get(self._client, "/v1/webhooks?limit=500"))["data"]:
            if webhook["url"] == self._receiver.url("/hangs"):
                await self._client.delete(f"/v1/webhooks/{webhook['id']}")

    async def p99(self, rounds: int) -> float:
        """Seconds from the publishing of an event, one a round, until one of its shard has it."""
        at: dict[str, float] = {}
        self._taken.clear()
        for number in range(rounds):
            began = time.monotonic()
            event = {"type": "app.crowd", "data": {"shard": number % self._shards}}
            at[(await self._client.post("/v1/events", json=event)).json()["id"]] = began
            await asyncio.sleep(0.1)  # a pace that one processor keeps up with
        await self._receiver.until(lambda: len(self._taken) == rounds * 10)
        hanging = [each for each in self._receiver.requests if each.path == "/hangs"]
        assert len(hanging) >= self._hanging
        waits = sorted(moment - at[name] for name, moment in self._taken)
        return waits[int(len(waits) * 0.99) - 1]

    def _answer(self, request: Delivered) -> tuple[int, dict[str, str]] | None:
        if request.path == "/hangs":
            return None
        self._taken.append((request.id, time.monotonic()))
        return 200, {}


async def test_events_are_sent_again(client: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await make(client, receiver.url(), events=["app.again"])
    path = f"/v1/webhooks/{made['id']}"
    ids = await publish(client, "app.again", *range(5))
    (other,) = await publish(client, "app.other", 1)
    await receiver.until(lambda: len(receiver.taken) == 5)
    cursors = [each.event["cursor"] for each in receiver.taken]
    await until(client, path, cursor=cursors[-1])
    again = await client.post(f"{path}/resend", json={"event_id": ids[1]})
    assert again.status_code == 202 and again.json()["resending"]
    await until(client, path, resending=False)
    assert [each.id for each in receiver.taken] == [*ids, ids[1]]
    span = {"since": cursors[1], "until": cursors[3]}
    assert (await client.post(f"{path}/resend", json=span)).status_code == 202
    await until(client, path, resending=False)
    (last,) = await publish(client, "app.again", 5)
    await receiver.until(lambda: len(receiver.taken) == 9)
    assert [each.id for each in receiver.taken][6:] == [ids[2], ids[3], last]
    for body, status in (
        ({"event_id": other}, 422),
        ({"event_id": "evt_00000000000000000000"}, 404),
        ({}, 422),
        ({"event_id": ids[0], "since": cursors[0]}, 422),
    ):
        assert (await client.post(f"{path}/resend", json=body)).status_code == status


async def test_a_webhook_is_tried_out(client: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await make(client, receiver.url(), enabled=False)
    tried = (await client.post(f"/v1/webhooks/{made['id']}/test")).json()
    assert tried["status"] == 200 and tried["error"] is None
    (request,) = receiver.taken
    assert request.event["type"] == "webhook.test" and request.id == tried["event_id"]
    Webhook(made["secret"]).verify(request.body, request.headers)
    await receiver.kill()
    tried = (await client.post(f"/v1/webhooks/{made['id']}/test")).json()
    assert tried["status"] is None and "could not be asked" in tried["error"]


async def test_a_name_that_leads_inside_is_refused_as_it_is_connected(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(client, f"https://localhost:{receiver.port}/", enabled=False)
    tried = (await client.post(f"/v1/webhooks/{made['id']}/test")).json()
    assert tried["status"] is None and "not on the public internet" in tried["error"]
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://hooks.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://169.254.169.254/"}, "url"),
        ({"url": "https://[::ffff:127.0.0.1]/"}, "url"),
        ({"url": "https://[fd00::1]/"}, "url"),
        ({"url": "https://user:password@hooks.example/"}, "url"),
        ({"url": "https://hooks.example/", "events": ["webhook.*"]}, "events"),
        ({"url": "https://hooks.example/", "events": ["a..b"]}, "events"),
        ({"url": "https://hooks.example/", "events": ["sesion.*"]}, "events"),
        ({"url": "https://hooks.example/", "events": ["session.*", "session.complete"]}, "events"),
        ({"url": "https://hooks.example/", "headers": {"Host": "a"}}, "headers.Host"),
        ({"url": "https://hooks.example/", "headers": {"webhook-id": "a"}}, "headers.webhook-id"),
        ({"url": "https://hooks.example/", "headers": {"X-A": "a\r\nb: c"}}, "headers.X-A"),
        ({"url": "https://hooks.example/", "secret": "whsec_c2hvcnQ="}, "secret"),
        ({"url": "https://hooks.example/", "format": "xml"}, "format"),
    ],
)
async def test_what_is_wrong_is_said(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v1/webhooks", json=body)
    assert answer.status_code == 422
    assert field in answer.json()["error"]["details"]["fields"]


async def test_a_callback_is_told_the_end_of_its_turn(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    callback = {"callback_url": receiver.url("/turn"), "callback_secret": SECRET}
    body = {"agent_id": "guide", "goal": "count to 2", **callback}
    first = await client.post(
        "/v1/sessions/execute", json=body, headers={"Idempotency-Key": "callback"}
    )
    session_id = first.json()["session_id"]
    await receiver.until(lambda: receiver.of("/turn"))
    (told,) = receiver.of("/turn")
    Webhook(SECRET).verify(told.body, told.headers)
    assert told.event["type"] == "session.completed"
    assert (told.event["data"]["session_id"], told.event["data"]["turn"]) == (session_id, 1)
    # It is over with its turn; an execute that joins the turn is told its end as well.
    await over(client, told.id)
    await client.post("/v1/sessions/execute", json=body, headers={"Idempotency-Key": "callback"})
    await receiver.until(lambda: len(receiver.of("/turn")) == 2)
    assert receiver.of("/turn")[1].id == told.id
    await over(client, told.id)
    await client.post(f"/v1/sessions/{session_id}/execute", json={"goal": "count to 1"})
    # That of a session is told of each turn, and ends with the session.
    made = await client.post(
        "/v1/sessions",
        json={"agent_id": "guide", "callback_url": receiver.url("/all"), "callback_secret": SECRET},
    )
    other = made.json()["session_id"]
    for _ in range(2):
        await client.post(f"/v1/sessions/{other}/execute", json={"goal": "count to 1"})
    await client.delete(f"/v1/sessions/{other}")
    await receiver.until(lambda: len(receiver.of("/all")) == 3)
    kinds = [each.event["type"] for each in receiver.of("/all")]
    assert kinds == ["session.completed", "session.completed", "session.deleted"]
    assert {each.event["data"]["session_id"] for each in receiver.of("/all")} == {other}
    assert len(receiver.of("/turn")) == 2
    listed = await get(client, "/v1/webhooks?limit=500")
    assert not {receiver.url("/turn"), receiver.url("/all")} & {
        each["url"] for each in listed["data"]
    }


async def test_a_callback_of_a_socket_is_told_as_well(
    server: ServerProcess, receiver: Receiver
) -> None:
    address = server.url.replace("http", "ws") + "/v1/ws"
    execute = {"type": "execute", "agent_id": "guide", "goal": "count to 1", "id": 1}
    async with asyncio.timeout(PATIENCE), connect(address, additional_headers=bearer()) as socket:
        await socket.send(dumps(execute | {"callback_url": receiver.url("/socket")}))
        refused = loads(await socket.recv())
        assert (refused["type"], refused["code"]) == ("error", "INVALID_REQUEST")
        callback = {"callback_url": receiver.url("/socket"), "callback_secret": SECRET}
        await socket.send(dumps(execute | callback))
        started = loads(await socket.recv())
        await receiver.until(lambda: receiver.of("/socket"))
    (told,) = receiver.of("/socket")
    Webhook(SECRET).verify(told.body, told.headers)
    assert told.event["data"]["session_id"] == started["session_id"]


async def test_a_pattern_that_matches_nothing_is_told_the_nearest(
    client: httpx.AsyncClient,
) -> None:
    for pattern, near in (
        ("session.complete", "session.completed"),
        ("agnet.error", "agent.error"),
    ):
        body = {"url": "https://hooks.example/", "events": [pattern]}
        answer = await client.post("/v1/webhooks", json=body)
        assert f"did you mean {near}?" in answer.json()["error"]["details"]["fields"]["events"]


async def test_a_test_leaves_with_its_client_and_keeps_no_place_of_healthy_ones(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    """An organization has 50 places for deliveries, and 12 for receivers that may not answer."""
    receiver.answer = lambda request: None if request.path == "/hangs" else (200, {})
    hangs = await make(client, receiver.url("/hangs"), enabled=False)
    await make(client, receiver.url("/well"), events=["app.well"])
    path = f"/v1/webhooks/{hangs['id']}/test"
    tests = [asyncio.create_task(client.post(path)) for _ in range(60)]
    await receiver.until(lambda: len(receiver.requests) == 12)
    await publish(client, "app.well", 1)
    await receiver.until(lambda: receiver.of("/well"))
    for test in tests:
        test.cancel()
    await asyncio.wait(tests)
    receiver.answer = lambda _request: (302, {"Location": "/a\x1b[31mred\x07"})
    answer = await client.post(path)
    assert answer.status_code == 200, answer.text
    error = answer.json()["error"]
    assert error.isprintable() and "302 Found" in error


async def over(client: httpx.AsyncClient, event_id: str) -> None:
    """Wait until the callback that was told this event is no more."""
    filters = f'{{"event_id": "{event_id}"}}'
    async with asyncio.timeout(PATIENCE):
        while not (page := await get(client, f"/v1/events?events=webhook.sent&filters={filters}"))[
            "events"
        ]:
            await asyncio.sleep(0.02)
        name = page["events"][0]["data"]["webhook_id"]
        while (await client.get(f"/v1/webhooks/{name}")).status_code != 404:
            await asyncio.sleep(0.02)


async def test_the_clients_manage_webhooks_and_check_what_comes(
    server: ServerProcess, receiver: Receiver
) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        made = await client.webhooks.create(receiver.url(), events=["app.sdk"], format="event")
        assert made.secret is not None and made.secret not in repr(made)
        changed = await client.webhooks.update(made.id, description="of the SDK")
        assert changed.description == "of the SDK"
        assert (await client.webhooks.get(made.id)).secret is None
        assert made.id in {each.id for each in await client.webhooks.list(limit=500)}
        rotated = await client.webhooks.rotate(made.id)
        same = await client.webhooks.rotate(made.id, rotated.secret)
        assert same.secret == rotated.secret != made.secret
        tried = await client.webhooks.test(made.id)
        assert (tried.status, tried.error, tried.answer) == (200, None, "said")
        assert [each.id for each in await client.webhooks.deliveries(made.id, failed=False)] == [
            tried.id
        ]
        (request,) = receiver.taken
        for secret in (made.secret, rotated.secret, [SECRET, made.secret]):
            event = verify_webhook(request.body, request.headers, secret or "")
            assert event["type"] == "webhook.test" and event["id"] == tried.event_id
        with pytest.raises(WebhookVerificationError):
            verify_webhook(request.body, request.headers, SECRET)
        published = await client.events.publish("app.sdk", {})
        await receiver.until(lambda: len(receiver.taken) == 2)
        async with asyncio.timeout(PATIENCE):
            while (await client.webhooks.get(made.id)).cursor != published.cursor:
                await asyncio.sleep(0.02)
        assert (await client.webhooks.resend(made.id, event_id=published.id)).resending
        await receiver.until(lambda: len(receiver.taken) == 3)
        await client.webhooks.delete(made.id)
        with pytest.raises(NotFound):
            await client.webhooks.get(made.id)
        answer = client.sessions.execute(
            agent_id="guide",
            goal="count to 1",
            callback_url=receiver.url("/sdk"),
            callback_secret=(secret := new_webhook_secret()),
        )
        await answer
        await receiver.until(lambda: receiver.of("/sdk"))
        told = receiver.of("/sdk")[0]
        assert verify_webhook(told.body, told.headers, secret)["type"] == "session.completed"


async def test_a_callback_needs_its_secret_and_the_scope(
    server: ServerProcess, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    body = {"agent_id": "guide", "goal": "count to 1", "callback_url": receiver.url()}
    answer = await client.post("/v1/sessions/execute", json=body)
    assert answer.status_code == 422
    assert list(answer.json()["error"]["details"]["fields"]) == ["callback_secret"]
    wanted = {"name": "no webhooks", "scopes": ["sessions:write"]}
    key = (await client.post("/v1/keys", json=wanted)).json()["key"]
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(key)) as other:
        answer = await other.post("/v1/sessions/execute", json={**body, "callback_secret": SECRET})
        assert answer.status_code == 403


async def test_nothing_is_begun_whose_callback_cannot_be_kept(
    serve: Serve, receiver: Receiver
) -> None:
    server = serve(limits__organization_callbacks=1, **SETTINGS)
    callback = {"callback_url": receiver.url("/one"), "callback_secret": SECRET}
    body = {"agent_id": "guide", **callback}
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=PATIENCE) as client:
        made = (await client.post("/v1/sessions", json=body)).json()["session_id"]
        for path, goal in (
            ("", {}),
            ("/execute", {"goal": "a"}),
            (f"/{made}/execute", {"goal": "a"}),
        ):
            turn = callback if made in path else body
            refused = await client.post(f"/v1/sessions{path}", json=turn | goal)
            assert (refused.status_code, refused.json()["error"]["details"]) == (409, {"most": 1})
        address = server.url.replace("http", "ws") + "/v1/ws"
        async with connect(address, additional_headers=bearer()) as socket:
            await socket.send(dumps({"type": "execute", "goal": "a", **body}))
            assert loads(await socket.recv())["code"] == "CONFLICT"
        (only,) = (await get(client, "/v1/sessions"))["data"]
        assert (only["session_id"], only["turns"]) == (made, 0)
