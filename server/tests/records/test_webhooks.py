"""Webhooks as the records keep them, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from resonantgenesis_server.model.errors import Conflict
from resonantgenesis_server.model.events import NewEvent
from resonantgenesis_server.records import webhooks
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.webhooks import (
    Advance,
    DeliveryRecord,
    Progress,
    WebhookRecord,
)

pytestmark = pytest.mark.anyio


def webhook(org: Organization, name: str, **fields: object) -> WebhookRecord:
    made = WebhookRecord(
        name,
        org.id,
        {"url": "https://hooks.example/", "secret": "sealed"},
        Progress("e", 7, 1_000),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def delivery(number: int, of: str = "wh_1", error: str | None = None) -> DeliveryRecord:
    return DeliveryRecord(
        f"dlv_{number:04}", of, f"evt_{number}", "app.a", 1, 200, error, "said", 3, float(number)
    )


async def test_what_is_kept_comes_back(
    records: Records, org: Organization, other: Organization
) -> None:
    kept = await records.webhooks.create(
        webhook(org, "wh_1", events=("app.*",), filters={"a": 1}, description="d")
    )
    assert await records.webhooks.get(org.id, "wh_1") == kept
    assert kept.url == "https://hooks.example/" and kept.created_at == kept.updated_at
    assert await records.webhooks.get(other.id, "wh_1") is None
    await records.webhooks.create(webhook(org, "wh_2", session_id="sess_1", turn=1))
    page = await records.webhooks.list(org.id)
    assert [each.id for each in page.items] == ["wh_1"]  # a callback is no webhook of the list
    assert not await records.webhooks.delete(other.id, "wh_1")
    await records.webhooks.advance([], [delivery(1)])
    assert await records.webhooks.delete(org.id, "wh_1")
    assert (await records.deliveries.list("wh_1")).items == []


async def test_limits_are_of_a_kind_and_callbacks_are_made_once(
    records: Records, org: Organization
) -> None:
    await records.webhooks.create(webhook(org, "wh_1"), limit=1)
    with pytest.raises(Conflict):
        await records.webhooks.create(webhook(org, "wh_2"), limit=1)
    first = webhook(org, "wh_3", session_id="sess_1")
    made = await records.webhooks.create(first, limit=2)
    later = replace(first, progress=Progress("e", 9, 9))
    assert await records.webhooks.create(later, limit=2) == made


async def test_each_change_of_an_active_webhook_changes_the_mark(
    records: Records, org: Organization
) -> None:
    marks = [await records.webhooks.mark()]
    made = await records.webhooks.create(webhook(org, "wh_1"))
    marks.append(await records.webhooks.mark())
    await records.webhooks.change(org.id, "wh_1", lambda _: {"description": "new"})
    marks.append(await records.webhooks.mark())
    assert len(set(marks)) == 3
    assert (await records.webhooks.revisions()).keys() == {"wh_1"}
    changed = (await records.webhooks.load(["wh_1"]))[0]
    assert changed.description == "new" and changed.revision != made.revision
    await records.organizations.update(org.id, disabled=True)
    assert await records.webhooks.revisions() == {}


async def test_a_progress_only_goes_forward_and_not_over_a_change(
    records: Records, org: Organization
) -> None:
    made = await records.webhooks.create(webhook(org, "wh_1"))

    async def position_after(revision: int, position: int) -> int:
        progress = Progress("e", position, 2_000, failing_since=5.5, attempts=2, next_try_at=6.0)
        event = NewEvent(f"evt_{position}", "webhook.sent", {})
        advance = Advance("wh_1", revision, progress)
        await records.webhooks.advance([advance], [], [(org.id, event)])
        found = await records.webhooks.get(org.id, "wh_1")
        assert found is not None
        return found.progress.position

    assert await position_after(made.revision, 9) == 9
    assert await position_after(made.revision, 8) == 9
    assert [row.event.id for row in await records.outbox.pending()] == ["evt_9", "evt_8"]
    await records.webhooks.change(org.id, "wh_1", lambda _: {"description": "new"})
    assert await position_after(made.revision, 10) == 9


async def test_what_delivery_disables_and_what_is_over(records: Records, org: Organization) -> None:
    first = await records.webhooks.create(webhook(org, "wh_1"))
    second = await records.webhooks.create(webhook(org, "wh_2", session_id="sess_1"))
    progress = replace(first.progress, failing_since=1.0)
    await records.webhooks.advance(
        [
            Advance("wh_1", first.revision, progress, disabled_reason="gone"),
            Advance("wh_2", second.revision, progress, is_over=True),
        ],
        [],
    )
    assert await records.webhooks.revisions() == {}
    found = await records.webhooks.get(org.id, "wh_1")
    assert found is not None and (found.enabled, found.disabled_reason) == (False, "gone")
    assert await records.webhooks.get(org.id, "wh_2") is None


async def test_deliveries_are_bounded(
    records: Records, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "KEPT_DELIVERIES", 3)
    made = [delivery(number, error="no" if number % 2 else None) for number in range(6)]
    await records.webhooks.advance([], [*made, delivery(9, "wh_2")])
    await records.deliveries.trim("wh_1")
    page = await records.deliveries.list("wh_1", limit=2)
    assert list(page.items) == [made[5], made[4]] and page.next_cursor is not None
    rest = await records.deliveries.list("wh_1", limit=2, cursor=page.next_cursor)
    assert list(rest.items) == [made[3]]
    failed = await records.deliveries.list("wh_1", failed=True)
    assert list(failed.items) == [made[5], made[3]]
    assert await records.deliveries.purge(5.0, 1) == 1
    assert await records.deliveries.purge(5.0, 10) == 1
    assert list((await records.deliveries.list("wh_1")).items) == [made[5]]
    assert len((await records.deliveries.list("wh_2")).items) == 1
