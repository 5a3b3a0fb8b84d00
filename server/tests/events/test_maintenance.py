"""What is forgotten by the timer: events, remembered requests."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from outbox_support import FaultyLog, Stores, client_of, entries_of, events_of
from resonantgenesis_server import maintenance as housekeeping
from resonantgenesis_server.app import open_parts
from resonantgenesis_server.codec.events import cursor_of, entry_of
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.datadir import clock as clock_file
from resonantgenesis_server.events import service as event_log
from resonantgenesis_server.events.service import EventService
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.log.base import Append, LogUnavailable
from resonantgenesis_server.maintenance import Housekeeper, RetentionJob, old_events, old_requests
from resonantgenesis_server.model import clock as model_clock
from resonantgenesis_server.model.errors import PositionExpired
from resonantgenesis_server.model.events import NewEvent, event_stream
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.records.base import Once, RequestName
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio

KEPT = 30 * 86_400.0


class Clock:
    """What time it is where the age of events is told."""

    def __init__(self) -> None:
        self.now = time.time()

    def made(self, **_given: Any) -> model_clock.Clock:
        """What is added to `now` has passed."""
        return model_clock.Clock(lambda: self.now, lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(event_log, "Clock", made.made)
    monkeypatch.setattr(clock_file, "Clock", made.made)
    return made


async def write(log: Any, org: str, *names: str) -> None:
    entries = [entry_of(NewEvent(f"evt_{name}", "app.test", {"name": name})) for name in names]
    await log.append(Append(event_stream(org), entries))


async def later(log: Any, org: str) -> int:
    """A time after all of the organization's events, in microseconds; the next one is younger."""
    last = (await entries_of(log, org))[-1].at + 1
    while time.time_ns() // 1_000 <= last:
        await asyncio.sleep(0.001)
    return last


def rfc3339(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat()


async def test_events_go_when_their_time_is_over(stores: Stores, clock: Clock) -> None:
    one, two = await stores.organization("one"), await stores.organization("two")
    events = EventService(stores.log, Hub(), max_data=1_000)
    job = old_events(stores.records.organizations, events, KEPT)
    await write(stores.log, one, "a", "b", "c")
    await write(stores.log, two, "x", "y")
    between = await later(stores.log, two)
    await write(stores.log, one, "d", "e")
    assert await job.run() == 0
    clock.now = between / 1e6 + KEPT
    assert await job.run() == 3
    # The youngest of those that are too old stays, as a mark of how far back the log reaches.
    assert [event["data"]["name"] for event in await stores.events(one)] == ["c", "d", "e"]
    assert [event["data"]["name"] for event in await stores.events(two)] == ["y"]
    assert await job.run() == 0


async def test_only_a_reader_of_removed_events_is_refused(stores: Stores, clock: Clock) -> None:
    org = await stores.organization()
    principal = Principal(org, "key_1", frozenset({"*"}))
    events = EventService(stores.log, Hub(), max_data=1_000)
    await write(stores.log, org, "a")
    first = (await entries_of(stores.log, org))[0].at
    await later(stores.log, org)
    await write(stores.log, org, "b")
    over = await later(stores.log, org)
    await write(stores.log, org, "c")
    clock.now = over / 1e6 + KEPT
    await events.trim_before(org, KEPT)
    epoch = stores.log.epoch
    for since in (rfc3339(first), "2000-01-01T00:00:00Z", cursor_of(epoch, 0)):
        with pytest.raises(PositionExpired) as raised:
            await events.place(principal, since)
        assert raised.value.details == {"earliest": cursor_of(epoch, 1), "epoch": epoch}
        assert await events.place(principal, cursor_of(epoch, 1)) == (1, False)
    # Within the time that is kept nothing is lost.
    assert await events.place(principal, rfc3339(over)) == (2, False)
    # Also when no event of that time is left, or ever was.
    clock.now += 10 * KEPT
    await events.trim_before(org, KEPT)
    assert len(await stores.events(org)) == 1
    assert await events.place(principal, rfc3339(round(clock.now * 1e6))) == (3, False)
    with pytest.raises(PositionExpired):
        await events.place(principal, rfc3339(over))


async def test_a_large_trim_goes_in_steps(stores: Stores, clock: Clock) -> None:
    org = await stores.organization()
    log = FaultyLog(stores.log)
    for start in range(0, 25_000, 5_000):
        await write(log, org, *(str(number) for number in range(start, start + 5_000)))
    clock.now += 2 * KEPT
    events = EventService(log, Hub(), max_data=1_000)
    assert await events.trim_before(org, KEPT) == 24_999
    stream = event_stream(org)
    assert log.trims == [(stream, 10_001), (stream, 20_001), (stream, 25_000)]
    assert [entry.position for entry in await entries_of(log, org)] == [25_000]


async def test_the_server_answers_410_with_the_earliest(settings: Settings, clock: Clock) -> None:
    async with open_parts(settings) as parts, client_of(parts) as client:
        for number in range(3):
            body = {"type": "app.test", "data": {"n": number}}
            assert (await client.post("/v1/events", json=body)).status_code == 201
        await parts.housekeeper.close()  # its own first round would race with ours
        clock.now += 2 * settings.limits.event_retention
        removed = await parts.housekeeper.sweep()
        assert removed["events"] == 3  # system.node.started and two of ours
        for since in ("2020-01-01T00:00:00Z", cursor_of(parts.log.epoch, 0)):
            gone = await client.get("/v1/events", params={"since": since})
            assert (gone.status_code, gone.json()["error"]["code"]) == (410, "POSITION_EXPIRED")
            earliest = gone.json()["error"]["details"]["earliest"]
            found = await client.get("/v1/events", params={"since": earliest})
            assert [event["data"] for event in found.json()["events"]] == [{"n": 2}]
        everything = await client.get("/v1/events")
        assert [event["data"] for event in everything.json()["events"]] == [{"n": 2}]


async def test_acts_are_kept_in_the_audit_log_for_its_own_time(
    settings: Settings, clock: Clock
) -> None:
    limits = settings.limits
    assert limits.audit_retention > 2 * limits.event_retention
    async with open_parts(settings) as parts, client_of(parts) as client:

        async def acts() -> list[str]:
            page = (await client.get("/v1/events?audit=true")).json()
            return [event["data"]["target"] for event in page["events"]]

        made = []
        for number in range(3):
            body = {"name": f"k{number}", "scopes": ["*"]}
            made.append((await client.post("/v1/keys", json=body)).json()["id"])
        async with asyncio.timeout(10):  # acts come to the log behind their answers
            while await acts() != made:
                await asyncio.sleep(0.01)
        await parts.housekeeper.close()  # its own first round would race with ours
        clock.now += 2 * limits.event_retention
        removed = await parts.housekeeper.sweep()
        assert (removed["events"], removed["audit"]) == (3, 0)
        assert await acts() == made
        clock.now += limits.audit_retention
        assert (await parts.housekeeper.sweep())["audit"] == 2
        assert await acts() == made[2:]  # the youngest stays, as a mark
        first = cursor_of(parts.log.epoch, 0)
        gone = await client.get("/v1/events", params={"audit": True, "cursor": first})
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "POSITION_EXPIRED")


