"""`/v1/webhooks`: addresses that events are sent to, and what was sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import Response

from ...agents.engines.http.endpoint import MAX_URL
from ...codec.events import cursor_of
from ...codec.times import rfc3339, rfc3339_or_none
from ...model.errors import Forbidden, InvalidRequest
from ...model.principal import Principal
from ...records.webhooks import DeliveryRecord, WebhookRecord
from ...webhooks.message import Format
from ...webhooks.service import MAX_HEADER, MAX_HEADERS, NewWebhook, WebhookService
from ..acting import Acting
from ..auth.authenticator import scoped
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import (
    NO_NUL,
    Body,
    FilterObject,
    PageBody,
    PageCursor,
    PageLimit,
    PatternList,
    page_body,
)
from ..waiting import waiting_for

PATH = "/v1/webhooks"

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL, pattern=NO_NUL)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Description = Annotated[str, StringConstraints(max_length=500, pattern=NO_NUL)]
Headers = Annotated[
    dict[str, Annotated[str, Field(max_length=MAX_HEADER)]], Field(max_length=MAX_HEADERS)
]
Place = Annotated[str, StringConstraints(min_length=1, max_length=200)]
WebhookId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class NewWebhookBody(Body):
    url: Url
    description: Description = ""
    events: PatternList | None = Field(
        default=None, description="Types and patterns; null: every type but `webhook.*`."
    )
    filters: FilterObject = Field(default_factory=dict)
    format: Format = "event"
    headers: Headers = Field(default_factory=dict, description="Sent with each delivery.")
    secret: Secret | None = Field(
        default=None, description="`whsec_` and base64 of 24 to 64 bytes; null: the server's own."
    )
    enabled: bool = True

    def wanted(self) -> NewWebhook:
        return NewWebhook(
            self.url,
            None if self.events is None else tuple(self.events),
            self.filters,
            self.description,
            self.format,
            self.headers,
            self.secret,
            self.enabled,
        )


class WebhookPatch(Body):
    """Only the fields that are sent change."""

    url: Url = Field(default_factory=str)
    description: Description = ""
    events: PatternList | None = None
    filters: FilterObject = Field(default_factory=dict)
    format: Format = "event"
    headers: Headers = Field(default_factory=dict, description="In the place of all others.")
    enabled: bool = True
    skip_missed: bool = Field(
        default=False, description="Leave out what is not delivered yet; go on with what happens."
    )

    def changes(self) -> dict[str, Any]:
        names = self.model_fields_set - {"skip_missed"}
        sent = {name: getattr(self, name) for name in names}
        if sent.get("events") is not None:
            sent["events"] = tuple(sent["events"])
        return sent


class RotateBody(Body):
    secret: Secret | None = Field(default=None, description="null: the server makes one.")


class ResendBody(Body):
    """One event, or those of a range."""

    event_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    since: Place | None = Field(default=None, description="A time (inclusive) or a cursor.")
    until: Place | None = Field(default=None, description="A time (exclusive) or a cursor.")


class WebhookBody(BaseModel):
    id: str
    url: str
    description: str
    events: list[str] | None
    filters: dict[str, Any]
    format: Format
    headers: list[str] = Field(description="Their names; their values are not shown.")
    enabled: bool
    disabled_reason: str | None = Field(
        description="Why the server disabled it: `gone` (410), or `failing`."
    )
    created_at: str
    updated_at: str
    cursor: str = Field(description="Of the last event that it has got, or is not sent.")
    resending: bool = Field(description="Events are being sent again.")
    failing_since: str | None = Field(description="Of the event that the receiver does not take.")
    attempts: int = Field(description="To deliver that event.")
    next_try_at: str | None
    lost_before: str | None = Field(
        description="Events before this time were removed before it could be sent them."
    )


class WebhookSecretBody(WebhookBody):
    """A webhook whose secret is new. It is shown in this answer only."""

    secret: str


class DeliveryBody(BaseModel):
    """One attempt."""

    id: str
    event_id: str
    event_type: str
    attempt: int
    status: int | None = Field(description="Of the answer; null: there was none.")
    error: str | None = Field(description="null: the receiver has taken it.")
    answer: str | None = Field(description="The first 1,000 bytes.")
    duration_ms: int
    created_at: str
    next_try_at: str | None


Reader = Annotated[Principal, Depends(scoped("webhooks:read"))]


def _unbound(principal: Principal) -> Principal:
    """A webhook gets the events of its organization, so a caller that sees less has no access."""
    if principal.is_bound:
        raise Forbidden("a token bound to a subject, session or agent has no access to webhooks")
    return principal


async def _reads(principal: Reader) -> Principal:
    return _unbound(principal)


async def _writes(
    principal: Annotated[Principal, Depends(scoped("webhooks:write"))],
) -> Principal:
    return _unbound(principal)


UnboundReader = Annotated[Principal, Depends(_reads)]
UnboundWriter = Annotated[Principal, Depends(_writes)]


def webhooks_router(service: WebhookService, once: IdempotentPosts) -> APIRouter:
    router = api_router(tag="webhooks")

    @router.post(
        PATH,
        status_code=201,
        response_model=WebhookSecretBody,
        responses=documented_errors(409, body=True),
        operation_id="create_webhook",
    )
    async def create(
        body: NewWebhookBody, principal: UnboundWriter, actor: Acting, key: IdempotencyKey = None
    ) -> Response:
        """Make a webhook. It is sent what happens from now on; its secret is shown once."""

        async def make(making: Making) -> BaseModel:
            made, secret = await service.create(
                principal, body.wanted(), making.showing_secret(lambda webhook: webhook.id), actor
            )
            return _with_secret(made, secret)

        return await once.run(principal, PATH, key, body, make)

    @router.get(PATH, responses=documented_errors(), operation_id="list_webhooks")
    async def list_webhooks(
        principal: UnboundReader, limit: PageLimit = 50, cursor: PageCursor = None
    ) -> PageBody[WebhookBody]:
        """The organization's webhooks, newest first."""
        return page_body(await service.list(principal, limit=limit, cursor=cursor), _body)

    @router.get(
        PATH + "/{webhook_id}", responses=documented_errors(404), operation_id="get_webhook"
    )
    async def get(webhook_id: WebhookId, principal: UnboundReader) -> WebhookBody:
        """One webhook, and how far it has got."""
        return _body(await service.get(principal, webhook_id))

    @router.patch(
        PATH + "/{webhook_id}",
        responses=documented_errors(404, body=True),
        operation_id="update_webhook",
    )
    async def update(
        webhook_id: WebhookId, body: WebhookPatch, principal: UnboundWriter, actor: Acting
    ) -> WebhookBody:
        """Change the fields that are sent. An enabled webhook goes on where it was."""
        changed = await service.update(
            principal, webhook_id, body.changes(), skip_missed=body.skip_missed, actor=actor
        )
        return _body(changed)

    @router.delete(
        PATH + "/{webhook_id}",
        status_code=204,
        responses=documented_errors(404),
        operation_id="delete_webhook",
    )
    async def delete(webhook_id: WebhookId, principal: UnboundWriter, actor: Acting) -> None:
        """Delete a webhook. A delivery that is under way ends."""
        await service.delete(principal, webhook_id, actor)

    @router.post(
        PATH + "/{webhook_id}/rotate",
        responses=documented_errors(404, body=True),
        operation_id="rotate_webhook_secret",
    )
    async def rotate(
        webhook_id: WebhookId,
        principal: UnboundWriter,
        actor: Acting,
        body: RotateBody | None = None,
    ) -> WebhookSecretBody:
        """Give it another secret. For a day deliveries are signed with both."""
        given = None if body is None else body.secret
        return _with_secret(*await service.rotate(principal, webhook_id, given, actor))

    @router.post(
        PATH + "/{webhook_id}/test", responses=documented_errors(404), operation_id="test_webhook"
    )
    async def test(
        request: Request, webhook_id: WebhookId, principal: UnboundWriter
    ) -> DeliveryBody:
        """Send an event of type `webhook.test` now, and answer what came of it."""
        async with waiting_for(request):
            return _delivery(await service.test(principal, webhook_id))

    @router.get(
        PATH + "/{webhook_id}/deliveries",
        responses=documented_errors(404),
        operation_id="list_deliveries",
    )
    async def deliveries(
        webhook_id: WebhookId,
        principal: UnboundReader,
        failed: Annotated[bool | None, Query(description="Only those that failed.")] = None,
        limit: PageLimit = 50,
        cursor: PageCursor = None,
    ) -> PageBody[DeliveryBody]:
        """Attempts, newest first; the newest 500 are kept, for 7 days."""
        page = await service.deliveries(
            principal, webhook_id, failed=failed, limit=limit, cursor=cursor
        )
        return page_body(page, _delivery)

    @router.post(
        PATH + "/{webhook_id}/resend",
        status_code=202,
        responses=documented_errors(404, 409, 410, body=True),
        operation_id="resend_webhook",
    )
    async def resend(
        webhook_id: WebhookId, body: ResendBody, principal: UnboundWriter
    ) -> WebhookBody:
        """Send events again, in order and before any other."""
        if (body.event_id is None) == (body.since is None):
            raise InvalidRequest.field("event_id", "name an event_id, or since when")
        await service.resend(
            principal, webhook_id, event_id=body.event_id, since=body.since, until=body.until
        )
        return _body(await service.get(principal, webhook_id))

    return router


