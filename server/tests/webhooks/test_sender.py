"""A sender over a real log: where it goes on when the log is not what it was."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from resonantgenesis_server.agents.engines.http.endpoint import EndpointRecords
from resonantgenesis_server.codec.events import events_append
from resonantgenesis_server.config.webhooks import WebhookSettings
from resonantgenesis_server.events.service import EventService
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.events import NewEvent, event_stream
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.webhooks import Progress, WebhookRecord
from resonantgenesis_server.webhooks.book import DeliveryBook
from resonantgenesis_server.webhooks.poster import Poster
from resonantgenesis_server.webhooks.sender import DeliveryParts, Sender
from support.receiver import Receiver

pytestmark = pytest.mark.anyio
SETTINGS = WebhookSettings(allow_hosts=("127.0.0.1",), first_retry=0.05)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rig:
    """A log with five events, a receiver, and a webhook that has had two of them."""

    log: SqliteLog
    records: Records
    receiver: Receiver
    organization_id: str
    endpoints: EndpointRecords
    events: EventService

    @classmethod
    async def open(cls, folder: Path) -> Rig:
        rig = cls()
        hub = Hub()
        rig.log = await SqliteLog.open(folder / "log.db", on_commit=hub.publish)
        rig.records = await Records.open(f"sqlite:///{folder / 'records.db'}")
        rig.organization_id = (await rig.records.organizations.create("one")).id
        rig.receiver = Receiver()
        await rig.receiver.start()
        rig.endpoints = EndpointRecords()
        rig.events = EventService(rig.log, hub, max_data=1_000)
        await rig.publish(*range(1, 6))
        return rig

    async def publish(self, *numbers: int) -> None:
        for number in numbers:
            event = NewEvent(f"evt_{number}", "app.sent", {"number": number})
            await self.log.append(*events_append(self.organization_id, [event]))

    async def webhook(self, **progress: object) -> WebhookRecord:
        endpoint, _ = self.endpoints.make(self.receiver.url(), None)
        page = await self.log.read(event_stream(self.organization_id), 1, limit=1)
        place = Progress(self.log.epoch, 2, page.entries[0].at)
        made = WebhookRecord(
            "wh_1",
            self.organization_id,
            endpoint,
            replace(place, **progress),  # type: ignore[arg-type]
        )
        return await self.records.webhooks.create(made)

    async def deliver(self, webhook: WebhookRecord, last: int | str) -> WebhookRecord:
        """The webhook as it is kept once the receiver has had this event."""

        async def settled() -> None:
            """There is no outbox to settle."""

        poster = Poster(SETTINGS, self.endpoints)
        book = DeliveryBook(self.records.webhooks, self.records.deliveries, settled)
        sender = Sender(webhook, DeliveryParts(self.events, poster, book, SETTINGS, time.time))
        sender.start()
        await self.receiver.until(lambda: f"evt_{last}" in self.ids)
        await sender.close()
        await book.close()
        await poster.close()
        kept = await self.records.webhooks.get(self.organization_id, webhook.id)
        assert kept is not None
        return kept

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.receiver.taken]

    async def close(self) -> None:
        await self.receiver.kill()
        await self.records.close()
        await self.log.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    opened = await Rig.open(tmp_path)
    yield opened
    await opened.close()


async def test_it_goes_on_behind_what_it_has_had(rig: Rig) -> None:
    kept = await rig.deliver(await rig.webhook(), 5)
    assert rig.ids == ["evt_3", "evt_4", "evt_5"]
    assert (kept.progress.position, kept.progress.lost_before) == (5, None)


async def test_it_says_what_was_removed_before_it_had_it(rig: Rig) -> None:
    webhook = await rig.webhook()
    await rig.log.trim(event_stream(rig.organization_id), 5)
    kept = await rig.deliver(webhook, 5)
    assert rig.ids == ["evt_5"]
    assert kept.progress.lost_before is not None


async def test_in_a_log_that_was_restored_it_goes_on_by_the_time(rig: Rig) -> None:
    webhook = await rig.webhook(epoch="another", position=900)
    kept = await rig.deliver(webhook, 5)
    assert rig.ids == ["evt_2", "evt_3", "evt_4", "evt_5"]  # that of its time comes once more
    assert (kept.progress.epoch, kept.progress.position) == (rig.log.epoch, 5)


async def test_events_that_are_sent_again_come_first(rig: Rig) -> None:
    kept = await rig.deliver(await rig.webhook(resend_after=0, resend_until=1), 5)
    assert rig.ids == ["evt_1", "evt_3", "evt_4", "evt_5"]
    assert kept.progress.resend_until is None


async def test_a_callback_is_sent_its_session_alone_and_is_over_with_it(rig: Rig) -> None:
    webhook = await rig.webhook()
    callback = replace(webhook, session_id="sess_1", turn=2)
    for turn, session in ((1, "sess_1"), (2, "sess_2"), (2, "sess_1")):
        data = {"session_id": session, "turn": turn}
        event = NewEvent(f"evt_{session}_{turn}", "session.completed", data)
        await rig.log.append(*events_append(rig.organization_id, [event]))
    with pytest.raises(AssertionError):  # its row is gone
        await rig.deliver(callback, "sess_1_2")
    assert rig.ids == ["evt_sess_1_2"]