async def test_remembered_requests_go_when_their_window_is_over(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "_PURGED_PER_CALL", 2)
    org = await stores.organization()

    async def remember(records: Records, key: str) -> None:
        name = RequestName(org, "", "/v1/agents", key)
        await records.idempotency.remember(Once(name, "f", 100), None)

    url = stores.store or f"sqlite:///{stores.folder / 'records.db'}"
    past = await Records.open(url, clock=lambda: time.time() - 200)
    for number in range(5):
        await remember(past, f"old{number}")
    await past.close()
    await remember(stores.records, "new")
    job = old_requests(stores.records.idempotency, 100)
    assert await job.run() == 5
    assert await job.run() == 0
    name = RequestName(org, "", "/v1/agents", "new")
    assert await stores.records.idempotency.get(name, window=100) is not None


async def test_a_job_that_fails_holds_up_no_other_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(housekeeping, "_INTERVAL", 0.001)
    calls = {"bad": 0, "good": 0}
    thrice = asyncio.Event()

    async def bad() -> int:
        calls["bad"] += 1
        raise LogUnavailable("away")

    async def good() -> int:
        calls["good"] += 1
        if calls["good"] == 3:
            thrice.set()
        return calls["good"]

    keeper = Housekeeper([RetentionJob("bad", bad), RetentionJob("good", good)])
    assert await keeper.sweep() == {"good": 1}
    keeper.start()
    async with asyncio.timeout(10):
        await thrice.wait()
    await keeper.close()
    assert calls["bad"] >= 3
    stopped = dict(calls)
    await asyncio.sleep(0.02)
    assert calls == stopped


async def test_the_server_runs_every_job(settings: Settings) -> None:
    async with open_parts(settings) as parts:
        assert await parts.housekeeper.sweep() == {
            "sessions": 0,
            "audit": 0,
            "events": 0,
            "requests": 0,
            "usage": 0,
            "deliveries": 0,
            "files": 0,
            "forks": 0,
        }
        organizations = await parts.records.organizations.all()
        assert len(await events_of(parts.log, organizations.items[0].id)) == 1