def _body(webhook: WebhookRecord) -> WebhookBody:
    return WebhookBody(**_fields(webhook))


def _with_secret(webhook: WebhookRecord, secret: str) -> WebhookSecretBody:
    return WebhookSecretBody(**_fields(webhook), secret=secret)


def _fields(webhook: WebhookRecord) -> dict[str, Any]:
    progress = webhook.progress
    return {
        "id": webhook.id,
        "url": webhook.url,
        "description": webhook.description,
        "events": webhook.events,
        "filters": webhook.filters,
        "format": webhook.format,
        "headers": webhook.endpoint.get("header_names", []),
        "enabled": webhook.enabled,
        "disabled_reason": webhook.disabled_reason,
        "created_at": rfc3339(webhook.created_at),
        "updated_at": rfc3339(webhook.updated_at),
        "cursor": cursor_of(progress.epoch, progress.position),
        "resending": progress.resend_until is not None,
        "failing_since": rfc3339_or_none(progress.failing_since),
        "attempts": progress.attempts,
        "next_try_at": rfc3339_or_none(progress.next_try_at),
        "lost_before": rfc3339_or_none(progress.lost_before),
    }


def _delivery(delivery: DeliveryRecord) -> DeliveryBody:
    return DeliveryBody(
        id=delivery.id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        attempt=delivery.attempt,
        status=delivery.status,
        error=delivery.error,
        answer=delivery.answer,
        duration_ms=delivery.duration_ms,
        created_at=rfc3339(delivery.created_at),
        next_try_at=rfc3339_or_none(delivery.next_try_at),
    )
